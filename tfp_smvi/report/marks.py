"""What the marks in figures mean: a hollow marker, and a dagger."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from tfp_smvi.report.points import Point, lams_with_warnings
from tfp_smvi.report.style import GREY
from tfp_smvi.sweeps.results import Sweep

__all__ = ["DAGGER", "GROWING", "explain_marks", "hollow_points"]

DAGGER = "† a warning of the training"
GROWING = "hollow: λ not reached yet"


def hollow_points(sweep: Sweep, lam: float, points: Sequence[Point]) -> list[bool]:
    """Whether lam was growing at each point of a curve over epochs."""
    growing = sweep.epochs_growing(lam)
    return [point.x in growing for point in points]


def explain_marks(axes: Axes, sweep: Sweep, *, hollow: bool) -> None:
    """Adds what a hollow marker and a dagger at a lam mean to the legend of a panel."""
    if hollow:
        axes.plot([], [], "o", color=GREY, markerfacecolor="white", label=GROWING)
    if lams_with_warnings(sweep):
        axes.plot([], [], linestyle="none", label=DAGGER)
