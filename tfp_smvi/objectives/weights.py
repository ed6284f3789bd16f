"""What lam is: the weight of the divergence in the objective, at each step of a training.

The training step asks for the weight in tensors, the test metrics for the full weight, and the
messages for how far it has grown.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import tensorflow as tf

__all__ = ["FixedWeight", "Weight"]


class Weight(Protocol):
    """lam * scale(step), the weight of the divergence at a step."""

    @property
    def lam(self) -> float:
        """The full weight: any real number, or inf for the divergence alone."""

    @property
    def variables(self) -> Mapping[str, tf.Variable]:
        """The state by name, which a checkpoint holds; empty for a weight without state."""

    def scale(self, step: int | tf.Tensor) -> float | tf.Tensor:
        """The factor on lam at a step: float32 scalar."""

    def unfinished(self, step: int) -> str | None:
        """A note for the user if a training ends before the weight is lam; else None."""


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
    def variables(self) -> Mapping[str, tf.Variable]:
        """No state: the weight follows from the step."""
        return {}

    def scale(self, step: int | tf.Tensor) -> float | tf.Tensor:
        """The factor on lam after a number of steps: float32 scalar, from 0 to 1."""
        if self.warmup_steps == 0:
            return 1.0
        share = tf.minimum(1.0, tf.cast(step, tf.float32) / self.warmup_steps)
        return share**self.warmup_power

    def unfinished(self, step: int) -> str | None:
        """What to tell a user if the training ends at a step before the weight is lam; else None.

        Settings are named in braces, as in an error's remedy: "{epochs}".
        """
        if math.isinf(self.lam) or self.lam == 0.0 or step >= self.warmup_steps:
            return None
        grown = self.lam * float(self.scale(step))
        return (
            f"lam has grown to {grown:.2g} of {self.lam:g}, over {step} of {self.warmup_steps} "
            "steps of its warm-up; to reach all of it, continue with more {epochs}. "
            "A small {lam_warmup_steps} costs likelihood."
        )
