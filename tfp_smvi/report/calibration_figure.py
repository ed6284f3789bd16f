"""The figure of the calibration: the ECDF of ranks minus that of uniform ones, with its band."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.evaluation.calibration_results import CalibrationSummary
from tfp_smvi.inference.uniformity import ecdf_difference, uniform_band
from tfp_smvi.report.layout import MOST_HEIGHT, WIDE, Layout, legend_below
from tfp_smvi.report.level_names import level_title
from tfp_smvi.report.style import COLORS, GREY
from tfp_smvi.storage.arrays import DamagedFileError, read_arrays
from tfp_smvi.sweeps.results import Sweep

__all__ = ["Calibrated", "draw_calibration", "draw_panels", "has_calibration", "read_calibrated"]

BAND_COLOR = "#dcdcdc"
PANEL_HEIGHT = 2.3
# Levels with a panel each, from the first to the last.
MOST_PANELS = 4


class Calibrated(NamedTuple):
    """The ranks of one run as curves, at places from 0 to 1.

    Attributes:
        title: of its panel.
        latents: the curves of active latents by number: float64 [num_values + 1] each, from 0 to 0.
        log_joint: the curve of log p(x, z).
        low: the lower end of the band.
        high: the upper end. A curve is in between if and only if its ranks pass the test.
        rejected: the latents that leave the band, the worst first.
    """

    title: str
    latents: dict[str, np.ndarray]
    log_joint: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rejected: tuple[str, ...]


def has_calibration(sweep: Sweep) -> bool:
    """Whether a run has the ranks of a calibration."""
    return bool(_calibrations(sweep))


def draw_calibration(sweep: Sweep, layout: Layout = WIDE) -> Figure:
    """Draws the ECDF differences of the first seed of each level, or of four of the levels.

    Raises:
        SMVIError: an evaluation.npz cannot be read.
    """
    runs = _calibrations(sweep)
    chosen = np.unique(np.linspace(0, len(runs) - 1, MOST_PANELS).round().astype(int))
    panels = [read_calibrated(*runs[i]) for i in chosen]
    return draw_panels(panels, layout)


def read_calibrated(title: str, path: Path, calibration: CalibrationSummary) -> Calibrated:
    """Reads the ranks of a run and makes its curves.

    Args:
        title: the name of the run.
        path: its evaluation.npz.
        calibration: the summary.

    Raises:
        SMVIError: the file cannot be read.
    """
    num_values = calibration.num_draws + 1
    try:
        names = ("calibration_ranks", "calibration_log_joint_ranks")
        ranks, log_joint_ranks = (read_arrays(path, names)[name] for name in names)
        finite_rows = np.all(ranks >= 0, axis=1) & (log_joint_ranks >= 0)
        latents = {
            name: np.pad(ecdf_difference(ranks[finite_rows, int(name)], num_values), 1)
            for name in calibration.latents
        }
        log_joint = np.pad(ecdf_difference(log_joint_ranks[finite_rows], num_values), 1)
    except (OSError, DamagedFileError, ValueError, IndexError) as error:
        remedy = f"delete {path.with_suffix('.json')}, and run the same command as before again"
        reason = getattr(error, "strerror", None) or error
        raise SMVIError(f"{path} cannot be read ({reason})", remedy=remedy) from error
    count = int(finite_rows.sum())
    band = uniform_band(count, num_values, calibration.level_of_one)
    uniform = np.linspace(0.0, 1.0, num_values + 1)
    outside = f"{len(calibration.rejected)} of {len(latents)} latents outside"
    return Calibrated(
        f"{title}: {outside}",
        latents,
        log_joint,
        np.array([0, *band.lower, count]) / count - uniform,
        np.array([0, *band.upper, count]) / count - uniform,
        calibration.rejected,
    )


def draw_panels(panels: Sequence[Calibrated], layout: Layout) -> Figure:
    """Draws a panel for each run; all have one scale."""
    columns = min(len(panels), layout.columns)
    rows = math.ceil(len(panels) / columns)
    size = (layout.width, min(rows * PANEL_HEIGHT + 0.7, MOST_HEIGHT))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    flat = grid.ravel().tolist()
    for axes, run in zip(flat, panels, strict=False):
        _draw_run(axes, run)
    for axes in flat[len(panels) :]:
        axes.set_axis_off()
    for row in grid:
        row[0].set_ylabel("ECDF \N{MINUS SIGN} uniform")
    for column in range(columns):
        last = flat[: len(panels)][column::columns][-1]
        last.tick_params(labelbottom=True)
        last.set_xlabel("rank of z among draws of q(z|x), as a share")
    _explain(flat[0], panels)
    legend_below(figure, flat[0], 5)
    return figure


def _calibrations(sweep: Sweep) -> list[tuple[str, Path, CalibrationSummary]]:
    """The title, file and summary of the first run of each level that has ranks."""
    first: dict[float, tuple[str, Path, CalibrationSummary]] = {}
    for run in sweep.finished:
        calibration = run.evaluation.calibration if run.evaluation else None
        path = sweep.run_path(run) / "evaluation.npz"
        if calibration is not None and calibration.num_examples and path.exists():
            first.setdefault(run.level, (level_title(sweep, run.level), path, calibration))
    return list(first.values())


def _draw_run(axes: Axes, run: Calibrated) -> None:
    places = np.linspace(0.0, 1.0, len(run.low))
    axes.fill_between(places, run.low, run.high, color=BAND_COLOR, linewidth=0, zorder=0.5)
    axes.axhline(0.0, color="black", linewidth=0.5)
    for name, curve in run.latents.items():
        color = COLORS[0] if name in run.rejected else GREY
        axes.plot(places, curve, color=color, linewidth=0.6)
    if run.rejected:
        worst = run.latents[run.rejected[0]]
        axes.plot(places, worst, color=COLORS[1], linewidth=1.8)
        peak = int(np.argmax(np.abs(worst)))
        axes.annotate(
            run.rejected[0],
            (places[peak], worst[peak]),
            xytext=(0.0, 3.0 if worst[peak] > 0.0 else -3.0),
            textcoords="offset points",
            ha="center",
            va="bottom" if worst[peak] > 0.0 else "top",
            color=COLORS[1],
            weight="bold",
        )
    axes.plot(places, run.log_joint, color="black", linestyle=(0, (4, 1.5)), linewidth=1.4)
    axes.set_title(run.title, loc="left")
    axes.set_xlim(0.0, 1.0)
    axes.margins(y=0.12)  # room for the number


def _explain(axes: Axes, panels: Sequence[Calibrated]) -> None:
    """Names the looks that are there in the legend."""
    for label, color, width, is_there in (
        ("latent inside the band", GREY, 0.6, lambda run: len(run.rejected) < len(run.latents)),
        ("latent outside", COLORS[0], 0.6, lambda run: len(run.rejected) > 1),
        ("worst latent", COLORS[1], 1.8, lambda run: len(run.rejected) > 0),
    ):
        if any(map(is_there, panels)):
            axes.plot([], [], color=color, linewidth=width, label=label)
    axes.plot([], [], color="black", linewidth=1.4, linestyle=(0, (4, 1.5)), label="log p(x, z)")
    axes.fill_between([], [], [], color=BAND_COLOR, label="band of a calibrated q(z|x)")
