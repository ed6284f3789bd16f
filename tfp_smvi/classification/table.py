"""The table of a classification, for people."""

import math

from tfp_smvi.classification.results import NAMES, Accuracy, Classification
from tfp_smvi.core.text import align

__all__ = ["format_classification"]


def format_classification(report: Classification) -> str:
    """Lays a report out for people: accuracies in percent, a column per number of labels."""
    settings = report.settings
    cells: dict[str, list[str]] = {}
    for result in report.results:
        name = f"{NAMES[result.features]}, {result.kernel}"
        cells.setdefault(name, []).append(_percent(result))
    rows = [["labels", *map(str, report.sizes)]]
    rows += [[name, *row] for name, row in cells.items()]
    is_single = settings.repeats == 1
    subsets = "one labelled subset" if is_single else f"{settings.repeats} labelled subsets"
    error = "" if is_single else " +/- one standard error"
    text = f"Accuracy on {report.num_test} test examples in percent, mean of {subsets}{error}."
    return "\n".join([*align(rows), "", text])


def _percent(result: Accuracy) -> str:
    """Such as "94.28 +/- 0.11"."""
    mean, error = 100.0 * result.mean, 100.0 * result.standard_error
    return f"{mean:.2f}" if math.isnan(error) else f"{mean:.2f} +/- {error:.2f}"
