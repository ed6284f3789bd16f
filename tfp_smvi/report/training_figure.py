"""The figure of the training: test metrics, and a λ that follows a target, over its epochs."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfp_smvi.report.axes import epoch_ticks, value_axis
from tfp_smvi.report.divergence_names import divergence_in_math
from tfp_smvi.report.layout import WIDE, Layout, legend_below, panel_title
from tfp_smvi.report.level_names import level_title
from tfp_smvi.report.marks import explain_marks, hollow_points
from tfp_smvi.report.points import Point, training_curves
from tfp_smvi.report.style import GREY, draw_band, lam_lines
from tfp_smvi.runs.records import EpochRecord
from tfp_smvi.sweeps.results import Sweep

__all__ = ["draw_training"]

Value = Callable[[EpochRecord], float | None]


def draw_training(sweep: Sweep, layout: Layout = WIDE) -> Figure:
    """Draws the test ELBO and the divergence over the training's epochs, and λ if it follows them.

    A λ that follows a gap has two more panels: λ, and the measured gap.
    """
    curves = {name: training_curves(sweep, name) for name in ("elbo", "divergence")}
    rows = 2 if _has_multiplier(sweep) else 1
    size, shape = (5.6, (2 * rows, 1)) if layout.stacked else (3.4, (rows, 2))
    figure = Figure(figsize=(layout.width, rows * size), layout="constrained")
    left, right, *more = np.ravel(figure.subplots(*shape))
    if more:
        _draw_multiplier(more, sweep)
        panel_title(more[0], "c", "λ")
        panel_title(more[1], "d", "gap on held-out data")
        for axes in more:
            epoch_ticks(axes)
    looks, growing = lam_lines(run.level for run in sweep.finished), False
    for axes, by_lam in zip((left, right), curves.values(), strict=True):
        for lam, points in by_lam.items():
            name, hollow = level_title(sweep, lam), hollow_points(sweep, lam, points)
            growing |= any(hollow)
            draw_band(axes, points, looks[lam], name, hollow=hollow)
        axes.set_xlabel("epoch of training")
        epoch_ticks(axes)
    divergences = [point for points in curves["divergence"].values() for point in points]
    value_axis(right, divergences)
    _leave_out_the_beginning(
        left, [point for points in curves["elbo"].values() for point in points]
    )
    panel_title(left, "a", "ELBO on test data")
    panel_title(right, "b", "divergence on test data")
    left.set_ylabel("nats per example")
    right.set_ylabel(divergence_in_math(sweep))
    explain_marks(left, sweep, hollow=growing)
    legend_below(figure, left, 8)
    return figure


def _has_multiplier(sweep: Sweep) -> bool:
    """Whether λ follows a target."""
    return any(record.constraint for run in sweep.compared for record in run.history)


def _multiplier_curves(sweep: Sweep, value: Value) -> dict[float, list[Point]]:
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


def _draw_multiplier(panels: Sequence[Axes], sweep: Sweep) -> None:
    """Draws λ in the first panel; in the second the measured value as a share of that asked for."""
    looks = lam_lines(run.level for run in sweep.finished)
    shown: dict[str, Value] = {"λ": lambda record: record.lam, "measured / asked": _share}
    for axes, (label, value) in zip(panels, shown.items(), strict=True):
        curves = _multiplier_curves(sweep, value)
        for level, points in curves.items():
            draw_band(axes, points, looks[level], level_title(sweep, level))
        value_axis(axes, [point for points in curves.values() for point in points])
        axes.set_xlabel("epoch of training")
        axes.set_ylabel(label)
    panels[1].axhline(1.0, color=GREY, linewidth=0.6, linestyle=(0, (4, 3)))


def _share(record: EpochRecord) -> float | None:
    assert record.constraint is not None
    return record.constraint.measured / record.constraint.asked


def _leave_out_the_beginning(axes: Axes, points: Sequence[Point]) -> None:
    """Fits the y axis to what follows the first tenth of the epochs, in which the ELBO rises."""
    last = max((point.x for point in points), default=0.0)
    values = [
        value for point in points if point.x > 0.1 * last for value in (point.low, point.high)
    ]
    if values:
        margin = 0.05 * (max(values) - min(values)) or 1.0
        axes.set_ylim(min(values) - margin, max(values) + margin)
