"""What a training run depends on: data, model, and the objective and its optimization."""

import dataclasses
import math
from dataclasses import dataclass, field, fields
from typing import Literal

from tfp_smvi.config.base import Settings, encode, option, require, require_seed, require_whole
from tfp_smvi.config.data import DataConfig
from tfp_smvi.config.model import ModelConfig
from tfp_smvi.core.divergences import DivergenceName, check_lam_of
from tfp_smvi.core.early_stopping import StoppingMetric
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.paths import absolute

__all__ = [
    "CONSTRAINTS",
    "LENGTH",
    "DivergenceName",
    "NetworkName",
    "Precision",
    "RateSchedule",
    "RunConfig",
    "TrainConfig",
    "XLAMode",
]

NetworkName = Literal["encoder", "decoder"]
Precision = Literal["float32", "tf32", "bfloat16"]
RateSchedule = Literal["constant", "cosine", "step"]
XLAMode = Literal["auto", "on", "off"]

# The fields of `TrainConfig` that decide when a training ends, and nothing else.
LENGTH = ("epochs", "early_stopping", "patience", "min_delta")
# The fields of `TrainConfig` that may stand in place of lam.
CONSTRAINTS = ("target_gap", "max_divergence", "min_elbo")


@dataclass(frozen=True)
class TrainConfig(Settings):
    """The objective ELBO - lam * D and its optimization."""

    lam: float = option(0.0, "Weight of the divergence; inf trains on the divergence alone.")
    divergence: DivergenceName = option(
        "fisher",
        "fisher is the score-matching divergence D_SM; weighted is D_w, in units of q(z|x)'s "
        "covariance.",
        later=True,
    )
    epochs: int = option(
        300,
        "Passes over the training set; a run may be continued to any number not yet passed.",
    )
    batch_size: int = option(128, "Examples per step; the paper does not give it.")
    learning_rate: float = option(1e-3, "Adam's learning rate, at the first step.")
    learning_rate_schedule: RateSchedule = option(
        "constant",
        "How the learning rate falls: not at all, as a cosine over the planned epochs, or in the "
        "steps of Burda et al.",
        later=True,
    )
    planned_epochs: int | None = option(
        None,
        "Epochs that the warm-up of lam and the learning rate are planned for.  [default: "
        "the epochs that the run is started with]",
        later=True,
    )
    weight_decay: float = option(
        0.0,
        "Shrink the weight matrices by this share of the learning rate at each step, as AdamW.",
        later=True,
    )
    lam_warmup_steps: int | None = option(
        None,
        "Steps over which lam grows from 0; 0: no warm-up.  [default: two thirds of the "
        "planned steps, with a target a quarter, at most 5000]",
    )
    lam_warmup_power: float = option(
        2.0, "Power of the warm-up: lam grows in proportion to step^power."
    )
    clip_norm: float = option(1000.0, "Clip the gradient to this global norm; inf: no clipping.")
    averaging_steps: int = option(
        2000, "Steps over which the final weights are averaged; 0: no averaging."
    )
    precision: Precision = option(
        "float32",
        "Arithmetic of the matrix products; bfloat16 is faster, and so is tf32 on a GPU that has "
        "it.",
    )
    xla: XLAMode = option("auto", "Compile the step with XLA; auto: on a GPU, not on a CPU.")
    seed: int = option(0, "Seed of weights, order, binarization and noise.")
    init_from: str | None = option(
        None,
        "Start from the weights of this run directory; everything else starts again.",
        later=True,
    )
    freeze: NetworkName | None = option(
        None,
        "Take only this network from --init-from and keep its weights; the other one is new.",
        later=True,
    )
    target_gap: float | None = option(
        None,
        "In place of --lam: let lam follow until the gap log p(x) - ELBO is this, in nats.",
        later=True,
    )
    max_divergence: float | None = option(
        None, "In place of --lam: let lam follow until the divergence is this.", later=True
    )
    min_elbo: float | None = option(
        None,
        "In place of --lam: as large a lam as an ELBO of at least this allows, in nats.",
        later=True,
    )
    early_stopping: StoppingMetric | None = option(
        None,
        "End the training when this metric, such as test.elbo or test.objective, no longer "
        "improves once the warm-up of lam is over.",
        later=True,
    )
    patience: int = option(
        10,
        "Epochs without an improvement after which early stopping ends the training.",
        later=True,
    )
    min_delta: float = option(
        0.0, "What early stopping takes for an improvement: more than this.", later=True
    )

    def _check(self) -> None:
        self._check_constraint()
        self._check_early_stopping()
        require(
            "lam",
            self.lam,
            not math.isnan(self.lam) and self.lam != -math.inf,
            "a real number or inf",
        )
        check_lam_of(self.divergence, self.lam)
        require_whole("epochs", self.epochs, least=1)
        require_whole("batch_size", self.batch_size, least=1)
        rate_ok = 0.0 < self.learning_rate < math.inf
        require("learning_rate", self.learning_rate, rate_ok, "a number greater than 0")
        if self.planned_epochs is not None:
            require_whole("planned_epochs", self.planned_epochs, least=1)
        decay_ok = 0.0 <= self.weight_decay < math.inf
        require("weight_decay", self.weight_decay, decay_ok, "a number of at least 0")
        if self.lam_warmup_steps is not None:
            require_whole("lam_warmup_steps", self.lam_warmup_steps, least=0)
        power_ok = 0.0 < self.lam_warmup_power < math.inf
        require("lam_warmup_power", self.lam_warmup_power, power_ok, "a number greater than 0")
        require_whole("averaging_steps", self.averaging_steps, least=0)
        require(
            "clip_norm", self.clip_norm, self.clip_norm > 0.0, "a number greater than 0, or inf"
        )
        require_seed(self.seed)
        if self.init_from is not None:
            object.__setattr__(self, "init_from", str(absolute(self.init_from, "init_from")))
        given = self.freeze is None or self.init_from is not None
        require("freeze", self.freeze, given, "{init_from} too, a run that has this network")

    @property
    def needs_plan(self) -> bool:
        """Whether something depends on the number of planned epochs."""
        return self.lam_warmup_steps is None or self.learning_rate_schedule == "cosine"

    def completed_by(self, other: "TrainConfig") -> "TrainConfig":
        """Returns these settings, with those of another for what is left to the plan of a run."""
        steps, epochs = self.lam_warmup_steps, self.planned_epochs
        return dataclasses.replace(
            self,
            lam_warmup_steps=other.lam_warmup_steps if steps is None else steps,
            planned_epochs=other.planned_epochs if epochs is None else epochs,
        )

    def _check_early_stopping(self) -> None:
        """Raises an SMVIError for a metric that this training does not have, or odd numbers."""
        require_whole("patience", self.patience, least=1)
        delta_ok = 0.0 <= self.min_delta < math.inf
        require("min_delta", self.min_delta, delta_ok, "a number of at least 0")
        for name in ("patience", "min_delta"):
            value = getattr(self, name)
            given = self.early_stopping or value == type(self).__dataclass_fields__[name].default
            require(name, value, bool(given), "{early_stopping} too, the metric to watch")

    def require_stopping_metric(self) -> None:
        """Raises an SMVIError if this training does not have the metric of its early stopping."""
        metric, follows = self.early_stopping, self.constraint is not None
        allowed = "{target_gap}, {max_divergence} or {min_elbo} too, which lam follows"
        require("early_stopping", metric, metric != "constraint.error" or follows, allowed)
        is_known = metric != "train.divergence" or follows or self.lam != 0.0
        require("early_stopping", metric, is_known, "test.divergence, known at lam = 0 too")

    def _check_constraint(self) -> None:
        """Raises an SMVIError unless at most one of lam and its substitutes is given."""
        given = [name for name in CONSTRAINTS if getattr(self, name) is not None]
        for name in given:
            value = getattr(self, name)
            ok = math.isfinite(value) and (value > 0.0 or name == "min_elbo")
            require(name, value, ok, f"a number{' above 0' if name != 'min_elbo' else ''}")
        if self.lam != 0.0:
            given.append("lam")
        if len(given) > 1:
            names = " and ".join(f"{{{name}}}" for name in given[1:])
            raise SMVIError(
                "decides on lam alone",
                field=given[0],
                value=getattr(self, given[0]),
                remedy=f"leave it or {names} out",
            )

    @property
    def constraint(self) -> str | None:
        """The field that lam follows; None if it is fixed."""
        return next((name for name in CONSTRAINTS if getattr(self, name) is not None), None)


@dataclass(frozen=True)
class RunConfig(Settings):
    """All settings that a run depends on."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = TrainConfig()

    def with_length_of(self, other: "RunConfig") -> "RunConfig":
        """The same run with the end of another one: its epochs and its early stopping."""
        length = {name: getattr(other.train, name) for name in LENGTH}
        return dataclasses.replace(self, train=dataclasses.replace(self.train, **length))

    def differences(
        self, other: "RunConfig", places: tuple[str, str] = ("here", "given")
    ) -> list[str]:
        """Returns one line per field that differs, such as "train.lam: 0.5 here, 1.0 given".

        Args:
            other: the other settings.
            places: where these settings and the others are, as the lines say it.
        """
        lines = []
        for section in fields(self):
            here, given = getattr(self, section.name), getattr(other, section.name)
            for f in fields(here):
                old, new = getattr(here, f.name), getattr(given, f.name)
                if old != new:
                    name, (place, other_place) = f"{section.name}.{f.name}", places
                    lines.append(f"{name}: {encode(old)} {place}, {encode(new)} {other_place}")
        return lines
