"""The configuration of a run: frozen, validated, to and from JSON, with no TensorFlow behind it.

Each field carries its help text, so that the command line's options and the documentation have one source.
"""

import contextlib
import dataclasses
import ipaddress
import math
import numbers
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from tfp_smvi.errors import SMVIError

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


def _option(default: Any, text: str) -> Any:
    """A field with its default and its help text."""
    return field(default=default, metadata={"help": text})


class _JSON:
    """To and from a JSON object; infinities travel as the string "inf", which every JSON reader takes."""

    def __post_init__(self) -> None:
        """Gives every field its declared type, so that 1 and 1.0 or a list and a tuple compare as equal."""
        hints = typing.get_type_hints(type(self))
        for f in fields(self):  # type: ignore[arg-type]
            object.__setattr__(self, f.name, _decode(f.name, getattr(self, f.name), hints[f.name]))
        self._check()

    def _check(self) -> None:
        """Raises SMVIError for a value out of its range."""

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return {f.name: _encode(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Builds and validates a configuration from the fields of a JSON object.

        Raises:
            SMVIError: an unknown field, a value of the wrong type or out of its range.
        """
        names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        if not isinstance(values, Mapping):
            raise SMVIError(f"{values!r} is not allowed; give an object with: {', '.join(names)}.")
        for name in values:
            if name not in names:
                raise SMVIError(f"unknown configuration field {name!r}; known are: {', '.join(names)}.")
        return cls(**values)


def _encode(value: Any) -> Any:
    if isinstance(value, _JSON):
        return value.to_json()
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return [_encode(item) for item in value] if isinstance(value, tuple) else value


_KINDS: dict[Any, str] = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    tuple: "a list of numbers",
}


def _decode(name: str, value: Any, hint: Any) -> Any:
    """Turns one value, from JSON or from a caller, into what its type hint says."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):  # only "T | None" occurs
        if value is None:
            return None
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    origin, ok = typing.get_origin(hint), False
    if dataclasses.is_dataclass(hint):
        value = typing.cast(Any, hint).from_json(value) if isinstance(value, Mapping) else value
        ok = isinstance(value, typing.cast(Any, hint))
    elif origin is Literal:
        ok = value in typing.get_args(hint)
    elif origin is tuple and isinstance(value, list | tuple):
        value, ok = tuple(_decode(name, item, typing.get_args(hint)[0]) for item in value), True
    elif hint is float and not isinstance(value, bool):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            value, ok = float(value), True
    elif hint is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        value, ok = int(value), True
    elif hint is str:
        ok = isinstance(value, str)
    elif hint is bool:
        ok = isinstance(value, bool)
    if ok:
        return value
    kind = _KINDS.get(origin or hint, "an object of settings")
    allowed = f"one of {', '.join(typing.get_args(hint))}" if origin is Literal else kind
    raise SMVIError(f"{name} = {value!r} is not allowed; give {allowed}.")


def _require(name: str, value: Any, ok: bool, allowed: str) -> None:
    if not ok:
        raise SMVIError(f"{name} = {value!r} is not allowed; give {allowed}.")


def _require_whole(name: str, value: int, least: int) -> None:
    # TensorFlow counts some of them in 32 bits.
    _require(name, value, least <= value < 2**31, f"a whole number from {least} to {2**31 - 1}")


@dataclass(frozen=True)
class DataConfig(_JSON):
    """What the model is trained on."""

    dataset: str = _option("mnist", "mnist, digits, another TFDS image set, or the path of an .npz file.")

    def _check(self) -> None:
        given = bool(self.dataset.strip())
        _require("dataset", self.dataset, given, "the name of a data set or the path of an .npz file")


@dataclass(frozen=True)
class ModelConfig(_JSON):
    """The architecture: prior N(0, I), fully connected encoder and decoder [Levy & Ermon, section 5]."""

    likelihood: LikelihoodName | None = _option(
        None, "p(x|z): bernoulli (on binarized intensities) or gaussian; follows the data unless given."
    )
    latent_dim: int = _option(50, "Number of latent dimensions.")
    hidden_sizes: tuple[int, ...] = _option(
        (1024, 1024), "Units of the encoder's hidden layers; the decoder mirrors."
    )
    activation: Activation = _option("softplus", "Activation of the hidden layers.")

    def _check(self) -> None:
        _require_whole("latent_dim", self.latent_dim, least=1)
        ok = len(self.hidden_sizes) >= 1 and all(size >= 1 for size in self.hidden_sizes)
        _require("hidden_sizes", self.hidden_sizes, ok, "one or more whole numbers of at least 1")


@dataclass(frozen=True)
class TrainConfig(_JSON):
    """The objective ELBO - lam * D_SM and its optimization."""

    lam: float = _option(0.0, "Weight of the score-matching divergence, any real number; inf keeps it alone.")
    epochs: int = _option(
        300, "Passes over the training set; a finished run can be continued with a larger number."
    )
    batch_size: int = _option(128, "Examples per step (the paper gives none).")
    learning_rate: float = _option(1e-3, "Adam's learning rate.")
    lam_warmup_steps: int = _option(5000, "Steps over which lam grows from 0; 0 switches it off.")
    lam_warmup_power: float = _option(2.0, "How lam grows: in proportion to step^power.")
    clip_norm: float = _option(
        1000.0, "Largest global norm of the gradient, which is scaled down to it; inf: never."
    )
    averaging_steps: int = _option(
        2000, "Steps over which the weights are averaged for testing and use; 0: the last weights."
    )
    precision: Precision = _option("float32", "Arithmetic of the matrix products; bfloat16 is faster.")
    xla: XLAMode = _option("auto", "Compile the step with XLA; auto: on a GPU, not on a CPU.")
    seed: int = _option(0, "Seed of weights, order, binarization and noise.")

    def _check(self) -> None:
        _require("lam", self.lam, not math.isnan(self.lam) and self.lam != -math.inf, "a real number or inf")
        _require_whole("epochs", self.epochs, least=1)
        _require_whole("batch_size", self.batch_size, least=1)
        rate_ok = 0.0 < self.learning_rate < math.inf
        _require("learning_rate", self.learning_rate, rate_ok, "a number greater than 0")
        _require_whole("lam_warmup_steps", self.lam_warmup_steps, least=0)
        power_ok = 0.0 < self.lam_warmup_power < math.inf
        _require("lam_warmup_power", self.lam_warmup_power, power_ok, "a number greater than 0")
        _require_whole("averaging_steps", self.averaging_steps, least=0)
        _require("clip_norm", self.clip_norm, self.clip_norm > 0.0, "a number greater than 0, or inf")
        _require("seed", self.seed, -(2**63) <= self.seed < 2**63, "a whole number of at most 63 bits")


@dataclass(frozen=True)
class RunConfig(_JSON):
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
                    lines.append(f"{section.name}.{f.name}: {_encode(old)} here, {_encode(new)} given")
        return lines


@dataclass(frozen=True)
class AISConfig(_JSON):
    """The annealed chains and the pilot run that tunes their step sizes."""

    num_chains: int = _option(16, "Annealed chains per example.")
    num_temperatures: int = _option(48, "Temperatures between the initial distribution and the posterior.")
    num_leapfrog_steps: int = _option(5, "Leapfrog steps at each temperature.")
    initial: InitialName = _option(
        "posterior", "Where chains start: the encoder's q(z|x), or the prior p(z)."
    )
    schedule: ScheduleName = _option("sigmoid", "How temperatures are spaced between 0 and 1.")
    num_segments: int = _option(
        8, "Linear pieces of the path, each with its own step size; at most one per temperature."
    )
    num_pilot_chains: int = _option(4, "Chains per example of the pilot run.")
    num_pilot_temperatures: int = _option(32, "Temperatures of the pilot run.")
    target_acceptance_rate: float = _option(0.65, "The acceptance rate that the pilot tunes step sizes to.")

    def _check(self) -> None:
        for name in (
            "num_chains",
            "num_temperatures",
            "num_leapfrog_steps",
            "num_segments",
            "num_pilot_chains",
        ):
            _require_whole(name, getattr(self, name), least=1)
        _require_whole("num_pilot_temperatures", self.num_pilot_temperatures, least=self.segments)
        rate_ok = 0.0 < self.target_acceptance_rate < 1.0
        _require("target_acceptance_rate", self.target_acceptance_rate, rate_ok, "a number between 0 and 1")

    @property
    def segments(self) -> int:
        """The linear pieces of this path: a short one has fewer than `num_segments`."""
        return min(self.num_segments, self.num_temperatures)


@dataclass(frozen=True)
class EvaluateConfig(_JSON):
    """What `evaluate` estimates, on which examples and how well."""

    ais: AISConfig = AISConfig()
    split: SplitName = _option("test", "The data to evaluate on.")
    num_examples: int | None = _option(
        1000, "Examples of each split, from its beginning; all: the whole split."
    )
    num_elbo_samples: int = _option(512, "Draws from q(z|x) per example for the ELBO.")
    num_divergence_samples: int = _option(128, "Draws from q(z|x) per example for the divergence D_SM.")
    num_importance_samples: int = _option(1000, "Draws from q(z|x) per example for the IWAE bound.")
    num_simulated: int = _option(100, "Images simulated from the model for the bracket.")
    seed: int = _option(0, "Seed of all draws.")

    def _check(self) -> None:
        if self.num_examples is not None:
            _require_whole("num_examples", self.num_examples, least=1)
        for name in ("num_elbo_samples", "num_divergence_samples"):
            _require_whole(name, getattr(self, name), least=2)
        for name in ("num_importance_samples", "num_simulated"):
            _require_whole(name, getattr(self, name), least=1)
        _require("seed", self.seed, -(2**63) <= self.seed < 2**63, "a whole number of at most 63 bits")

    @property
    def splits(self) -> tuple[Literal["test", "train"], ...]:
        """The splits to evaluate, in the order of the report."""
        return ("train", "test") if self.split == "both" else (self.split,)


@dataclass(frozen=True)
class FeaturesConfig(_JSON):
    """How `features` asks a model; the features do not depend on it, beyond rounding."""

    batch_size: int = _option(512, "Images that the model is asked for at a time.")
    in_flight: int = _option(4, "Requests to a server that are under way at a time.")
    timeout: float = _option(30.0, "Seconds that a server may take to answer a request.")
    retries: int = _option(8, "How often a request is made again to a server that is away, busy or too slow.")
    on_error: OnError = _option("fail", "At an image that cannot be read: stop, or leave it out and list it.")

    def _check(self) -> None:
        _require_whole("batch_size", self.batch_size, least=1)
        _require_whole("in_flight", self.in_flight, least=1)
        _require_whole("retries", self.retries, least=0)
        timeout_ok = 0.0 < self.timeout < math.inf
        _require("timeout", self.timeout, timeout_ok, "a number of seconds greater than 0")


@dataclass(frozen=True)
class ClassifyConfig(_JSON):
    """How few labels a classifier on the encoder's means sees, and what kind of one it is."""

    labels: tuple[int, ...] = _option(
        (600, 1000, 3000), "Numbers of labelled examples, each a multiple of the number of classes."
    )
    kernel: KernelName = _option("both", "The support vector machine's kernel.")
    input: InputName = _option("intensities", "What the encoder sees: intensities, or bits drawn from them.")
    repeats: int = _option(10, "Labelled subsets of each size.")
    num_folds: int = _option(5, "Folds of the cross-validation inside a labelled subset.")
    seed: int = _option(0, "Seed of the labelled subsets.")

    def _check(self) -> None:
        ok = len(self.labels) >= 1 and all(2 <= size < 2**31 for size in self.labels)
        ok = ok and len({*self.labels}) == len(self.labels)
        _require("labels", self.labels, ok, "one or more different whole numbers of at least 2")
        _require_whole("repeats", self.repeats, least=1)
        _require_whole("num_folds", self.num_folds, least=2)
        _require("seed", self.seed, -(2**63) <= self.seed < 2**63, "a whole number of at most 63 bits")

    @property
    def kernels(self) -> tuple[Literal["rbf", "linear"], ...]:
        """The kernels, in the order of the report."""
        return ("rbf", "linear") if self.kernel == "both" else (self.kernel,)


@dataclass(frozen=True)
class SweepConfig(_JSON):
    """A grid of runs over lam and seed, which are otherwise trained, evaluated and classified alike.

    The lam and the seed of `train` mean nothing: the grid gives them.
    """

    train: RunConfig = RunConfig()
    evaluate: EvaluateConfig = EvaluateConfig(split="both")
    classify: ClassifyConfig | None = ClassifyConfig()
    classify_every: int | None = _option(
        None, "Classify not only at the end but also after every N-th epoch, whose checkpoints are kept."
    )
    lams: tuple[float, ...] = _option(
        (0.0, 0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 10.0), "Weights of the score-matching divergence."
    )
    seeds: tuple[int, ...] = _option((0,), "Seeds of the training; each is run at each lam.")

    def _check(self) -> None:
        object.__setattr__(self, "lams", tuple(lam + 0.0 for lam in self.lams))  # -0 is 0
        for name, values in (("lams", self.lams), ("seeds", self.seeds)):
            ok = len(values) >= 1 and len({*values}) == len(values)
            _require(name, values, ok, "one or more different numbers")
        for lam in self.lams:
            self.run(lam, self.seeds[0])
        for seed in self.seeds:
            self.run(self.lams[0], seed)
        if self.classify_every is not None:
            _require_whole("classify_every", self.classify_every, least=1)

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
        known = ("format", "command", "config", "lams", "seeds", "environment", "runs")
        for name in values:
            if name not in known:
                raise SMVIError(f"unknown field {name!r}; known are: {', '.join(known)}.")
        grid = {name: values[name] for name in ("lams", "seeds") if name in values}
        return cls.from_json({**values.get("config", {}), **grid})


@dataclass(frozen=True)
class ServeConfig(_JSON):
    """Which models a TF Serving server holds, and where it listens."""

    models: str = _option("saved_models", "The folder of the exported models.")
    model_name: str | None = _option(None, "The model; all that are in the folder unless given.")
    num_versions: int = _option(2, "Versions of a model to serve, the newest; a request may name one.")
    labels: tuple[str, ...] = _option((), "A name for a version, as NAME=VERSION; may be repeated.")
    host: str | None = _option(
        None, "The address to listen on; 127.0.0.1 where the server can be held to it."
    )
    grpc_port: int = _option(8500, "Port of gRPC.")
    rest_port: int = _option(8501, "Port of REST and of the metrics for Prometheus.")
    docker: bool = _option(False, "Use Docker even where tensorflow_model_server is on the PATH.")
    wait: float = _option(120.0, "Seconds that the models may take to become available.")

    def _check(self) -> None:
        _require_whole("num_versions", self.num_versions, least=1)
        for name in ("grpc_port", "rest_port"):
            _require(name, getattr(self, name), 1 <= getattr(self, name) <= 65535, "a port from 1 to 65535")
        _require("rest_port", self.rest_port, self.rest_port != self.grpc_port, "another port than grpc_port")
        _require("wait", self.wait, 0.0 < self.wait < math.inf, "a number of seconds greater than 0")
        _require(
            "host", self.host, self.host is None or _is_ipv4(self.host), "an IPv4 address such as 0.0.0.0"
        )
        for label in self.labels:
            ok = re.fullmatch(r"[A-Za-z0-9_.-]+=[1-9][0-9]*", label) is not None
            _require("labels", label, ok, "NAME=VERSION, such as stable=1")


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
