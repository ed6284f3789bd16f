"""The figures made of curves: likelihood and gap, accuracy, and differences."""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from tfp_smvi.classification.results import PCA, PIXELS
from tfp_smvi.core.quantities import QUANTITIES
from tfp_smvi.report import points as figure_data
from tfp_smvi.report.axes import (
    LamAxis,
    epoch_ticks,
    keep_labels_apart,
    mark_linear_part,
    percent_label,
    value_axis,
)
from tfp_smvi.report.differences import differences_to_lam_0
from tfp_smvi.report.layout import WIDE, Layout, legend_below, panel_title, panels
from tfp_smvi.report.level_names import axis_label, level_title
from tfp_smvi.report.marks import explain_marks, hollow_points
from tfp_smvi.report.points import Point, lam_name
from tfp_smvi.report.style import GREY, Dashes, Line, draw_bars, lam_lines, plain_lines
from tfp_smvi.sweeps.results import Sweep

__all__ = [
    "draw_accuracy",
    "draw_accuracy_by_epoch",
    "draw_differences",
    "draw_likelihood",
]

BASELINE_DASHES: dict[str, Dashes] = {PIXELS: (0, (4, 2)), PCA: (0, (1, 1.2))}
LEAST_DIFFERENCE = 0.001  # the axis of the differences shows at least this, to each side
NEAR = 0.01  # up to this, to each side, it is linear if it shows far more


def draw_likelihood(sweep: Sweep, layout: Layout = WIDE) -> Figure:
    """Draws figure 1: the gap, and what it costs, over lam."""
    size, shape = (6.0, (2, 1)) if layout.stacked else (3.6, (1, 2))
    figure = Figure(figsize=(layout.width, size), layout="constrained")
    halves = figure.subfigures(*shape, squeeze=False).ravel().tolist()
    left, right = (half.subplots() for half in halves)
    axis = _lam_axis(sweep)
    gap_line, likelihood_line, elbo_line = plain_lines(3)
    gaps = _draw_splits(left, axis, sweep, "gap", gap_line)
    _draw_splits(right, axis, sweep, "log_likelihood", likelihood_line)
    _draw_splits(right, axis, sweep, "elbo", elbo_line)
    brackets = figure_data.brackets(sweep)
    _draw_over_lam(left, axis, brackets, Line(GREY, "x", (0, (1, 1))), "bracket (accuracy of AIS)")
    value_axis(left, gaps or brackets)  # a bracket within its errors of 0 says nothing of the gaps
    panel_title(left, "a", "ELBO gap")
    panel_title(right, "b", "likelihood and its bound")
    left.set_ylabel("log-likelihood \N{MINUS SIGN} ELBO (nats)")
    right.set_ylabel("nats per example")
    for half, axes in zip(halves, (left, right), strict=True):
        axis.dress(axes)
        explain_marks(axes, sweep, hollow=bool(axis.growing))
        legend_below(half, axes, 2)
    keep_labels_apart(figure)
    return figure


def draw_accuracy(sweep: Sweep, layout: Layout = WIDE) -> Figure:
    """Draws figure 2: accuracy over lam, a panel per kernel."""
    kernels, numbers = figure_data.kernels(sweep), figure_data.label_numbers(sweep)
    figure, grid = panels(layout, 1, len(kernels), 2.9)
    axis = _lam_axis(sweep)
    for kernel, axes in zip(kernels, grid[0], strict=True):
        for num_labels, line in zip(numbers, plain_lines(len(numbers)), strict=True):
            points = figure_data.accuracies(sweep, kernel, num_labels)
            _draw_over_lam(axes, axis, points, line._replace(dashes="-"), f"{num_labels:,} labels")
            for features, dashes in BASELINE_DASHES.items():
                _draw_baseline(
                    axes, axis, sweep, (features, kernel, num_labels), line._replace(dashes=dashes)
                )
        for features, dashes in BASELINE_DASHES.items():
            axes.plot([], [], color=GREY, linestyle=dashes, label=figure_data.BASELINES[features])
        axis.dress(axes)
        _kernel_title(axes, kernels, kernel)
    _percent(grid, layout, "test accuracy (%)")
    explain_marks(grid[0][0], sweep, hollow=bool(axis.growing))
    legend_below(figure, grid[0][0], len(numbers) + len(BASELINE_DASHES) + 1)
    keep_labels_apart(figure)
    return figure


def draw_differences(sweep: Sweep, layout: Layout = WIDE) -> Figure:
    """Draws the paired differences of accuracy to lam = 0."""
    kernels, numbers = figure_data.kernels(sweep), figure_data.label_numbers(sweep)
    curves = {
        pair: differences_to_lam_0(sweep, *pair) for pair in itertools.product(kernels, numbers)
    }
    figure, grid = panels(layout, 1, len(kernels), 2.8)
    axis = _lam_axis(sweep)
    for kernel, axes in zip(kernels, grid[0], strict=True):
        axes.axhline(0.0, color="black", linewidth=0.7)
        for number, (num_labels, line) in enumerate(
            zip(numbers, plain_lines(len(numbers)), strict=True)
        ):
            # Side by side, so that bars do not hide each other.
            shift = 0.012 * (axis.right - axis.left) * (number - (len(numbers) - 1) / 2)
            points = curves[kernel, num_labels]
            _draw_over_lam(axes, axis, points, line, f"{num_labels:,} labels", shift=shift)
        axis.dress(axes)
        _kernel_title(axes, kernels, kernel)
    _difference_axis(grid[0], layout)
    _percent(grid, layout, "accuracy minus that at λ = 0\n(percentage points)")
    explain_marks(grid[0][0], sweep, hollow=bool(axis.growing))
    legend_below(figure, grid[0][0], len(numbers) + 1)
    keep_labels_apart(figure)
    return figure


def draw_accuracy_by_epoch(sweep: Sweep, layout: Layout = WIDE) -> Figure:
    """Draws accuracy over the training's epochs, a panel per kernel and number of labels."""
    kernels, numbers = figure_data.kernels(sweep), figure_data.label_numbers(sweep)
    curves = {
        pair: figure_data.accuracies_by_epoch(sweep, *pair)
        for pair in itertools.product(kernels, numbers)
    }
    figure, grid = panels(layout, len(kernels), len(numbers), 2.3)
    looks, growing = lam_lines(run.level for run in sweep.finished), False
    for row, kernel in zip(grid, kernels, strict=True):
        for axes, number in zip(row, numbers, strict=True):
            by_lam = curves[kernel, number]
            for lam, points in by_lam.items():
                name, hollow = level_title(sweep, lam), hollow_points(sweep, lam, points)
                growing |= any(hollow)
                draw_bars(axes, [p.x for p in points], points, looks[lam], name, hollow=hollow)
            axes.set_title(f"{kernel} kernel, {number:,} labels")
            epoch_ticks(axes, {point.x for points in by_lam.values() for point in points})
    for axes in grid[-1][-1:] if layout.stacked else grid[-1]:
        axes.set_xlabel("epoch of training")
    _percent(grid, layout, "test accuracy (%)")
    explain_marks(grid[0][0], sweep, hollow=growing)
    legend_below(figure, grid[0][0], 8)
    return figure


def _lam_axis(sweep: Sweep) -> LamAxis:
    lams = {run.level for run in sweep.finished}
    growing = {lam for lam in lams if sweep.is_growing(lam)}
    return LamAxis(lams, lambda lam: lam_name(sweep, lam), growing, axis_label(sweep))


def _draw_splits(axes: Axes, axis: LamAxis, sweep: Sweep, quantity: str, line: Line) -> list[Point]:
    """Draws a quantity of the evaluation on each split, side by side, and returns the points."""
    splits, label = figure_data.splits(sweep), QUANTITIES[quantity].heading
    shown = []
    for split in splits:
        points = figure_data.estimates(sweep, split, quantity)
        train = split == "train"
        shift = (0.008 if train else -0.008) * (axis.right - axis.left) * (len(splits) - 1)
        # Dashes tell train from test, and markers the quantities.
        look = line._replace(dashes=(0, (4, 2)) if train else "-")
        _draw_over_lam(axes, axis, points, look, f"{label}, {split}", shift=shift)
        shown += points
    return shown


def _draw_over_lam(
    axes: Axes,
    axis: LamAxis,
    points: Sequence[Point],
    line: Line,
    label: str,
    *,
    shift: float = 0.0,
) -> None:
    places = [axis.place(point.x) + shift for point in points]
    hollow = [point.x in axis.growing for point in points]
    draw_bars(axes, places, points, line, label, hollow=hollow, breaks=axis.breaks)


def _draw_baseline(
    axes: Axes, axis: LamAxis, sweep: Sweep, what: tuple[str, str, int], line: Line
) -> None:
    """Draws a level across the axis, with its bar at the right end."""
    estimate = figure_data.baseline(sweep, *what)
    if estimate is None:
        return
    axes.axhline(estimate.mean, color=line.color, linestyle=line.dashes, linewidth=0.9)
    axes.errorbar(
        [axis.right],
        [estimate.mean],
        [np.nan_to_num(estimate.half_width)],
        marker=line.marker,
        color=line.color,
        markerfacecolor="white",
        elinewidth=0.8,
        clip_on=False,
        zorder=5,
    )


def _difference_axis(row: Sequence[Axes], layout: Layout) -> None:
    """Scales the shared y axis of differences so that small ones are seen beside large ones."""
    axes = row[0]
    large = max(abs(end) for panel in row for end in panel.dataLim.intervaly) > 3.0 * NEAR
    if large:
        axes.set_yscale("symlog", linthresh=NEAR)
    low, high = axes.get_ylim()
    # If all are equal, the axis must not have the size of rounding errors.
    low, high = min(low, -LEAST_DIFFERENCE), max(high, LEAST_DIFFERENCE)
    if large:
        sizes = [0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
        ticks = [0.0, *sizes, *(-size for size in sizes)]
        axes.set_yticks([tick for tick in ticks if low <= tick <= high])
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(low, high)
    if large:
        mark_linear_part(row, NEAR, named=row if layout.stacked else row[-1:])


def _kernel_title(axes: Axes, kernels: Sequence[str], kernel: str) -> None:
    panel_title(axes, "abcdefgh"[kernels.index(kernel)], f"SVM, {kernel} kernel")


def _percent(grid: Sequence[Sequence[Axes]], layout: Layout, label: str) -> None:
    for row in grid:
        for axes in row if layout.stacked else row[:1]:
            axes.set_ylabel(label)
        for axes in row:
            axes.yaxis.set_major_formatter(FuncFormatter(percent_label))
