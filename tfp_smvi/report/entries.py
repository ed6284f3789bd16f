"""The figure of data that are vectors: entries of simulated x against those of the test data."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfp_smvi.report.layout import WIDE, Layout
from tfp_smvi.report.level_names import level_title
from tfp_smvi.report.points import first_runs, read_gallery_file
from tfp_smvi.report.style import GREY
from tfp_smvi.sweeps.results import Sweep

__all__ = ["draw_entries", "has_entries"]

# Positive means that span more than this factor are shown on logarithmic axes.
LARGE_SPAN = 100.0


class _Entries(NamedTuple):
    """The entries of x under the model of one run: pairs of observed and simulated values [d]."""

    lam: float
    means: tuple[np.ndarray, np.ndarray]
    zeros: tuple[np.ndarray, np.ndarray] | None


def has_entries(sweep: Sweep) -> bool:
    """Whether the data of a sweep are vectors whose entries were summarized."""
    return bool(_read_entries(sweep))


def draw_entries(sweep: Sweep, layout: Layout = WIDE) -> Figure:
    """Draws the mean of each entry, and for counts the share of zeros, for some of the lams."""
    runs = _read_entries(sweep)
    count = min(len(runs), 2 * layout.columns)  # from the first lam to the last
    runs = [runs[i] for i in np.linspace(0, len(runs) - 1, count).round().astype(int)]
    rows = [[run.means for run in runs]]
    names = ["mean"]
    if all(run.zeros is not None for run in runs):
        rows.append([run.zeros for run in runs if run.zeros is not None])
        names.append("share of zeros")
    side = layout.width / max(len(runs), 2)
    size = (min(layout.width, side * len(runs) + 0.4), side * len(rows) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(rows), len(runs), squeeze=False)
    for row, pairs, name in zip(panels, rows, names, strict=True):
        for axes, run, pair in zip(row, runs, pairs, strict=False):
            _compare(axes, pair, wide=name == "mean")
            axes.set_xlabel("test data")
            axes.set_title(level_title(sweep, run.lam))
        row[0].set_ylabel(f"{name}, simulated")
    return figure


def _compare(axes: Axes, pair: Sequence[np.ndarray], *, wide: bool) -> None:
    """Draws one pair of values an entry, and the line on which both are the same."""
    observed, simulated = pair
    values = np.concatenate(pair)
    low, high = np.nanmin(values), np.nanmax(values)
    if wide and low > 0.0 and high > LARGE_SPAN * low:
        axes.set(xscale="log", yscale="log")
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.8)
    axes.scatter(observed, simulated, s=6, linewidths=0, alpha=0.6)
    axes.set_aspect("equal", adjustable="datalim")


def _read_entries(sweep: Sweep) -> list[_Entries]:
    entries = []
    for run in first_runs(sweep):
        values = read_gallery_file(sweep.run_path(run) / "gallery.npz")
        if "observed_means" in values:
            means = (values["observed_means"], values["simulated_means"])
            counts = "observed_zeros" in values
            zeros = (values["observed_zeros"], values["simulated_zeros"]) if counts else None
            entries.append(_Entries(run.level, means, zeros))
    return entries
