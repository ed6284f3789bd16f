"""The tables of a sweep's report: numbers with their standard errors, as text in print."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from tfp_smvi.report import points as figure_data
from tfp_smvi.report.differences import difference_to_lam_0
from tfp_smvi.report.points import Point
from tfp_smvi.sweeps.results import Estimate, Run, Sweep

__all__ = [
    "Table",
    "accuracy_tables",
    "difference_by_epoch_tables",
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
    rows = []
    for lam, runs in _by_lam(sweep):
        evaluated = [(run, run.evaluation) for run in runs if run.evaluation]
        rows += [
            [
                *_name(run),
                split,
                f"{evaluation.num_examples[split]:,}",
                *(format_estimate(quantities[name], _places(name)) for name in QUANTITIES),
                format_estimate(evaluation.bracket, 3),
                evaluation.active_units[split],
            ]
            for run, evaluation in evaluated
            for split, quantities in evaluation.splits.items()
        ]
        if len(sweep.seeds) > 1:
            rows += _mean_evaluations(sweep, lam)
    header = ["λ", "seed", "split", "examples", *QUANTITIES.values(), "bracket", "active units"]
    caption = (
        "Means over examples ± one standard error, in nats (the divergence in squared nats per squared unit of z). "
        "The bracket is the upper minus the lower bound of log p(x) on images simulated from the model: the "
        "log-likelihoods, and with them the gaps, may be too low by about that much."
        + _about_means(sweep)
    )
    return Table(caption, header, rows, 3) if rows else None


def accuracy_tables(sweep: Sweep) -> list[Table]:
    """The final accuracy, a table per kernel, a row per lam and seed, and those of the baselines."""
    numbers = figure_data.label_numbers(sweep)
    tables = []
    for kernel in figure_data.kernels(sweep):
        rows, curves = [], [figure_data.accuracies(sweep, kernel, number) for number in numbers]
        for lam, runs in _by_lam(sweep):
            for run in runs:
                found = [figure_data.accuracy(run, "encoder", kernel, number) for number in numbers]
                if any(found):
                    rows.append([*_name(run), *(_percent(one and one.estimate) for one in found)])
            if len(sweep.seeds) > 1:
                points = [_point_at(curve, lam) for curve in curves]
                if any(points):
                    rows.append(_mean_row(lam, [_range(point, 2, 100.0) for point in points]))
        for features, name in figure_data.BASELINES.items():
            levels = [figure_data.baseline(sweep, features, kernel, number) for number in numbers]
            if any(levels):
                rows.append([name, "", *map(_percent, levels)])
        caption = (
            f"Accuracy on the test set in percent, {kernel} kernel: means over the subsets of labels ± one standard "
            "error. A row per λ and seed, then the same classifier on other features."
            + _about_means(sweep)
        )
        tables.append(Table(caption, ["λ", "seed", *_labels(numbers)], rows, 2))
    return tables


def difference_tables(sweep: Sweep) -> list[Table]:
    """The paired differences to lam = 0, a table per kernel; with several seeds also their mean over seeds."""
    numbers = figure_data.label_numbers(sweep)
    tables = []
    for kernel in figure_data.kernels(sweep):
        rows = []
        for lam, runs in _by_lam(sweep):
            groups = [(_name(run), [run]) for run in runs]
            if len(runs) > 1:
                groups.append((_mean_row(lam, []), runs))
            for name, group in groups if lam != 0.0 else ():
                found = [difference_to_lam_0(sweep, group, kernel, number) for number in numbers]
                if any(found):
                    rows.append([*name, *(_percent(one, sign="+") for one in found)])
        caption = (
            f"Accuracy minus that at λ = 0 with the same seed, in percentage points, {kernel} kernel: mean of the "
            "differences subset by subset of labels ± one standard error. With one seed that error holds the chance "
            "of the labels and not that of the training; rows “mean” are over all seeds of a λ, and theirs holds both."
        )
        if rows:
            tables.append(Table(caption, ["λ", "seed", *_labels(numbers)], rows, 2))
    return tables


def difference_by_epoch_tables(sweep: Sweep) -> list[Table]:
    """The paired differences to lam = 0 in the course of training, a table per kernel; none with a single epoch."""
    epochs = sorted({found.epoch for run in sweep.finished for found in run.accuracies})
    tables = []
    for kernel in figure_data.kernels(sweep) if len(epochs) > 1 else ():
        rows = []
        for lam, runs in _by_lam(sweep):
            for number in figure_data.label_numbers(sweep) if lam != 0.0 else ():
                found = [
                    difference_to_lam_0(sweep, runs, kernel, number, epoch) for epoch in epochs
                ]
                if any(found):
                    name = [figure_data.lam_label(lam), f"{number:,}"]
                    rows.append([*name, *(_percent(one, sign="+") for one in found)])
        caption = (
            f"The same by epoch of the training, {kernel} kernel, means over all seeds of a λ."
        )
        if rows:
            header = ["λ", "labels", *(f"epoch {epoch}" for epoch in epochs)]
            tables.append(Table(caption, header, rows, 2))
    return tables


def runs_table(sweep: Sweep) -> Table:
    """What became of each run, and how long its parts took."""
    parts = ("train", "evaluate", "classify")
    rows = [
        [
            *_name(run),
            run.status,
            *(_seconds(run.seconds.get(part)) for part in parts),
            run.error or "",
        ]
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
    return format_estimate(
        Estimate(100.0 * estimate.mean, 100.0 * estimate.standard_error), 2, sign
    )


def _by_lam(sweep: Sweep) -> list[tuple[float, list[Run]]]:
    return [
        (lam, list(runs)) for lam, runs in itertools.groupby(sweep.finished, lambda run: run.lam)
    ]


def _mean_evaluations(sweep: Sweep, lam: float) -> list[list[str]]:
    """A row for each split: what the figures show of a lam, means over seeds and their range."""
    bracket = _range(_point_at(figure_data.brackets(sweep), lam), 3)
    rows = []
    for split in figure_data.splits(sweep):
        curves = {name: figure_data.estimates(sweep, split, name) for name in QUANTITIES}
        cells = [_range(_point_at(curve, lam), _places(name)) for name, curve in curves.items()]
        rows.append(_mean_row(lam, [split, "", *cells, bracket, ""]))
    return rows


def _mean_row(lam: float, cells: Sequence[str]) -> list[str]:
    return [figure_data.lam_label(lam), "mean", *cells]


def _about_means(sweep: Sweep) -> str:
    return (
        " Rows “mean”: over seeds, with the lowest and the highest seed."
        if len(sweep.seeds) > 1
        else ""
    )


def _point_at(points: Sequence[Point], x: float) -> Point | None:
    return next((point for point in points if point.x == x), None)


def _range(point: Point | None, places: int, factor: float = 1.0) -> str:
    """A mean over seeds with its range, such as "-98.31 (-98.50 to -98.10)"."""
    if point is None:
        return "\N{EN DASH}"
    mean, low, high = (
        format_estimate(Estimate(factor * value, math.nan), places)
        for value in (point.mean, point.low, point.high)
    )
    return f"{mean} ({low} to {high})"


def _places(quantity: str) -> int:
    return 3 if quantity == "gap" else 2


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
