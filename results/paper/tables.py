"""The tables of README.md, from what collect.py and probes.py have written: python tables.py.

    python tables.py [FOLDER ...]

Each FOLDER holds the sweep.json of one sweep; by default those here. Differences are to the run
with lam 0 and the same seed, subset by subset of the labels, and those of one lam in several sweeps
are those of several seeds. Intervals are those of 95 % by Student's t (`crossed_mean`).
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tfp_smvi.classification.results import ENCODER
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.report.differences import crossed_mean, paired_differences
from tfp_smvi.report.points import accuracy, kernels, label_numbers
from tfp_smvi.sweeps.entries import format_lam
from tfp_smvi.sweeps.results import Sweep, read_sweep

FOLDER = Path(__file__).parent
DASH = "-"
HEADS = ["run", "gap, test", "gap, train", "bracket", "log p(x)", "ELBO", "D_SM", "active units"]
# Accuracies by M1 + TSVM, and by an SVM on the features of M1, in percent by number of labels.
TO_PASS = {
    "M1+TSVM": {600: 94.28, 1000: 95.76, 3000: 96.51},
    "SVM on M1": {600: 93.8, 1000: 95.5, 3000: 97.3},
}


def main() -> None:
    """Prints them."""
    folders = [Path(name) for name in sys.argv[1:]] or sorted(
        path.parent for path in FOLDER.glob("*/sweep.json")
    )
    sweeps = {folder.name: read_sweep(folder) for folder in folders}
    for name, sweep in sweeps.items():
        print(f"## {name}\n")
        _print_likelihoods(sweep)
        for kernel in kernels(sweep):
            _print_accuracies(sweep, kernel)
    print("## Differences to lam 0 over seeds, percentage points\n")
    for kernel in ("rbf", "linear"):
        _print_seeds([*sweeps.values()], kernel)
    for path in sorted(FOLDER.glob("probes*.json")):
        _print_probes(path.stem, json.loads(path.read_text()))


def _print_likelihoods(sweep: Sweep) -> None:
    rows = []
    for entry in sweep.finished:
        if entry.evaluation is None:
            continue
        splits, bracket = entry.evaluation.splits, entry.evaluation.bracket
        test, train = splits["test"], splits.get("train")
        rows.append(
            [
                _name(entry.level, entry.seed),
                _estimate(test.gap),
                DASH if train is None else _estimate(train.gap),
                DASH if bracket is None else _estimate(bracket.width),
                _estimate(test.log_likelihood, 2),
                _estimate(test.elbo, 2),
                DASH if test.divergence is None else _estimate(test.divergence, 1),
                str(test.active_units),
            ]
        )
    _print_table(HEADS, rows)


def _print_accuracies(sweep: Sweep, kernel: str) -> None:
    """Accuracies in percent, and in brackets their differences to lam 0."""
    sizes = label_numbers(sweep)
    rows = []
    for entry in sweep.finished:
        for epoch in entry.classifications:
            cells = [_name(entry.level, entry.seed), str(epoch)]
            for size in sizes:
                result = accuracy(entry, ENCODER, kernel, size, epoch)
                if result is None:
                    cells.append(DASH)
                    continue
                cell = f"{100 * result.mean:.2f} +/- {100 * result.standard_error:.2f}"
                values = paired_differences(sweep, entry, kernel, size, epoch)
                if values is not None and entry.level != 0.0:
                    cell += f" ({_difference(values[None])})"
                cells.append(cell)
            rows.append(cells)
    print(f"{kernel}:\n")
    _print_table(["run", "epoch", *(f"{size:,} labels" for size in sizes)], rows)


def _print_seeds(sweeps: Sequence[Sweep], kernel: str) -> None:
    """The differences at the end of the training, of all sweeps that have a lam and a size."""
    rows = []
    for lam in sorted({e.level for s in sweeps for e in s.finished if e.level != 0.0}):
        for size in sorted({size for sweep in sweeps for size in label_numbers(sweep)}):
            differences = [
                values
                for sweep in sweeps
                for entry in sweep.finished
                if entry.level == lam
                and (values := paired_differences(sweep, entry, kernel, size)) is not None
            ]
            if len(differences) > 1:
                rows.append([format_lam(lam), f"{size:,}", *_by_seed(differences)])
    _print_table([f"lam, {kernel}", "labels", "by seed", "mean", "95 % interval"], rows)


def _print_probes(name: str, probes: dict[str, dict[str, dict[str, list[float]]]]) -> None:
    """Accuracies of other classifiers, in percent, and those that M1 has to be passed by."""
    print(f"## {name}\n")
    rows = []
    for run, classifiers in probes.items():
        for classifier, by_size in classifiers.items():
            cells = [f"{100 * np.mean(values):.2f}" for values in by_size.values()]
            rows.append([run, classifier, *cells])
    for source, by_size in TO_PASS.items():
        rows.append([source, "", *(f"{value:.2f}" for value in by_size.values())])
    _print_table(["run", "classifier", "600 labels", "1,000", "3,000"], rows)


def _by_seed(differences: Sequence[np.ndarray]) -> list[str]:
    each = ", ".join(f"{100 * values.mean():+.2f}" for values in differences)
    mean = crossed_mean(100.0 * np.stack(differences))
    low, high = mean.mean - mean.half_width, mean.mean + mean.half_width
    return [
        each,
        f"{mean.mean:+.2f} +/- {mean.standard_error:.2f}",
        f"{low:+.2f} to {high:+.2f}",
    ]


def _difference(values: np.ndarray) -> str:
    mean = crossed_mean(100.0 * values)
    return f"{mean.mean:+.2f} +/- {mean.standard_error:.2f}"


def _estimate(estimate: Estimate, places: int = 3) -> str:
    return f"{estimate.mean:.{places}f} +/- {estimate.standard_error:.{places}f}"


def _name(level: float, seed: int) -> str:
    return f"{format_lam(level)}, seed {seed}"


def _print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    for cells in (heads, ["---"] * len(heads), *rows):
        print("|", " | ".join(cells), "|")
    print()


if __name__ == "__main__":
    main()
