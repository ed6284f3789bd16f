"""Estimates: a mean that never travels without its standard error."""

import math
from dataclasses import dataclass

import numpy as np

from tfp_smvi.core.records import JSONObject, Record

__all__ = ["Estimate", "estimate"]


@dataclass(frozen=True)
class Estimate(Record):
    """A mean over examples or repeats.

    Attributes:
        mean: the mean; NaN if it is not finite or not known.
        standard_error: its standard error; NaN if it is not known, as that of a single example.
        monte_carlo_error: the part of the standard error that draws or chains cause; None if the
            values have no errors.
    """

    mean: float
    standard_error: float = math.nan
    monte_carlo_error: float | None = None

    def to_json(self) -> JSONObject:
        """Returns the fields as JSON values; only known parts of the error are written."""
        values = super().to_json()
        if self.monte_carlo_error is None:
            del values["monte_carlo_error"]
        return values

    def __str__(self) -> str:
        """Such as "-98.312 +/- 0.451"."""
        if math.isnan(self.mean):
            return "not finite"
        error = "" if math.isnan(self.standard_error) else f" +/- {self.standard_error:.3f}"
        return f"{self.mean:.3f}{error}"


def estimate(values: np.ndarray, errors: np.ndarray | None = None) -> Estimate:
    """Estimates a mean.

    Args:
        values: one number per example: float [num_examples].
        errors: the standard error of each: float [num_examples].

    Returns:
        The mean with its standard error over the examples.
    """
    values = np.asarray(values, np.float64)
    count = len(values)
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        mean = _finite(values.mean())
        spread = _finite(values.std(ddof=1)) if count > 1 else math.nan
    if errors is None:
        return Estimate(mean, spread / math.sqrt(count))
    squares = np.asarray(errors, np.float64) ** 2
    return Estimate(mean, spread / math.sqrt(count), _finite(math.sqrt(squares.sum()) / count))


def _finite(value: float) -> float:
    """The number, or NaN for an infinite one."""
    return float(value) if math.isfinite(value) else math.nan
