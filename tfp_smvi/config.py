"""The configuration of a run: frozen, validated, to and from JSON, with no TensorFlow behind it.

Each field carries its help text, so that the command line's options and the documentation have one source.
"""

import dataclasses
import ipaddress
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from tfp_smvi.errors import SMVIError
from tfp_smvi.settings import Settings, encode, option, require, require_whole

__all__ = [
    "AISConfig",
    "Activation",
    "ClassifyConfig",
    "DataConfig",
    "EvaluateConfig",
    "FeaturesConfig",
    "InitialName",
    "InputName",
    "KernelName",
    "LikelihoodName",
    "ModelConfig",
    "OnError",
    "PartName",
    "Precision",
    "RunConfig",
    "ScheduleName",
    "ServeConfig",
    "SplitName",
    "SweepConfig",
    "TrainConfig",
    "XLAMode",
]

LikelihoodName = Literal["bernoulli", "gaussian"]
Activation = Literal["softplus", "tanh", "elu", "gelu", "silu", "relu"]
Precision = Literal["float32", "bfloat16"]
XLAMode = Literal["auto", "on", "off"]
InitialName = Literal["posterior", "prior"]
ScheduleName = Literal["sigmoid", "linear"]
SplitName = Literal["test", "train", "both"]
PartName = Literal["encoder", "decoder", "both"]
KernelName = Literal["rbf", "linear", "both"]
InputName = Literal["intensities", "binarized"]
OnError = Literal["fail", "skip"]


@dataclass(frozen=True)
class DataConfig(Settings):
    """What the model is trained on."""

    dataset: str = option("mnist", "mnist, digits, another TFDS image set, or the path of an .npz file.")

    def _check(self) -> None:
        given = bool(self.dataset.strip())
        require("dataset", self.dataset, given, "the name of a data set or the path of an .npz file")


@dataclass(frozen=True)
class ModelConfig(Settings):
    """The architecture: prior N(0, I), fully connected encoder and decoder [Levy & Ermon, section 5]."""

    likelihood: LikelihoodName | None = option(
        None, "p(x|z): bernoulli (on binarized intensities) or gaussian; follows the data unless given."
    )
    latent_dim: int = option(50, "Number of latent dimensions.")
    hidden_sizes: tuple[int, ...] = option(
        (1024, 1024), "Units of the encoder's hidden layers; the decoder mirrors."
    )
    activation: Activation = option("softplus", "Activation of the hidden layers.")

    def _check(self) -> None:
        require_whole("latent_dim", self.latent_dim, least=1)
        ok = len(self.hidden_sizes) >= 1 and all(size >= 1 for size in self.hidden_sizes)
        require("hidden_sizes", self.hidden_sizes, ok, "one or more whole numbers of at least 1")


@dataclass(frozen=True)
class TrainConfig(Settings):
    """The objective ELBO - lam * D_SM and its optimization."""

    lam: float = option(0.0, "Weight of the score-matching divergence, any real number; inf keeps it alone.")
    epochs: int = option(
        300, "Passes over the training set; a finished run can be continued with a larger number."
    )
    batch_size: int = option(128, "Examples per step (the paper gives none).")
    learning_rate: float = option(1e-3, "Adam's learning rate.")
    lam_warmup_steps: int = option(5000, "Steps over which lam grows from 0; 0 switches it off.")
    lam_warmup_power: float = option(2.0, "How lam grows: in proportion to step^power.")
    clip_norm: float = option(
        1000.0, "Largest global norm of the gradient, which is scaled down to it; inf: never."
    )
    averaging_steps: int = option(
        2000, "Steps over which the weights are averaged for testing and use; 0: the last weights."
    )
    precision: Precision = option("float32", "Arithmetic of the matrix products; bfloat16 is faster.")
    xla: XLAMode = option("auto", "Compile the step with XLA; auto: on a GPU, not on a CPU.")
    seed: int = option(0, "Seed of weights, order, binarization and noise.")

    def _check(self) -> None:
        require("lam", self.lam, not math.isnan(self.lam) and self.lam != -math.inf, "a real number or inf")
        require_whole("epochs", self.epochs, least=1)
        require_whole("batch_size", self.batch_size, least=1)
        rate_ok = 0.0 < self.learning_rate < math.inf
        require("learning_rate", self.learning_rate, rate_ok, "a number greater than 0")
        require_whole("lam_warmup_steps", self.lam_warmup_steps, least=0)
        power_ok = 0.0 < self.lam_warmup_power < math.inf
        require("lam_warmup_power", self.lam_warmup_power, power_ok, "a number greater than 0")
        require_whole("averaging_steps", self.averaging_steps, least=0)
        require("clip_norm", self.clip_norm, self.clip_norm > 0.0, "a number greater than 0, or inf")
        require("seed", self.seed, -(2**63) <= self.seed < 2**63, "a whole number of at most 63 bits")


@dataclass(frozen=True)
class RunConfig(Settings):
    """Everything that makes a run what it is."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()

    def differences(self, other: "RunConfig") -> list[str]:
        """Returns one line per field that differs, such as "train.lam: 0.5 here, 1.0 given"."""
        lines = []
        for section in fields(self):
            mine, theirs = getattr(self, section.name), getattr(other, section.name)
            for f in fields(mine):
                old, new = getattr(mine, f.name), getattr(theirs, f.name)
                if old != new:
                    lines.append(f"{section.name}.{f.name}: {encode(old)} here, {encode(new)} given")
        return lines


@dataclass(frozen=True)
class AISConfig(Settings):
    """The annealed chains and the pilot run that tunes their step sizes."""

    num_chains: int = option(16, "Annealed chains per example.")
    num_temperatures: int = option(48, "Temperatures between the initial distribution and the posterior.")
    num_leapfrog_steps: int = option(5, "Leapfrog steps at each temperature.")
    initial: InitialName = option("posterior", "Where chains start: the encoder's q(z|x), or the prior p(z).")
    schedule: ScheduleName = option("sigmoid", "How temperatures are spaced between 0 and 1.")
    num_segments: int = option(
        8, "Linear pieces of the path, each with its own step size; at most one per temperature."
    )
    num_pilot_chains: int = option(4, "Chains per example of the pilot run.")
    num_pilot_temperatures: int = option(32, "Temperatures of the pilot run.")
    target_acceptance_rate: float = option(0.65, "The acceptance rate that the pilot tunes step sizes to.")

    def _check(self) -> None:
        for name in (
            "num_chains",
            "num_temperatures",
            "num_leapfrog_steps",
            "num_segments",
            "num_pilot_chains",
        ):
            require_whole(name, getattr(self, name), least=1)
        require_whole("num_pilot_temperatures", self.num_pilot_temperatures, least=self.segments)
        rate_ok = 0.0 < self.target_acceptance_rate < 1.0
        require("target_acceptance_rate", self.target_acceptance_rate, rate_ok, "a number between 0 and 1")

    @property
    def segments(self) -> int:
        """The linear pieces of this path: a short one has fewer than `num_segments`."""
        return min(self.num_segments, self.num_temperatures)


@dataclass(frozen=True)
class EvaluateConfig(Settings):
    """What `evaluate` estimates, on which examples and how well."""

    ais: AISConfig = AISConfig()
    split: SplitName = option("test", "The data to evaluate on.")
    num_examples: int | None = option(
        1000, "Examples of each split, from its beginning; all: the whole split."
    )
    num_elbo_samples: int = option(512, "Draws from q(z|x) per example for the ELBO.")
    num_divergence_samples: int = option(128, "Draws from q(z|x) per example for the divergence D_SM.")
    num_importance_samples: int = option(1000, "Draws from q(z|x) per example for the IWAE bound.")
    num_simulated: int = option(100, "Images simulated from the model for the bracket.")
    seed: int = option(0, "Seed of all draws.")

    def _check(self) -> None:
        if self.num_examples is not None:
            require_whole("num_examples", self.num_examples, least=1)
        for name in ("num_elbo_samples", "num_divergence_samples"):
            require_whole(name, getattr(self, name), least=2)
        for name in ("num_importance_samples", "num_simulated"):
            require_whole(name, getattr(self, name), least=1)
        require("seed", self.seed, -(2**63) <= self.seed < 2**63, "a whole number of at most 63 bits")

    @property
    def splits(self) -> tuple[Literal["test", "train"], ...]:
        """The splits to evaluate, in the order of the report."""
        return ("train", "test") if self.split == "both" else (self.split,)


@dataclass(frozen=True)
class FeaturesConfig(Settings):
    """How `features` asks a model; the features do not depend on it, beyond rounding."""

    batch_size: int = option(512, "Images that the model is asked for at a time.")
    in_flight: int = option(4, "Requests to a server that are under way at a time.")
    timeout: float = option(30.0, "Seconds that a server may take to answer a request.")
    retries: int = option(8, "How often a request is made again to a server that is away, busy or too slow.")
    on_error: OnError = option("fail", "At an image that cannot be read: stop, or leave it out and list it.")

    def _check(self) -> None:
        require_whole("batch_size", self.batch_size, least=1)
        require_whole("in_flight", self.in_flight, least=1)
        require_whole("retries", self.retries, least=0)
        timeout_ok = 0.0 < self.timeout < math.inf
        require("timeout", self.timeout, timeout_ok, "a number of seconds greater than 0")


@dataclass(frozen=True)
class ClassifyConfig(Settings):
    """How few labels a classifier on the encoder's means sees, and what kind of one it is."""

    labels: tuple[int, ...] = option(
        (600, 1000, 3000), "Numbers of labelled examples, each a multiple of the number of classes."
    )
    kernel: KernelName = option("both", "The support vector machine's kernel.")
    input: InputName = option("intensities", "What the encoder sees: intensities, or bits drawn from them.")
    repeats: int = option(10, "Labelled subsets of each size.")
    num_folds: int = option(5, "Folds of the cross-validation inside a labelled subset.")
    seed: int = option(0, "Seed of the labelled subsets.")

    def _check(self) -> None:
        ok = len(self.labels) >= 1 and all(2 <= size < 2**31 for size in self.labels)
        ok = ok and len({*self.labels}) == len(self.labels)
        require("labels", self.labels, ok, "one or more different whole numbers of at least 2")
        require_whole("repeats", self.repeats, least=1)
        require_whole("num_folds", self.num_folds, least=2)
        require("seed", self.seed, -(2**63) <= self.seed < 2**63, "a whole number of at most 63 bits")

    @property
    def kernels(self) -> tuple[Literal["rbf", "linear"], ...]:
        """The kernels, in the order of the report."""
        return ("rbf", "linear") if self.kernel == "both" else (self.kernel,)


@dataclass(frozen=True)
class SweepConfig(Settings):
    """A grid of runs over lam and seed, which are otherwise trained, evaluated and classified alike.

    The lam and the seed of `train` mean nothing: the grid gives them.
    """

    train: RunConfig = RunConfig()
    evaluate: EvaluateConfig = EvaluateConfig(split="both")
    classify: ClassifyConfig | None = ClassifyConfig()
    classify_every: int | None = option(
        None, "Classify not only at the end but also after every N-th epoch, whose checkpoints are kept."
    )
    lams: tuple[float, ...] = option(
        (0.0, 0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 10.0), "Weights of the score-matching divergence."
    )
    seeds: tuple[int, ...] = option((0,), "Seeds of the training; each is run at each lam.")

    def _check(self) -> None:
        object.__setattr__(self, "lams", tuple(lam + 0.0 for lam in self.lams))  # -0 is 0
        for name, values in (("lams", self.lams), ("seeds", self.seeds)):
            ok = len(values) >= 1 and len({*values}) == len(values)
            require(name, values, ok, "one or more different numbers")
        for lam in self.lams:
            self.run(lam, self.seeds[0])
        for seed in self.seeds:
            self.run(self.lams[0], seed)
        if self.classify_every is not None:
            require_whole("classify_every", self.classify_every, least=1)

    def run(self, lam: float, seed: int) -> RunConfig:
        """The configuration of one run."""
        train = dataclasses.replace(self.train.train, lam=lam, seed=seed)
        return dataclasses.replace(self.train, train=train)

    @property
    def epochs_to_classify(self) -> tuple[int, ...]:
        """The epochs before the last that are classified."""
        every = self.classify_every
        if every is None or self.classify is None:
            return ()
        return tuple(range(every, self.train.train.epochs, every))

    @property
    def stages(self) -> tuple[str, ...]:
        """What is done with each run, in this order."""
        return ("train", "evaluate", *(("classify",) if self.classify else ()))

    def settings(self) -> dict[str, Any]:
        """Returns what all runs share, as JSON values: the "config" of a sweep.json."""
        settings = self.to_json()
        del settings["lams"], settings["seeds"]
        del settings["train"]["train"]["lam"], settings["train"]["train"]["seed"]
        return settings

    @classmethod
    def from_summary(cls, values: Mapping[str, Any]) -> Self:
        """Builds the configuration of a sweep.json, or of a file with parts of one.

        Raises:
            SMVIError: a value is not allowed, or something in "config" is unknown.
        """
        known = ("format", "command", "earlier_commands", "config", "lams", "seeds", "environment", "runs")
        for name in values:
            if name not in known:
                raise SMVIError(f"unknown field {name!r}; known are: {', '.join(known)}.")
        grid = {name: values[name] for name in ("lams", "seeds") if name in values}
        return cls.from_json({**values.get("config", {}), **grid})


@dataclass(frozen=True)
class ServeConfig(Settings):
    """Which models a TF Serving server holds, and where it listens."""

    models: str = option("saved_models", "The folder of the exported models.")
    model_name: str | None = option(None, "The model; all that are in the folder unless given.")
    num_versions: int = option(2, "Versions of a model to serve, the newest; a request may name one.")
    labels: tuple[str, ...] = option((), "A name for a version, as NAME=VERSION; may be repeated.")
    host: str | None = option(None, "The address to listen on; 127.0.0.1 where the server can be held to it.")
    grpc_port: int = option(8500, "Port of gRPC.")
    rest_port: int = option(8501, "Port of REST and of the metrics for Prometheus.")
    docker: bool = option(False, "Use Docker even where tensorflow_model_server is on the PATH.")
    wait: float = option(120.0, "Seconds that the models may take to become available.")

    def _check(self) -> None:
        require_whole("num_versions", self.num_versions, least=1)
        for name in ("grpc_port", "rest_port"):
            require(name, getattr(self, name), 1 <= getattr(self, name) <= 65535, "a port from 1 to 65535")
        require("rest_port", self.rest_port, self.rest_port != self.grpc_port, "another port than grpc_port")
        require("wait", self.wait, 0.0 < self.wait < math.inf, "a number of seconds greater than 0")
        require(
            "host", self.host, self.host is None or _is_ipv4(self.host), "an IPv4 address such as 0.0.0.0"
        )
        for label in self.labels:
            ok = re.fullmatch(r"[A-Za-z0-9_.-]+=[1-9][0-9]*", label) is not None
            require("labels", label, ok, "NAME=VERSION, such as stable=1")


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
