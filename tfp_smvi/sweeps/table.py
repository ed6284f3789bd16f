"""sweep.csv: the numbers of sweep.json as a table, a row per lam, seed, split and number of labels."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["COLUMNS", "format_csv"]

Row = dict[str, Any]

# Columns of sweep.csv of which there are a value and its standard error, after their names in
# evaluation.json.
ESTIMATES = ("elbo", "log_likelihood", "gap", "divergence")
COLUMNS = (
    *("lam", "seed", "status", "split", "num_examples"),
    *(column for name in ESTIMATES for column in (name, f"{name}_standard_error")),
    *(
        "bracket",
        "bracket_standard_error",
        "acceptance_rate",
        "effective_sample_size",
        "active_units",
    ),
    *("features", "kernel", "num_labels", "accuracy", "accuracy_standard_error"),
)


def format_csv(summary: Mapping[str, Any]) -> str:
    """Lays a summary out as CSV; what is not known is empty.

    Args:
        summary: as in sweep.json.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for entry in summary["runs"]:
        writer.writerows(_rows(entry))
    return text.getvalue()


def _rows(entry: Mapping[str, Any]) -> Iterator[Row]:
    """A row for each split and each result of classifying; at least one row."""
    run = {name: entry[name] for name in ("lam", "seed", "status")}
    evaluation, classification = entry["evaluation"], entry["classification"]
    splits = (
        [{}]
        if evaluation is None
        else [_split_columns(evaluation, s) for s in evaluation["splits"]]
    )
    results = [{}] if classification is None else [*map(_result_columns, classification["results"])]
    for split in splits:
        for result in results:
            yield run | split | result


def _split_columns(evaluation: Mapping[str, Any], split: str) -> Row:
    summary, width = evaluation["splits"][split], evaluation["bracket"]["width"]
    columns = {"split": split, "num_examples": summary["num_examples"]}
    for name in ESTIMATES:
        columns |= {
            name: summary[name]["mean"],
            f"{name}_standard_error": summary[name]["standard_error"],
        }
    return columns | {
        "bracket": width["mean"],
        "bracket_standard_error": width["standard_error"],
        "acceptance_rate": summary["acceptance_rate"]["mean"],
        "effective_sample_size": summary["effective_sample_size"]["mean"],
        "active_units": summary["active_units"],
    }


def _result_columns(result: Mapping[str, Any]) -> Row:
    columns = {name: result[name] for name in ("features", "kernel", "num_labels")}
    return columns | {
        "accuracy": result["mean"],
        "accuracy_standard_error": result["standard_error"],
    }
