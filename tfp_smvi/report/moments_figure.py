"""The figure of the moments: how wide q(z|x) is and how far off its mean, latent by latent."""

import math
from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfp_smvi.core.estimates import Estimate
from tfp_smvi.evaluation.diagnostics import LatentMoments, MomentSummary, root
from tfp_smvi.report.layout import WIDE, Layout, legend_below, panel_title
from tfp_smvi.report.level_names import level_title
from tfp_smvi.report.marks import explain_marks
from tfp_smvi.report.points import Point
from tfp_smvi.report.style import GREY, Line, draw_band, lam_lines
from tfp_smvi.sweeps.results import Sweep

__all__ = ["draw_moments", "has_moments"]

# Half of a 95 % interval in standard errors: there are many examples.
HALF_WIDTH = 1.96


def has_moments(sweep: Sweep) -> bool:
    """Whether a run was evaluated with the moments of its posterior."""
    return bool(_first_moments(sweep))


def draw_moments(sweep: Sweep, layout: Layout = WIDE) -> Figure:
    """Draws the width ratio and the shift of the active latents, each in its own order."""
    size, shape = (5.6, (2, 1)) if layout.stacked else (3.2, (1, 2))
    figure = Figure(figsize=(layout.width, size), layout="constrained")
    left, right = figure.subplots(*shape)
    moments, looks = _first_moments(sweep), lam_lines(run.level for run in sweep.finished)
    for level, summary in moments.items():
        name = level_title(sweep, level)
        _draw(left, summary, lambda latent: latent.width_ratio, looks[level], name)
        _draw(right, summary, lambda latent: root(latent.squared_shift), looks[level], name)
    left.axhline(1.0, color=GREY, linewidth=0.8, zorder=1)
    right.set_ylim(bottom=0.0)
    panel_title(left, "a", "width of q(z|x)")
    panel_title(right, "b", "distance of its mean")
    left.set_ylabel("sd of q / sd of p")
    right.set_ylabel("distance / sd of p")
    for axes in (left, right):
        axes.set_xlabel("active latents, in ascending order")
        axes.xaxis.get_major_locator().set_params(integer=True)
    explain_marks(left, sweep, hollow=False)
    legend_below(figure, left, 8)
    return figure


def _draw(
    axes: Axes,
    moments: MomentSummary,
    value: Callable[[LatentMoments], Estimate],
    line: Line,
    name: str,
) -> None:
    estimates = map(value, moments.latents)
    finite_estimates = [estimate for estimate in estimates if math.isfinite(estimate.mean)]
    points = []
    for rank, estimate in enumerate(
        sorted(finite_estimates, key=lambda estimate: estimate.mean), start=1
    ):
        error = 0.0 if math.isnan(estimate.standard_error) else HALF_WIDTH * estimate.standard_error
        points.append(Point(rank, estimate.mean, estimate.mean - error, estimate.mean + error, 1))
    draw_band(axes, points, line, name)


def _first_moments(sweep: Sweep) -> dict[float, MomentSummary]:
    """The moments of the first run of each level that has them, of its test data if possible."""
    summaries: dict[float, MomentSummary] = {}
    for run in sweep.finished:
        splits = run.evaluation.splits if run.evaluation else {}
        for name in sorted(splits):
            moments = splits[name].moments
            if moments is not None:
                summaries.setdefault(run.level, moments)
    return summaries
