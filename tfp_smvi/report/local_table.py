"""The table of the two halves of the gap, of the runs that were evaluated with --local."""

from tfp_smvi.core.quantities import QUANTITIES
from tfp_smvi.evaluation.local_results import FamilySummary, LocalSummary
from tfp_smvi.report.cells import format_estimate
from tfp_smvi.report.level_names import symbol
from tfp_smvi.report.points import lam_label
from tfp_smvi.report.tables import Table
from tfp_smvi.sweeps.results import Sweep

__all__ = ["local_table"]

CAPTION = (
    "The two halves of the gap, in nats, means over examples ± one standard error. q* is the best "
    "q of a family for each example by itself. The amortization gap is ELBO(q*) minus the ELBO of "
    "the encoder, the approximation gap is log p(x) minus ELBO(q*). An example that has not "
    "converged might gain more. “Other optima” are the examples that end elsewhere from a second "
    "start, of those that converge from both."
)


def local_table(sweep: Sweep) -> Table | None:
    """A row per lam, seed, split and family; None if no run has them."""
    headings = [QUANTITIES[name].heading for name in ("amortization_gap", "approximation_gap")]
    names = [symbol(sweep), "seed", "split", "family"]
    header = [*names, "ELBO(q*)", *headings, "not converged", "other optima"]
    rows = [
        [lam_label(run.level), str(run.seed), split, *cells]
        for run in sweep.finished
        if run.evaluation
        for split, summary in run.evaluation.splits.items()
        if summary.local
        for cells in _cells(summary.local)
    ]
    return Table(CAPTION, header, rows, len(names)) if rows else None


def _cells(local: LocalSummary) -> list[list[str]]:
    """The cells of each family; the second start is of the diagonal one alone."""
    restart = local.restart
    other = {"diagonal": f"{restart.num_other} of {restart.num_examples}"}
    return [
        [name, *_numbers(family), other.get(name, "")] for name, family in local.families.items()
    ]


def _numbers(family: FamilySummary) -> list[str]:
    return [
        format_estimate(family.elbo, 2),
        format_estimate(family.amortization_gap, 3),
        format_estimate(family.approximation_gap, 3),
        f"{100.0 * family.share_not_converged:.0f} %",
    ]
