"""The tables of a sweep's report: numbers with their standard errors, as text in print."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfp_smvi import figure_data
from tfp_smvi.sweep_results import Estimate, Run, Sweep

__all__ = [
    "Table",
    "accuracy_tables",
    "difference_tables",
    "evaluation_table",
    "format_estimate",
    "runs_table",
]

QUANTITIES = {
    "elbo": "ELBO",
    "log_likelihood": "log-likelihood (AIS)",
    "gap": "gap",
    "iwae_bound": "IWAE bound",
    "kl": "KL(q(z|x), p(z))",
    "divergence": "divergence",
}


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


def evaluation_table(sweep: Sweep) -> Table | None:
    """What `evaluate` found, a row per lam, seed and split; None where nothing was evaluated."""
    rows = [
        [
            *_name(run),
            split,
            f"{run.evaluation.num_examples[split]:,}",
            *(format_estimate(quantities[name], 3 if name == "gap" else 2) for name in QUANTITIES),
            format_estimate(run.evaluation.bracket, 3),
            run.evaluation.active_units[split],
        ]
        for run in sweep.finished
        if run.evaluation
        for split, quantities in run.evaluation.splits.items()
    ]
    header = ["λ", "seed", "split", "examples", *QUANTITIES.values(), "bracket", "active units"]
    caption = (
        "Means over examples ± one standard error, in nats (the divergence in squared nats per squared unit of z). "
        "The bracket is the upper minus the lower bound of log p(x) on images simulated from the model: the "
        "log-likelihoods, and with them the gaps, may be too low by about that much."
    )
    return Table(caption, header, rows, 3) if rows else None


def accuracy_tables(sweep: Sweep) -> list[Table]:
    """The final accuracy, a table per kernel, a row per lam and seed, and those of the baselines."""
    numbers = figure_data.label_numbers(sweep)
    tables = []
    for kernel in figure_data.kernels(sweep):
        rows = []
        for run in sweep.finished:
            found = [figure_data.accuracy(run, "encoder", kernel, number) for number in numbers]
            if any(found):
                rows.append([*_name(run), *(_percent(one and one.estimate) for one in found)])
        for features, name in figure_data.BASELINES.items():
            levels = [figure_data.baseline(sweep, features, kernel, number) for number in numbers]
            if any(levels):
                rows.append([name, "", *map(_percent, levels)])
        caption = (
            f"Accuracy on the test set in percent, {kernel} kernel: means over the subsets of labels ± one standard "
            "error. A row per λ and seed, then the same classifier on other features."
        )
        tables.append(Table(caption, ["λ", "seed", *_labels(numbers)], rows, 2))
    return tables


def difference_tables(sweep: Sweep) -> list[Table]:
    """The paired differences to lam = 0, a table per kernel; with several seeds also their mean over seeds."""
    numbers = figure_data.label_numbers(sweep)
    tables = []
    for kernel in figure_data.kernels(sweep):
        rows = []
        for lam in sorted({run.lam for run in sweep.finished} - {0.0}):
            by_seed = [run for run in sweep.finished if run.lam == lam]
            found = [
                [figure_data.paired_difference(sweep, run, kernel, number) for number in numbers]
                for run in by_seed
            ]
            rows += [
                [*_name(run), *(_percent(one, sign="+") for one in row)]
                for run, row in zip(by_seed, found, strict=True)
                if any(row)
            ]
            if len(by_seed) > 1 and any(map(any, found)):
                columns = [_over_seeds([row[i] for row in found]) for i in range(len(numbers))]
                rows.append(
                    [figure_data.lam_label(lam), "mean", *(_percent(one, sign="+") for one in columns)]
                )
        caption = (
            f"Accuracy minus that at λ = 0 with the same seed, in percentage points, {kernel} kernel: mean of the "
            "differences subset by subset of labels ± one standard error. That error does not hold the chance of the "
            "training; the rows “mean” are over seeds, with the standard error over seeds, which does."
        )
        if rows:
            tables.append(Table(caption, ["λ", "seed", *_labels(numbers)], rows, 2))
    return tables


def runs_table(sweep: Sweep) -> Table:
    """What became of each run, and how long its parts took."""
    parts = ("train", "evaluate", "classify")
    rows = [
        [*_name(run), run.status, *(_seconds(run.seconds.get(part)) for part in parts), run.error or ""]
        for run in sweep.runs
    ]
    return Table("All runs of the sweep.", ["λ", "seed", "status", *parts, "error"], rows, 2)


def format_estimate(estimate: Estimate, places: int, sign: str = "-") -> str:
    """A mean and its standard error, such as "-98.31 ± 0.45" with a true minus sign.

    Args:
        estimate: the two.
        places: the digits after the point.
        sign: "+" to give positive numbers a sign, too.
    """
    mean, error = estimate
    if not math.isfinite(mean):
        return "not finite"
    # z: what rounds to zero has no sign of its own.
    text = f"{mean:{sign}z,.{places}f}".replace("-", "\N{MINUS SIGN}")
    return f"{text} ± {error:,.{places}f}" if math.isfinite(error) else text


def _percent(estimate: Estimate | None, sign: str = "-") -> str:
    if estimate is None:
        return "\N{EN DASH}"
    return format_estimate(Estimate(100.0 * estimate.mean, 100.0 * estimate.standard_error), 2, sign)


def _over_seeds(found: Sequence[Estimate | None]) -> Estimate | None:
    means = [estimate.mean for estimate in found if estimate]
    if len(means) < 2:
        return None
    return Estimate(float(np.mean(means)), float(np.std(means, ddof=1)) / math.sqrt(len(means)))


def _name(run: Run) -> list[str]:
    return [figure_data.lam_label(run.lam), str(run.seed)]


def _labels(numbers: Sequence[int]) -> list[str]:
    return [f"{number:,} labels" for number in numbers]


def _seconds(value: float | None) -> str:
    """Such as "1:02:03"."""
    if value is None:
        return ""
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
