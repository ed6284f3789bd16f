"""The figure of the frontier: what a smaller gap costs in likelihood, and in accuracy."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tfp_smvi.core.quantities import QUANTITIES
from tfp_smvi.report import points as figure_data
from tfp_smvi.report.axes import number_label, percent_label, scale_of
from tfp_smvi.report.layout import WIDE, Layout, legend_below, panel_title
from tfp_smvi.report.level_names import symbol
from tfp_smvi.report.marks import explain_marks
from tfp_smvi.report.points import Point, lam_name
from tfp_smvi.report.style import Line, draw_bars, plain_lines
from tfp_smvi.sweeps.results import Sweep

__all__ = ["draw_frontier", "has_frontier"]


def has_frontier(sweep: Sweep) -> bool:
    """Whether the gap is known at two or more lams."""
    return bool(figure_data.splits(sweep)) and len(_gaps(sweep)) > 1


def draw_frontier(sweep: Sweep, layout: Layout = WIDE) -> Figure:
    """Draws the log-likelihood and, if known, the accuracy of the first kernel, against the gap.

    A point is a lam. The gaps are those of test data, or of the only split that was evaluated.
    """
    kernels = figure_data.kernels(sweep)[:1]
    count = 1 + len(kernels)
    shape = (count, 1) if layout.stacked else (1, count)
    size = (layout.width, 3.0 * count if layout.stacked else 3.6)
    figure = Figure(figsize=size, layout="constrained")
    parts = figure.subfigures(*shape, squeeze=False).ravel().tolist()
    panels = [part.subplots() for part in parts]
    _draw_likelihoods(panels[0], sweep)
    panel_title(panels[0], "a", f"likelihood; numbers are {symbol(sweep)}")
    for kernel, axes in zip(kernels, panels[1:], strict=True):
        _draw_accuracies(axes, sweep, kernel)
        panel_title(axes, "b", f"SVM, {kernel} kernel")
    gaps = _gaps(sweep)
    scale, options = scale_of(gaps)
    hollow = any(sweep.is_growing(point.x) for point in gaps)
    for part, axes in zip(parts, panels, strict=True):
        axes.set_xscale(scale, **options)
        if scale != "linear":
            axes.xaxis.set_major_formatter(FuncFormatter(number_label))
        axes.set_xlabel("log-likelihood \N{MINUS SIGN} ELBO (nats)")
        explain_marks(axes, sweep, hollow=hollow)
        legend_below(part, axes, 3)
    return figure


def _gaps(sweep: Sweep) -> list[Point]:
    """The gap over lam, on test data where it is known."""
    return figure_data.estimates(sweep, _split(sweep), "gap")


def _split(sweep: Sweep) -> str:
    return figure_data.splits(sweep)[0]


def _draw_likelihoods(axes: Axes, sweep: Sweep) -> None:
    """Draws log p(x) and the ELBO against the gap, with the names of the lams."""
    split = _split(sweep)
    for quantity, line in zip(("log_likelihood", "elbo"), plain_lines(2), strict=True):
        curve = figure_data.estimates(sweep, split, quantity)
        _draw_over_gap(axes, sweep, curve, line, f"{QUANTITIES[quantity].heading}, {split}")
    gaps = {point.x: point.mean for point in _gaps(sweep)}
    for point in figure_data.estimates(sweep, split, "log_likelihood"):
        if point.x in gaps:
            axes.annotate(
                lam_name(sweep, point.x),
                (gaps[point.x], point.high),
                xytext=(0.0, 4.0),
                textcoords="offset points",
                ha="center",
                rotation=90,
                fontsize="small",
            )
    axes.set_ylabel("nats per example")
    axes.margins(0.08, 0.17)  # room for the names


def _draw_accuracies(axes: Axes, sweep: Sweep, kernel: str) -> None:
    numbers = figure_data.label_numbers(sweep)
    for number, line in zip(numbers, plain_lines(len(numbers)), strict=True):
        curve = figure_data.accuracies(sweep, kernel, number)
        _draw_over_gap(axes, sweep, curve, line._replace(dashes="-"), f"{number:,} labels")
    axes.yaxis.set_major_formatter(FuncFormatter(percent_label))
    axes.set_ylabel("test accuracy (%)")


def _draw_over_gap(
    axes: Axes, sweep: Sweep, curve: Sequence[Point], line: Line, label: str
) -> None:
    """Draws a quantity against the gap, with the bars of both, in the order of lam."""
    gaps = {point.x: point for point in _gaps(sweep)}
    curve = [point for point in curve if point.x in gaps]
    across = [gaps[point.x] for point in curve]
    hollow = [sweep.is_growing(point.x) for point in curve]
    draw_bars(axes, [gap.mean for gap in across], curve, line, label, hollow=hollow)
    axes.errorbar(
        [gap.mean for gap in across],
        [point.mean for point in curve],
        xerr=np.array([[gap.mean - gap.low, gap.high - gap.mean] for gap in across]).T,
        linestyle="none",
        color=line.color,
        elinewidth=0.8,
    )
