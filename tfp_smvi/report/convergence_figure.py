"""The figure of a convergence report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tfp_smvi.core.errors import RUN_AGAIN, explain_write_errors
from tfp_smvi.report.style import write_figure
from tfp_smvi.storage.atomic import write_atomically

__all__ = ["write_convergence_figure"]


def write_convergence_figure(report: Mapping[str, Any], path: Path) -> None:
    """Draws the estimate of log p(x) and the width of the bracket against the number of temperatures.

    Args:
        report: the report of `measure_convergence`.
        path: the PNG file to write.

    Raises:
        SMVIError: it cannot be written.
    """
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for split, summary in report["splits"].items():
        differences = {
            n: v["difference_to_last"] for n, v in summary["by_num_temperatures"].items()
        }
        _plot_means(upper, differences, split)
    _plot_means(
        lower, {n: bracket["width"] for n, bracket in report["brackets"].items()}, "simulated"
    )
    figure.suptitle(
        "Estimates by number of temperatures; bars are two standard errors over examples",
        fontsize="medium",
    )
    upper.set_ylabel("log-likelihood minus that at\nthe largest number (nats)")
    lower.set_ylabel("bracket: upper minus\nlower bound (nats)")
    lower.set_xlabel("number of temperatures")
    for axes in (upper, lower):
        axes.axhline(0.0, color="black", linewidth=0.5)
        axes.set_xscale("log")
        axes.set_xticks([int(n) for n in report["brackets"]], list(report["brackets"]))
        axes.minorticks_off()
        axes.legend()
    with explain_write_errors(f"to {path.parent}", f"the blocks are kept: {RUN_AGAIN}"):
        write_atomically(path, lambda file: write_figure(figure, "png", file))


def _plot_means(axes: Any, estimates: Mapping[str, Any], label: str) -> None:
    known = {int(n): e for n, e in estimates.items() if e["mean"] is not None}
    errors = [2.0 * (e["standard_error"] or 0.0) for e in known.values()]
    axes.errorbar(
        list(known), [e["mean"] for e in known.values()], errors, marker="o", capsize=3, label=label
    )
