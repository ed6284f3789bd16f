"""sweep.csv: the numbers of sweep.json, a row per lam, seed, split and number of labels."""

import csv
import io
import math
from collections.abc import Iterator, Sequence

from tfp_smvi.classification.results import Accuracy
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.evaluation.results import Evaluation
from tfp_smvi.sweeps.entries import Entry

__all__ = ["COLUMNS", "Row", "format_csv", "rows_of"]

Cell = str | int | float | None
Row = dict[str, Cell]

# The quantities of an evaluation that have a column, and one for their standard error.
ESTIMATES = ("elbo", "log_likelihood", "gap", "divergence")
LATER_ESTIMATES = ("weighted_divergence",)  # in columns at the end, as version 0.1 lacks them


def _columns(estimates: Sequence[str]) -> Iterator[str]:
    """Two columns for each estimate."""
    for name in estimates:
        yield from (name, f"{name}_standard_error")


COLUMNS = (
    *("lam", "seed", "status", "split", "num_examples"),
    *_columns(ESTIMATES),
    *("bracket", "bracket_standard_error"),
    *("acceptance_rate", "effective_sample_size", "active_units"),
    *("features", "kernel", "num_labels", "accuracy", "accuracy_standard_error"),
    "lam_reached",
    *_columns(LATER_ESTIMATES),
    *("target_gap", "log_scale"),
)


def format_csv(runs: Sequence[Entry]) -> str:
    """Lays runs out as CSV; what is not known is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for entry in runs:
        writer.writerows(rows_of(entry))
    return text.getvalue()


def rows_of(entry: Entry) -> Iterator[Row]:
    """A row for each split and each result of classifying; at least one row."""
    run: Row = {
        "lam": entry.lam,
        "target_gap": entry.target_gap,
        "seed": entry.seed,
        "status": entry.status,
        "lam_reached": entry.lam_reached,
    }
    evaluation, classification = entry.evaluation, entry.classification
    splits: list[Row] = [{}]
    if evaluation is not None:
        splits = [_split_columns(evaluation, split) for split in evaluation.splits]
    results: list[Row] = [{}]
    if classification is not None:
        results = [*map(_result_columns, classification.results)]
    for split in splits:
        for result in results:
            yield run | split | result


def _split_columns(evaluation: Evaluation, split: str) -> Row:
    summary, width = evaluation.splits[split], evaluation.bracket.width
    columns: Row = {"split": split, "num_examples": summary.num_examples}
    for name in (*ESTIMATES, *LATER_ESTIMATES):
        estimate: Estimate | None = getattr(summary, name)
        if estimate is not None:
            columns[name] = _known(estimate.mean)
            columns[f"{name}_standard_error"] = _known(estimate.standard_error)
    scales = evaluation.log_scale or {}
    return columns | {
        "log_scale": scales.get(split),
        "bracket": _known(width.mean),
        "bracket_standard_error": _known(width.standard_error),
        "acceptance_rate": _known(summary.acceptance_rate.mean),
        "effective_sample_size": _known(summary.effective_sample_size.mean),
        "active_units": summary.active_units,
    }


def _result_columns(result: Accuracy) -> Row:
    return {
        "features": result.features,
        "kernel": result.kernel,
        "num_labels": result.num_labels,
        "accuracy": _known(result.mean),
        "accuracy_standard_error": _known(result.standard_error),
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
