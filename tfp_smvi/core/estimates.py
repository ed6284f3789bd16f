"""Estimates: a mean that never travels without its standard error."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from tfp_smvi.core.records import JSONObject, Record

__all__ = ["Estimate", "estimate", "student_t"]


@dataclass(frozen=True)
class Estimate(Record):
    """A mean over examples or repeats.

    Attributes:
        mean: the mean; NaN if it is not finite or not known.
        standard_error: its standard error; NaN if it is not known, as that of a single example.
        monte_carlo_error: the part of the standard error that draws or chains cause; None if the
            values have no errors.
        degrees_of_freedom: of the standard error, for `half_width`; the number of values minus 1.
            It is not written: with infinitely many, Student's t is the normal distribution.
    """

    mean: float
    standard_error: float = math.nan
    monte_carlo_error: float | None = None
    degrees_of_freedom: float = field(default=math.inf, compare=False)

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval by Student's t; NaN if the error is not known."""
        return student_t(self.degrees_of_freedom) * self.standard_error

    def known_to(self, degrees_of_freedom: float) -> Self:
        """The same estimate with degrees of freedom, which files do not have."""
        return dataclasses.replace(self, degrees_of_freedom=degrees_of_freedom)

    def to_json(self) -> JSONObject:
        """Returns the fields as JSON values; only known parts of the error are written."""
        values = super().to_json()
        del values["degrees_of_freedom"]
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
    error, monte_carlo_error = spread / math.sqrt(count), None
    if errors is not None:
        squares = np.asarray(errors, np.float64) ** 2
        monte_carlo_error = _finite(math.sqrt(squares.sum()) / count)
    return Estimate(mean, error, monte_carlo_error, count - 1)


def student_t(degrees_of_freedom: float) -> float:
    """Half of a 95 % interval in standard errors: the 97.5 % quantile of Student's t.

    It is 12.7 for two values, 4.3 for three, 2.26 for ten, and 1.96 for many.

    Args:
        degrees_of_freedom: at least 1; for fewer it is NaN.
    """
    # Here, because it takes half a second.
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    return float(stdtrit(degrees_of_freedom, 0.975)) if degrees_of_freedom >= 1 else math.nan


def _finite(value: float) -> float:
    """The number, or NaN for an infinite one."""
    return float(value) if math.isfinite(value) else math.nan
