"""Estimates: a mean and its standard error."""

import math
from typing import Any

import numpy as np

__all__ = ["estimate", "finite"]

JSON = dict[str, Any]


def estimate(values: np.ndarray, errors: np.ndarray | None = None) -> JSON:
    """The mean over examples, its standard error, and the part of that which draws or chains cause."""
    values = np.asarray(values, np.float64)
    count = len(values)
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        mean = finite(values.mean())
        spread = finite(values.std(ddof=1)) if count > 1 else None
    summary = {
        "mean": mean,
        "standard_error": None if spread is None else spread / math.sqrt(count),
    }
    if errors is not None:
        squares = np.asarray(errors, np.float64) ** 2
        summary["monte_carlo_error"] = finite(math.sqrt(squares.sum()) / count)
    return summary


def finite(value: float) -> float | None:
    """The number, or None, which JSON has, for what is not finite."""
    return float(value) if math.isfinite(value) else None
