"""The table of what is wrong with q(z|x): its moments, and the tails of the importance weights."""

from tfp_smvi.core.estimates import Estimate
from tfp_smvi.evaluation.diagnostics import MomentSummary, TailSummary
from tfp_smvi.evaluation.results import SplitSummary
from tfp_smvi.report.cells import DASH, format_estimate
from tfp_smvi.report.level_names import symbol
from tfp_smvi.report.points import lam_label
from tfp_smvi.report.tables import Table
from tfp_smvi.sweeps.results import Sweep

__all__ = ["posterior_table"]

CAPTION = (
    "q(z|x) compared with p(z|x) in the active latents: the distance of the means in standard "
    "deviations of p(z|x), and the ratio of the standard deviations, each ± one standard error, "
    "with the narrowest and the widest latent. Pareto k is the tail of the importance weights, in "
    "percent of the examples: above 0.7, q(z|x) misses tails or modes of p(z|x)."
)
HEADER = (
    *("distance of the means", "sd of q / sd of p", "narrowest", "widest"),
    *("k up to 0.5", "0.5 to 0.7", "above 0.7"),
)


def posterior_table(sweep: Sweep) -> Table | None:
    """A row per lam, seed and split; None if no run has them."""
    names = [symbol(sweep), "seed", "split"]
    rows = [
        [lam_label(run.level), str(run.seed), split, *_cells(summary)]
        for run in sweep.finished
        if run.evaluation
        for split, summary in run.evaluation.splits.items()
        if summary.moments or summary.tails
    ]
    return Table(CAPTION, [*names, *HEADER], rows, len(names)) if rows else None


def _cells(summary: SplitSummary) -> list[str]:
    return [*_of_moments(summary.moments), *_of_tails(summary.tails)]


def _of_moments(moments: MomentSummary | None) -> list[str]:
    if moments is None:
        return [DASH] * 4
    ratios = [latent.width_ratio.mean for latent in moments.latents]
    extremes = [format_estimate(Estimate(ratio), 2) for ratio in (min(ratios), max(ratios))]
    both = [format_estimate(estimate, 3) for estimate in (moments.shift, moments.width_ratio)]
    return [*both, *extremes]


def _of_tails(tails: TailSummary | None) -> list[str]:
    if tails is None:
        return [DASH] * 3
    shares = (tails.share_good, tails.share_fair, tails.share_bad)
    return [f"{100.0 * share:.0f} %" for share in shares]
