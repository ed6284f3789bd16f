"""What lam is: the weight of the divergence in the objective, at each step of a training.

The training step and the test metrics ask for the weight in tensors, the log and the messages for
how far it has grown.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["FixedWeight", "Weight"]


class Weight(Protocol):
    """lam * scale(step), the weight of the divergence at a step."""

    @property
    def lam(self) -> float:
        """The full weight: any real number, or inf for the divergence alone."""

    @property
    def variables(self) -> "Mapping[str, tf.Variable]":
        """The state by name, which a checkpoint holds; empty for a weight without state."""

    def scale(self, step: "int | tf.Tensor") -> "float | tf.Tensor":
        """The factor on lam at a step: float32 scalar."""

    def observe(self, step: "int | tf.Tensor", divergence: "tf.Tensor | None") -> None:
        """Takes note of a training step and the mean divergence of its batch, if it is computed."""

    def reached(self, step: int) -> float:
        """The weight after a number of steps."""

    def unfinished(self, step: int, steps_per_epoch: int | None = None) -> str | None:
        """A warning about a training that ends before the weight is lam; else None."""


@dataclass(frozen=True)
class FixedWeight:
    """A constant lam after a warm-up, in which the model learns before its inference is held tight.

        scale(step) = min(1, step / warmup_steps) ^ warmup_power;      warmup_steps = 0: 1

    Attributes:
        lam: any real number, or inf, which has no warm-up.
        warmup_steps: the steps over which lam grows from 0.
        warmup_power: how it grows.
    """

    lam: float
    warmup_steps: int = 0
    warmup_power: float = 1.0

    @property
    def variables(self) -> "Mapping[str, tf.Variable]":
        """No state: the weight follows from the step."""
        return {}

    def scale(self, step: "int | tf.Tensor") -> "float | tf.Tensor":
        """The factor on lam after a number of steps: float32 scalar, from 0 to 1."""
        import tensorflow as tf

        return self._scale(tf.cast(step, tf.float32), tf.minimum)

    def observe(self, step: "int | tf.Tensor", divergence: "tf.Tensor | None") -> None:
        """Does nothing: the weight follows from the step."""

    def reached(self, step: int) -> float:
        """The weight after a number of steps, without TensorFlow."""
        return self.lam if self._is_constant else self.lam * float(self._scale(step, min))

    def unfinished(self, step: int, steps_per_epoch: int | None = None) -> str | None:
        """A warning about a training that ends at a step before the weight is lam; else None.

        Settings are named in braces, as in an error's remedy: "{epochs}".

        Args:
            step: the steps of the training.
            steps_per_epoch: with it, the warning names the epochs that the warm-up needs.
        """
        if self._is_constant or step >= self.warmup_steps:
            return None
        needed = f" to {-(-self.warmup_steps // steps_per_epoch)}" if steps_per_epoch else ""
        return (
            f"lam grows to {self.reached(step):.2g} of {self.lam:g} only: the training has {step} "
            f"steps, and the warm-up {self.warmup_steps}. To reach all of it, raise {{epochs}}"
            f"{needed} or give fewer {{lam_warmup_steps}}; a short warm-up costs likelihood."
        )

    @property
    def _is_constant(self) -> bool:
        return self.lam == 0.0 or math.isinf(self.lam)

    def _scale(self, step: Any, minimum: Callable[[float, Any], Any]) -> Any:
        if self.warmup_steps == 0:
            return 1.0
        return minimum(1.0, step / self.warmup_steps) ** self.warmup_power
