"""Real values scaled to mean 0 and standard deviation 1, entry by entry, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Standardization", "doubts_of_rounding", "find_moments"]

# How far the rounding of given values to float32 may move standardized ones without a doubt, and
# the rounding of a mean.
COARSE = 1e-3


@dataclass(frozen=True, eq=False)
class Standardization:
    """The transformation x -> (x - mean) / stddev.

    Densities of standardized values are those of the given values times the product of stddev:
    log p(given) = log p(standardized) - sum(log stddev), over the observed entries.

    Attributes:
        mean: float64 [*image_shape], over the observed training data; rounded to float32 where that
            moves it by less than 1e-3 stddev.
        stddev: float32 [*image_shape], positive; 1 for an entry that is constant or never observed.
    """

    mean: npt.NDArray[np.float64]
    stddev: npt.NDArray[np.float32]

    @classmethod
    def of(cls, blocks: Iterable[npt.NDArray[Any]]) -> Standardization:
        """Finds the transformation that standardizes training data, which come in blocks."""
        mean, stddev = find_moments(blocks)
        # The rounding of float64 alone gives a constant entry some standard deviation.
        constant = ~(stddev > 1e-12 * np.abs(mean))
        divisor = np.where(constant, 1.0, stddev).astype(np.float32)
        rounded = mean.astype(np.float32).astype(np.float64)
        # What floats can hold needs no second subtraction in an export.
        return cls(np.where(np.abs(rounded - mean) < COARSE * divisor, rounded, mean), divisor)

    @property
    def log_scale(self) -> float:
        """sum(log stddev) in nats: what to subtract from a log density of standardized values."""
        return float(np.log(self.stddev.astype(np.float64)).sum())

    def log_scales(self, x: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """The same of each x over its observed entries: [n, *image_shape] -> [n], in nats."""
        logs = np.where(np.isnan(x), 0.0, np.log(self.stddev.astype(np.float64)))
        return logs.reshape(len(x), -1).sum(axis=1)

    @overload
    def apply(self, x: npt.NDArray[Any]) -> npt.NDArray[np.float32]: ...
    @overload
    def apply(self, x: tf.Tensor) -> tf.Tensor: ...
    def apply(self, x: Any) -> Any:
        """Standardizes given values, [..., *image_shape]; NaN stays NaN."""
        if not isinstance(x, np.ndarray):
            mean = self.mean.astype(np.float32)
            rest = (self.mean - mean).astype(np.float32)
            shifted = x - mean
            return (shifted - rest if rest.any() else shifted) / self.stddev
        # In float64, where the difference of large numbers loses nothing.
        return ((x.astype(np.float64) - self.mean) / self.stddev).astype(np.float32)

    @overload
    def undo(self, x: npt.NDArray[Any]) -> npt.NDArray[np.float32]: ...
    @overload
    def undo(self, x: tf.Tensor) -> tf.Tensor: ...
    def undo(self, x: Any) -> Any:
        """Returns standardized values, or means of them, in the units of the given ones."""
        if not isinstance(x, np.ndarray):
            return x * self.stddev + self.mean.astype(np.float32)
        return (x * self.stddev + self.mean).astype(np.float32)

    def undo_stddev(self, stddev: Any) -> Any:
        """Returns standard deviations of standardized values in the units of the given ones."""
        return stddev * self.stddev


def doubts_of_rounding(scale: Standardization, names: Sequence[str] | None) -> Iterator[str]:
    """A doubt about the entry that is the farthest from 0, if that is too far for float32.

    Args:
        scale: how the entries are standardized.
        names: of the entries of vectors.
    """
    # Half of the distance of two floats near the mean, in standard deviations.
    rounding = (np.abs(scale.mean) * 2.0**-24 / scale.stddev).reshape(-1)
    entry = int(rounding.argmax())
    if rounding[entry] > COARSE:
        name = names[entry] if names else f"entry {entry}"
        yield (
            f"Values of {name} are near {scale.mean.reshape(-1)[entry]:.6g}, where float32, which "
            f"exports and servers take, is off by up to {rounding[entry]:.2g} of their standard "
            "deviation; subtract a constant from them."
        )


def find_moments(
    blocks: Iterable[npt.NDArray[Any]],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Finds mean and standard deviation of each entry over the examples that observe it.

    Args:
        blocks: the examples, [n, ...] each; NaN is missing.

    Returns:
        (mean, stddev), float64 [...]; both 0 for an entry that is never observed.
    """
    count = mean = squares = np.float64(0)
    for block in blocks:
        values = block.astype(np.float64)
        observed = ~np.isnan(values)
        n = observed.sum(0)
        # Chan's way to join the moments of two parts, which does not cancel.
        here = np.where(observed, values, 0.0).sum(0) / np.maximum(n, 1)
        spread = np.where(observed, (values - here) ** 2, 0.0).sum(0)
        total = np.maximum(count + n, 1)
        difference = here - mean
        squares = squares + spread + difference**2 * count * n / total
        mean = mean + difference * n / total
        count = count + n
    return np.asarray(mean), np.asarray(np.sqrt(squares / np.maximum(count, 1)))
