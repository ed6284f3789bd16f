"""The tables of a sweep's report: numbers with their standard errors, as printed text."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tfp_smvi.classification.results import ENCODER
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.core.quantities import OF_DIVERGENCE, QUANTITIES, Quantity
from tfp_smvi.evaluation.results import SplitSummary
from tfp_smvi.report import points as figure_data
from tfp_smvi.report.cells import (
    DASH,
    density_units,
    format_estimate,
    format_percent,
    format_range,
    format_seconds,
    point_at,
)
from tfp_smvi.report.differences import difference_to_lam_0, format_difference
from tfp_smvi.report.level_names import symbol
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.results import Sweep
from tfp_smvi.sweeps.stages import STAGES

__all__ = [
    "Table",
    "accuracy_tables",
    "diagnostics_table",
    "difference_by_epoch_tables",
    "difference_tables",
    "likelihood_table",
    "runs_table",
]

# The columns of the two tables of the evaluation.
LIKELIHOOD = ("gap", "log_likelihood", "elbo")
DIAGNOSTICS = ("iwae_bound", "kl")
OF_THE_CHAINS = ("effective_sample_size", "acceptance_rate")


class Table(NamedTuple):
    """A table in words.

    Attributes:
        caption: what it shows.
        header: the columns' names.
        rows: the cells, as many in each row as the header has.
        num_names: how many cells at the beginning of a row are its name.
    """

    caption: str
    header: list[str]
    rows: list[list[str]]
    num_names: int


def likelihood_table(sweep: Sweep) -> Table | None:
    """What inference and likelihood are, a row per lam, seed and split; None if not evaluated."""
    divergences = [quantity for quantity in OF_DIVERGENCE.values() if _is_known(sweep, quantity)]
    names = (*LIKELIHOOD, *(quantity.name for quantity in divergences))
    gap, *others = (QUANTITIES[name].heading for name in names)
    header = [symbol(sweep), "seed", "split", gap, "bracket", *others, "λ reached"]
    units = ", ".join(f"{quantity.short} in {quantity.unit}" for quantity in divergences)
    caption = (
        f"Means over examples ± one standard error, in nats ({units}). The "
        "bracket is the upper minus the lower bound of log p(x) on examples simulated from the "
        "model: the log-likelihoods, and with them the gaps, may be too low by about that much. "
        "“λ reached” is what λ had grown to at the end of the training."
    )

    def cells(run: Entry, summary: SplitSummary, bracket: Estimate) -> list[str]:
        gap, *others = (_summary_cell(summary, name) for name in names)
        return [gap, format_estimate(bracket, 3), *others, _reached(run)]

    def means(lam: float, split: str) -> list[str]:
        gap, *others = (_mean_cell(sweep, split, name, lam) for name in names)
        return [gap, format_range(point_at(figure_data.brackets(sweep), lam), 3), *others, ""]

    rows = _evaluation_rows(sweep, cells, means)
    caption += density_units(sweep) + _about_means(sweep)
    return Table(caption, header, rows, 3) if rows else None


def diagnostics_table(sweep: Sweep) -> Table | None:
    """What else `evaluate` found, by lam, seed and split; None if nothing was evaluated."""
    headings = [QUANTITIES[name].heading for name in (*DIAGNOSTICS, *OF_THE_CHAINS)]
    header = [symbol(sweep), "seed", "split", "examples", *headings, "active units"]
    caption = (
        "More of the same evaluation, in nats: the importance weighted bound (IWAE) and the KL "
        "divergence to the prior. The chains of annealed importance sampling (AIS) have an "
        f"effective sample size, of {sweep.summary.config.evaluate.ais.num_chains}, and an "
        "acceptance rate. Active units are the latents that depend on x."
    )

    def cells(run: Entry, summary: SplitSummary, bracket: Estimate) -> list[str]:
        diagnostics = [_summary_cell(summary, name) for name in DIAGNOSTICS]
        sizes = summary.effective_sample_size
        chains = format_estimate(Estimate(sizes.mean, sizes.standard_error), 2)
        rate = format_estimate(Estimate(summary.acceptance_rate.mean), 2)
        active = summary.format_active_units()
        return [f"{summary.num_examples:,}", *diagnostics, chains, rate, active]

    def means(lam: float, split: str) -> list[str]:
        return ["", *(_mean_cell(sweep, split, name, lam) for name in DIAGNOSTICS), "", "", ""]

    rows = _evaluation_rows(sweep, cells, means)
    return Table(caption + _about_means(sweep), header, rows, 3) if rows else None


def accuracy_tables(sweep: Sweep) -> dict[str, Table]:
    """The final accuracy by kernel: a row per lam and seed, and the baselines."""
    numbers = figure_data.label_numbers(sweep)
    tables = {}
    for kernel in figure_data.kernels(sweep):
        caption = (
            f"Accuracy on the test set in percent, {kernel} kernel: means over the subsets of "
            "labels ± one standard error. A row per λ and seed, then the same classifier on other "
            "features."
        )
        header = [symbol(sweep), "seed", *_labels(numbers)]
        rows = _accuracy_rows(sweep, kernel, numbers)
        tables[kernel] = Table(caption + _about_means(sweep), header, rows, 2)
    return tables


def difference_tables(sweep: Sweep) -> dict[str, Table]:
    """The paired differences to lam = 0 by kernel, with their mean over seeds."""
    numbers = figure_data.label_numbers(sweep)
    tables = {}
    for kernel in figure_data.kernels(sweep):
        rows = []
        for lam, runs in _by_lam(sweep):
            groups = [(_name(run), [run]) for run in runs]
            if len(runs) > 1:
                groups.append((_mean_row(lam, []), runs))
            for name, group in groups if lam != 0.0 else ():
                cells = [difference_to_lam_0(sweep, group, kernel, number) for number in numbers]
                if any(cells):
                    rows.append([*name, *map(format_difference, cells)])
        caption = (
            "Accuracy minus that at λ = 0 with the same seed, in percentage points, "
            f"{kernel} kernel: mean of the differences subset by subset of labels ± one standard "
            "error, and the 95 % interval by Student's t. With one seed they include the chance of "
            "the labels but not that of the training; rows “mean” are over all seeds of a λ, and "
            "include both."
        )
        if rows:
            tables[kernel] = Table(caption, [symbol(sweep), "seed", *_labels(numbers)], rows, 2)
    return tables


def difference_by_epoch_tables(sweep: Sweep) -> dict[str, Table]:
    """The paired differences during training by kernel; none with a single epoch."""
    epochs = sorted({epoch for run in sweep.finished for epoch in run.classifications})
    tables = {}
    for kernel in figure_data.kernels(sweep) if len(epochs) > 1 else ():
        rows = []
        for lam, runs in _by_lam(sweep):
            for number in figure_data.label_numbers(sweep) if lam != 0.0 else ():
                cells = [
                    difference_to_lam_0(sweep, runs, kernel, number, epoch) for epoch in epochs
                ]
                if any(cells):
                    name = [figure_data.lam_label(lam), f"{number:,}"]
                    rows.append([*name, *map(format_difference, cells)])
        caption = (
            f"The same by epoch of the training, {kernel} kernel, means over all seeds of a λ."
        )
        if rows:
            header = [symbol(sweep), "labels", *(f"epoch {epoch}" for epoch in epochs)]
            tables[kernel] = Table(caption, header, rows, 2)
    return tables


def runs_table(sweep: Sweep) -> Table:
    """The state of each run, and how long its stages took."""
    stages = tuple(STAGES)
    rows = [
        [
            *_name(run),
            run.status,
            *(format_seconds(run.seconds.get(stage)) for stage in stages),
            run.error or "",
        ]
        for run in sweep.runs
    ]
    return Table(
        "All runs of the sweep.",
        [symbol(sweep), "seed", "status", *stages, "error"],
        rows,
        2,
    )


def _by_lam(sweep: Sweep) -> list[tuple[float, list[Entry]]]:
    return [
        (lam, list(runs)) for lam, runs in itertools.groupby(sweep.finished, lambda run: run.level)
    ]


def _evaluation_rows(
    sweep: Sweep,
    cells: Callable[[Entry, SplitSummary, Estimate], list[str]],
    means: Callable[[float, str], list[str]],
) -> list[list[str]]:
    """A row for each run and split, and for the mean over the seeds of each lam.

    Args:
        sweep: the sweep.
        cells: those of a run and split, with its bracket, after their name.
        means: those of the mean of a lam on a split.
    """
    rows = []
    for lam, runs in _by_lam(sweep):
        rows += [
            [*_name(run), split, *cells(run, summary, run.evaluation.bracket.width)]
            for run in runs
            if run.evaluation
            for split, summary in run.evaluation.splits.items()
        ]
        if len(sweep.seeds) > 1:
            for split in figure_data.splits(sweep):
                rows.append(_mean_row(lam, [split, *means(lam, split)]))
    return rows


def _is_known(sweep: Sweep, quantity: Quantity) -> bool:
    """Whether some run has a quantity: not D_w if all were evaluated by version 0.1."""
    evaluations = (run.evaluation for run in sweep.finished if run.evaluation)
    summaries = (summary for evaluation in evaluations for summary in evaluation.splits.values())
    return any(getattr(summary, quantity.name) is not None for summary in summaries)


def _summary_cell(summary: SplitSummary, quantity: str) -> str:
    estimate: Estimate | None = getattr(summary, quantity)
    return DASH if estimate is None else format_estimate(estimate, _places(quantity))


def _mean_cell(sweep: Sweep, split: str, quantity: str, lam: float) -> str:
    """What the figures show of a lam: the mean over seeds and their range."""
    points = figure_data.estimates(sweep, split, quantity)
    return format_range(point_at(points, lam), _places(quantity))


def _reached(run: Entry) -> str:
    reached = run.lam_reached
    return DASH if reached is None else figure_data.lam_label(float(f"{reached:.3g}"))


def _accuracy_rows(sweep: Sweep, kernel: str, numbers: Sequence[int]) -> list[list[str]]:
    """A row for each run, for the mean over seeds of each lam, and for each baseline."""
    rows, curves = [], [figure_data.accuracies(sweep, kernel, number) for number in numbers]
    for lam, runs in _by_lam(sweep):
        for run in runs:
            results = [figure_data.accuracy(run, ENCODER, kernel, number) for number in numbers]
            if any(results):
                cells = [format_percent(result.estimate if result else None) for result in results]
                rows.append([*_name(run), *cells])
        if len(sweep.seeds) > 1:
            points = [point_at(curve, lam) for curve in curves]
            if any(points):
                rows.append(_mean_row(lam, [format_range(point, 2, 100.0) for point in points]))
    for features, name in figure_data.BASELINES.items():
        levels = [figure_data.baseline(sweep, features, kernel, number) for number in numbers]
        if any(levels):
            rows.append([name, "", *map(format_percent, levels)])
    return rows


def _mean_row(lam: float, cells: Sequence[str]) -> list[str]:
    return [figure_data.lam_label(lam), "mean", *cells]


def _about_means(sweep: Sweep) -> str:
    return (
        " Rows “mean”: over seeds, with the lowest and the highest seed, which is no interval of "
        "confidence."
        if len(sweep.seeds) > 1
        else ""
    )


def _places(quantity: str) -> int:
    return 3 if quantity == "gap" else 2


def _name(run: Entry) -> list[str]:
    return [figure_data.lam_label(run.level), str(run.seed)]


def _labels(numbers: Sequence[int]) -> list[str]:
    return [f"{number:,} labels" for number in numbers]
