"""The cells of tables: numbers with their standard errors, as printed text."""

import math
from collections.abc import Sequence

from tfp_smvi.core.estimates import Estimate
from tfp_smvi.report.points import Point
from tfp_smvi.sweeps.results import Sweep

__all__ = [
    "DASH",
    "density_units",
    "format_estimate",
    "format_percent",
    "format_range",
    "format_seconds",
    "point_at",
]

DASH = "\N{EN DASH}"


def density_units(sweep: Sweep) -> str:
    """A sentence on densities of standardized values; empty if x is in the units it was given in.

    Begins with a space.
    """
    reports = [run.evaluation for run in sweep.finished if run.evaluation]
    scales = next((report.log_scale for report in reports if report.log_scale), None)
    if scales is None:
        return ""
    subtract = ", ".join(f"{value:.4g} ({split})" for split, value in scales.items())
    return (
        " ELBO and log-likelihood are those of standardized values: in the units that the data "
        f"were given in, they are lower by {subtract}."
    )


def format_estimate(estimate: Estimate, places: int, sign: str = "-") -> str:
    """A mean and its standard error, such as "-98.31 ± 0.45" with a true minus sign.

    Args:
        estimate: the two.
        places: the digits after the point.
        sign: "+" to give positive numbers a sign as well.
    """
    mean, error = estimate.mean, estimate.standard_error
    if not math.isfinite(mean):
        return "not finite"
    # z: numbers that round to zero have no sign.
    text = f"{mean:{sign}z,.{places}f}".replace("-", "\N{MINUS SIGN}")
    return f"{text} ± {error:,.{places}f}" if math.isfinite(error) else text


def format_percent(estimate: Estimate | None) -> str:
    """A fraction in percent with its standard error; a dash if there is none."""
    if estimate is None:
        return DASH
    percent = Estimate(100.0 * estimate.mean, 100.0 * estimate.standard_error)
    return format_estimate(percent, 2)


def point_at(points: Sequence[Point], x: float) -> Point | None:
    """The point of a curve at a lam or epoch."""
    return next((point for point in points if point.x == x), None)


def format_range(point: Point | None, places: int, factor: float = 1.0) -> str:
    """A mean over seeds with its range, such as "-98.31 (-98.50 to -98.10)"."""
    if point is None:
        return DASH
    mean, low, high = (
        format_estimate(Estimate(factor * value), places)
        for value in (point.mean, point.low, point.high)
    )
    return f"{mean} ({low} to {high})"


def format_seconds(value: float | None) -> str:
    """Such as "1:02:03"."""
    if value is None:
        return ""
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
