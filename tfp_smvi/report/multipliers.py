"""Curves of a λ that follows a target, and of what it follows, over the training's epochs."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes

from tfp_smvi.report.axes import value_axis
from tfp_smvi.report.level_names import level_title
from tfp_smvi.report.points import Point
from tfp_smvi.report.style import GREY, draw_band, lam_lines
from tfp_smvi.runs.records import EpochRecord
from tfp_smvi.sweeps.results import Sweep

__all__ = ["draw_multiplier", "has_multiplier", "multiplier_curves"]

Value = Callable[[EpochRecord], float | None]


def has_multiplier(sweep: Sweep) -> bool:
    """Whether λ follows a target."""
    return any(record.constraint for run in sweep.compared for record in run.history)


def multiplier_curves(sweep: Sweep, value: Value) -> dict[float, list[Point]]:
    """A value of each epoch by level, as means over seeds with their range."""
    curves: dict[float, dict[int, list[float]]] = {}
    for run in sweep.compared:
        for record in run.history:
            if record.constraint is not None and (number := value(record)) is not None:
                by_epoch = curves.setdefault(run.level, {})
                by_epoch.setdefault(record.epoch, []).append(number)
    return {
        level: [
            Point(epoch, sum(values) / len(values), min(values), max(values), len(values))
            for epoch, values in sorted(by_epoch.items())
        ]
        for level, by_epoch in sorted(curves.items())
    }


def draw_multiplier(panels: Sequence[Axes], sweep: Sweep) -> None:
    """Draws λ in the first panel; in the second the measured value as a share of that asked for."""
    looks = lam_lines(run.level for run in sweep.finished)
    shown: dict[str, Value] = {"λ": lambda record: record.lam, "measured / asked": _share}
    for axes, (label, value) in zip(panels, shown.items(), strict=True):
        curves = multiplier_curves(sweep, value)
        for level, points in curves.items():
            draw_band(axes, points, looks[level], level_title(sweep, level))
        value_axis(axes, [point for points in curves.values() for point in points])
        axes.set_xlabel("epoch of training")
        axes.set_ylabel(label)
    panels[1].axhline(1.0, color=GREY, linewidth=0.6, linestyle=(0, (4, 3)))


def _share(record: EpochRecord) -> float | None:
    assert record.constraint is not None
    return record.constraint.measured / record.constraint.asked
