"""The tables of a sweep's report: numbers with their standard errors, as printed text."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from tfp_smvi.classification.results import ENCODER
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.core.quantities import QUANTITIES
from tfp_smvi.report import points as figure_data
from tfp_smvi.report.differences import difference_to_lam_0, format_difference
from tfp_smvi.report.points import Point
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.results import Sweep
from tfp_smvi.sweeps.stages import STAGES

__all__ = [
    "Table",
    "accuracy_tables",
    "difference_by_epoch_tables",
    "difference_tables",
    "evaluation_table",
    "format_estimate",
    "runs_table",
]

# The columns of the evaluation.
COLUMNS = ("elbo", "log_likelihood", "gap", "iwae_bound", "kl", "divergence")
DASH = "\N{EN DASH}"


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
    """What `evaluate` found, a row per lam, seed and split; None if nothing was evaluated."""
    rows = []
    for lam, runs in _by_lam(sweep):
        rows += [row for run in runs for row in _evaluation_rows(run)]
        if len(sweep.seeds) > 1:
            rows += _mean_evaluations(sweep, lam)
    headings = [QUANTITIES[name].heading for name in COLUMNS]
    header = ["λ", "seed", "split", "examples", *headings, "bracket", "active units"]
    unit = QUANTITIES["divergence"].unit
    caption = (
        f"Means over examples ± one standard error, in nats (the divergence in {unit}). The "
        "bracket is the upper minus the lower bound of log p(x) on images simulated from the "
        "model: the log-likelihoods, and with them the gaps, may be too low by about that much."
    )
    return Table(caption + _about_means(sweep), header, rows, 3) if rows else None


def accuracy_tables(sweep: Sweep) -> list[Table]:
    """The final accuracy, a table per kernel, a row per lam and seed, and the baselines."""
    numbers = figure_data.label_numbers(sweep)
    tables = []
    for kernel in figure_data.kernels(sweep):
        caption = (
            f"Accuracy on the test set in percent, {kernel} kernel: means over the subsets of "
            "labels ± one standard error. A row per λ and seed, then the same classifier on other "
            "features."
        )
        header = ["λ", "seed", *_labels(numbers)]
        rows = _accuracy_rows(sweep, kernel, numbers)
        tables.append(Table(caption + _about_means(sweep), header, rows, 2))
    return tables


def difference_tables(sweep: Sweep) -> list[Table]:
    """The paired differences to lam = 0, a table per kernel; with their mean over seeds."""
    numbers = figure_data.label_numbers(sweep)
    tables = []
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
            tables.append(Table(caption, ["λ", "seed", *_labels(numbers)], rows, 2))
    return tables


def difference_by_epoch_tables(sweep: Sweep) -> list[Table]:
    """The paired differences during training, a table per kernel; none with a single epoch."""
    epochs = sorted({epoch for run in sweep.finished for epoch in run.classifications})
    tables = []
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
            header = ["λ", "labels", *(f"epoch {epoch}" for epoch in epochs)]
            tables.append(Table(caption, header, rows, 2))
    return tables


def runs_table(sweep: Sweep) -> Table:
    """The state of each run, and how long its stages took."""
    stages = tuple(STAGES)
    rows = [
        [
            *_name(run),
            run.status,
            *(_seconds(run.seconds.get(stage)) for stage in stages),
            run.error or "",
        ]
        for run in sweep.runs
    ]
    return Table("All runs of the sweep.", ["λ", "seed", "status", *stages, "error"], rows, 2)


def format_estimate(estimate: Estimate, places: int, sign: str = "-") -> str:
    """A mean and its standard error, such as "-98.31 ± 0.45" with a true minus sign.

    Args:
        estimate: the two.
        places: the digits after the point.
        sign: "+" to give positive numbers a sign as well.
    """
    mean, error = estimate.mean, estimate.standard_error
    if not math.isfinite(mean):
        return "not finite"
    # z: numbers that round to zero have no sign.
    text = f"{mean:{sign}z,.{places}f}".replace("-", "\N{MINUS SIGN}")
    return f"{text} ± {error:,.{places}f}" if math.isfinite(error) else text


def _percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return DASH
    percent = Estimate(100.0 * estimate.mean, 100.0 * estimate.standard_error)
    return format_estimate(percent, 2)


def _by_lam(sweep: Sweep) -> list[tuple[float, list[Entry]]]:
    return [
        (lam, list(runs)) for lam, runs in itertools.groupby(sweep.finished, lambda run: run.lam)
    ]


def _evaluation_rows(run: Entry) -> list[list[str]]:
    """A row for each split that a run was evaluated on."""
    if run.evaluation is None:
        return []
    bracket = format_estimate(run.evaluation.bracket.width, 3)
    return [
        [
            *_name(run),
            split,
            f"{summary.num_examples:,}",
            *(format_estimate(getattr(summary, name), _places(name)) for name in COLUMNS),
            bracket,
            summary.format_active_units(),
        ]
        for split, summary in run.evaluation.splits.items()
    ]


def _accuracy_rows(sweep: Sweep, kernel: str, numbers: Sequence[int]) -> list[list[str]]:
    """A row for each run, for the mean over seeds of each lam, and for each baseline."""
    rows, curves = [], [figure_data.accuracies(sweep, kernel, number) for number in numbers]
    for lam, runs in _by_lam(sweep):
        for run in runs:
            results = [figure_data.accuracy(run, ENCODER, kernel, number) for number in numbers]
            if any(results):
                cells = [_percent(result.estimate if result else None) for result in results]
                rows.append([*_name(run), *cells])
        if len(sweep.seeds) > 1:
            points = [_point_at(curve, lam) for curve in curves]
            if any(points):
                rows.append(_mean_row(lam, [_range(point, 2, 100.0) for point in points]))
    for features, name in figure_data.BASELINES.items():
        levels = [figure_data.baseline(sweep, features, kernel, number) for number in numbers]
        if any(levels):
            rows.append([name, "", *map(_percent, levels)])
    return rows


def _mean_evaluations(sweep: Sweep, lam: float) -> list[list[str]]:
    """A row for each split: what the figures show of a lam, means over seeds and their range."""
    bracket = _range(_point_at(figure_data.brackets(sweep), lam), 3)
    rows = []
    for split in figure_data.splits(sweep):
        curves = {name: figure_data.estimates(sweep, split, name) for name in COLUMNS}
        cells = [_range(_point_at(curve, lam), _places(name)) for name, curve in curves.items()]
        rows.append(_mean_row(lam, [split, "", *cells, bracket, ""]))
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


def _point_at(points: Sequence[Point], x: float) -> Point | None:
    return next((point for point in points if point.x == x), None)


def _range(point: Point | None, places: int, factor: float = 1.0) -> str:
    """A mean over seeds with its range, such as "-98.31 (-98.50 to -98.10)"."""
    if point is None:
        return DASH
    mean, low, high = (
        format_estimate(Estimate(factor * value), places)
        for value in (point.mean, point.low, point.high)
    )
    return f"{mean} ({low} to {high})"


def _places(quantity: str) -> int:
    return 3 if quantity == "gap" else 2


def _name(run: Entry) -> list[str]:
    return [figure_data.lam_label(run.lam), str(run.seed)]


def _labels(numbers: Sequence[int]) -> list[str]:
    return [f"{number:,} labels" for number in numbers]


def _seconds(value: float | None) -> str:
    """Such as "1:02:03"."""
    if value is None:
        return ""
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
