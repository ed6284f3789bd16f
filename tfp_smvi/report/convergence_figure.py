"""The figure of a convergence check."""

import math
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfp_smvi.core.errors import RUN_AGAIN, explain_write_errors
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.evaluation.convergence import Convergence
from tfp_smvi.report.layout import styled
from tfp_smvi.report.style import Line, plain_lines, write_figure
from tfp_smvi.storage.atomic import write_atomically

__all__ = ["write_convergence_figure"]


def write_convergence_figure(convergence: Convergence, path: Path) -> None:
    """Draws the estimate of log p(x) and the width of the bracket by number of temperatures.

    Args:
        convergence: the result of `measure_convergence`.
        path: the PNG file to write.

    Raises:
        SMVIError: it cannot be written.
    """
    with styled(), explain_write_errors(f"to {path.parent}", f"the blocks are kept: {RUN_AGAIN}"):
        figure = _draw(convergence)
        write_atomically(path, lambda file: write_figure(figure, "png", file))


def _draw(convergence: Convergence) -> Figure:
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    looks = plain_lines(len(convergence.splits) + 1)
    for look, (split, summary) in zip(looks, convergence.splits.items(), strict=False):
        by_number = summary.by_num_temperatures
        differences = {count: values.difference_to_last for count, values in by_number.items()}
        _plot_means(upper, differences, summary.num_examples, split, look)
    widths = {count: bracket.width for count, bracket in convergence.brackets.items()}
    num_simulated = min(bracket.num_examples for bracket in convergence.brackets.values())
    _plot_means(lower, widths, num_simulated, "simulated", looks[-1])
    figure.suptitle(
        "Estimates by number of temperatures; bars are 95 % intervals over examples",
        fontsize="medium",
    )
    upper.set_ylabel("log-likelihood minus that at\nthe largest number (nats)")
    lower.set_ylabel("bracket: upper minus\nlower bound (nats)")
    lower.set_xlabel("number of temperatures")
    for axes in (upper, lower):
        axes.axhline(0.0, color="black", linewidth=0.5)
        axes.set_xscale("log")
        axes.set_xticks([int(count) for count in widths], list(widths))
        axes.minorticks_off()
        axes.legend()
    return figure


def _plot_means(
    axes: Axes, estimates: Mapping[str, Estimate], num_examples: int, label: str, look: Line
) -> None:
    finite = {
        int(n): e.known_to(num_examples - 1) for n, e in estimates.items() if not math.isnan(e.mean)
    }
    errors = [0.0 if math.isnan(e.half_width) else e.half_width for e in finite.values()]
    means = [e.mean for e in finite.values()]
    axes.errorbar(
        list(finite),
        means,
        errors,
        color=look.color,
        marker=look.marker,
        linestyle=look.dashes,
        label=label,
    )
