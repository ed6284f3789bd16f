"""The configuration of a run: frozen, validated, to and from JSON, with no TensorFlow behind it.

Each field carries its help text, so that the command line's options and the documentation have one source.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from tfp_smvi.errors import SMVIError

__all__ = [
    "Activation",
    "DataConfig",
    "LikelihoodName",
    "ModelConfig",
    "Precision",
    "RunConfig",
    "TrainConfig",
    "XLAMode",
]

LikelihoodName = Literal["bernoulli", "gaussian"]
Activation = Literal["softplus", "tanh", "elu", "gelu", "silu", "relu"]
Precision = Literal["float32", "bfloat16"]
XLAMode = Literal["auto", "on", "off"]


def _option(default: Any, text: str) -> Any:
    """A field with its default and its help text."""
    return field(default=default, metadata={"help": text})


class _JSON:
    """To and from a JSON object; infinities travel as the string "inf", which every JSON reader takes."""

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return {f.name: _encode(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Builds and validates a configuration from the fields of a JSON object.

        Raises:
            SMVIError: an unknown field, a value of the wrong type or out of its range.
        """
        hints = typing.get_type_hints(cls)
        names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        for name in values:
            if name not in names:
                raise SMVIError(f"unknown configuration field {name!r}; known are: {', '.join(names)}.")
        return cls(**{name: _decode(name, value, hints[name]) for name, value in values.items()})


def _encode(value: Any) -> Any:
    if isinstance(value, _JSON):
        return value.to_json()
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return list(value) if isinstance(value, tuple) else value


def _decode(name: str, value: Any, hint: Any) -> Any:
    """Turns one JSON value into what its type hint says."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):  # only "T | None" occurs
        if value is None:
            return None
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    origin = typing.get_origin(hint)
    try:
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            return typing.cast(Any, hint).from_json(value)
        if origin is Literal and value in typing.get_args(hint):
            return value
        if origin is tuple and isinstance(value, list | tuple):
            return tuple(_decode(name, item, typing.get_args(hint)[0]) for item in value)
        if hint is float and not isinstance(value, bool):
            return float(value)
        if hint in (int, str) and type(value) is hint:
            return value
    except (TypeError, ValueError):
        pass
    allowed = (
        " | ".join(map(repr, typing.get_args(hint))) if origin is Literal else getattr(hint, "__name__", hint)
    )
    raise SMVIError(f"{name} = {value!r} is not allowed; give {allowed}.")


def _require(name: str, value: Any, ok: bool, allowed: str) -> None:
    if not ok:
        raise SMVIError(f"{name} = {value!r} is not allowed; give {allowed}.")


def _require_choice(name: str, value: Any, choices: Any) -> None:
    names = typing.get_args(choices)
    _require(name, value, value in names, f"one of {', '.join(names)}")


@dataclass(frozen=True)
class DataConfig(_JSON):
    """What the model is trained on."""

    dataset: str = _option("mnist", "mnist, digits, another TFDS image set, or the path of an .npz file.")

    def __post_init__(self) -> None:
        _require(
            "dataset",
            self.dataset,
            bool(self.dataset.strip()),
            "the name of a data set or the path of an .npz",
        )


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

    def __post_init__(self) -> None:
        if self.likelihood is not None:
            _require_choice("likelihood", self.likelihood, LikelihoodName)
        _require_choice("activation", self.activation, Activation)
        _require("latent_dim", self.latent_dim, self.latent_dim >= 1, "a whole number of at least 1")
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
    lam_warmup_steps: int = _option(5000, "Steps over which lam grows linearly from 0; 0 switches it off.")
    clip_norm: float = _option(
        100.0, "Largest global norm of the gradient, which is scaled down to it; inf: never."
    )
    precision: Precision = _option("float32", "Arithmetic of the matrix products; bfloat16 is faster.")
    xla: XLAMode = _option("auto", "Compile the step with XLA; auto: on a GPU, not on a CPU.")
    seed: int = _option(0, "Seed of weights, order, binarization and noise.")

    def __post_init__(self) -> None:
        _require("lam", self.lam, not math.isnan(self.lam) and self.lam != -math.inf, "a real number or inf")
        _require("epochs", self.epochs, self.epochs >= 1, "a whole number of at least 1")
        _require("batch_size", self.batch_size, self.batch_size >= 1, "a whole number of at least 1")
        rate_ok = 0.0 < self.learning_rate < math.inf
        _require("learning_rate", self.learning_rate, rate_ok, "a number greater than 0")
        _require(
            "lam_warmup_steps", self.lam_warmup_steps, self.lam_warmup_steps >= 0, "a whole number from 0"
        )
        _require("clip_norm", self.clip_norm, self.clip_norm > 0.0, "a number greater than 0, or inf")
        _require_choice("precision", self.precision, Precision)
        _require_choice("xla", self.xla, XLAMode)
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
