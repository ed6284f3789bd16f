"""The tables for a page, from what collect.py and probes.py have written.

    python tables.py [FOLDER ...]

Each FOLDER holds the sweep.json of one sweep; by default those here. The tables of each are those
of `tfp-smvi report`. Differences to lam 0 at one lam in several sweeps are those of several seeds,
with 95 % intervals by Student's t (`crossed_mean`).
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import numpy as np

from tfp_smvi.report.differences import crossed_mean, format_difference, paired_differences
from tfp_smvi.report.points import label_numbers
from tfp_smvi.report.tables import (
    accuracy_tables,
    difference_by_epoch_tables,
    difference_tables,
    likelihood_table,
)
from tfp_smvi.sweeps.entries import format_lam
from tfp_smvi.sweeps.results import Sweep, read_sweep

# Accuracies of the draws, by run, classifier and number of labels.
Probes = dict[str, dict[str, dict[str, list[float]]]]

FOLDER = Path(__file__).parent
LABELS = ("600 labels", "1,000 labels", "3,000 labels")
# Accuracies by M1 + TSVM, and by an SVM on the features of M1, in percent by number of labels.
TO_PASS = {
    "M1+TSVM": {600: 94.28, 1000: 95.76, 3000: 96.51},
    "SVM on M1": {600: 93.8, 1000: 95.5, 3000: 97.3},
}


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(exists=True, path_type=Path))
def main(folders: tuple[Path, ...]) -> None:
    """Prints them."""
    paths = folders or sorted(path.parent for path in FOLDER.glob("*/sweep.json"))
    sweeps = [read_sweep(path) for path in paths]
    for path, sweep in zip(paths, sweeps, strict=True):
        _print_sweep(path.name, sweep)
    for kernel in ("rbf", "linear"):
        _print_seeds(sweeps, kernel)
    for path in sorted(FOLDER.glob("probes*.json")):
        _print_probes(path.stem, json.loads(path.read_text()))


def _print_sweep(name: str, sweep: Sweep) -> None:
    if (table := likelihood_table(sweep)) is not None:
        _print_table(name, table.header, table.rows)
    for tables in (accuracy_tables, difference_tables, difference_by_epoch_tables):
        for kernel, table in tables(sweep).items():
            _print_table(
                f"{name}, {tables.__name__.replace('_', ' ')}, {kernel}", table.header, table.rows
            )


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
                seeds = ", ".join(f"{100 * values.mean():+.2f}" for values in differences)
                mean = format_difference(crossed_mean(np.stack(differences)))
                rows.append([format_lam(lam), f"{size:,}", seeds, mean])
    _print_table(f"Differences over seeds, {kernel}", ["lam", "labels", "by seed", "mean"], rows)


def _print_probes(name: str, probes: Probes) -> None:
    """Accuracies of other classifiers, in percent, and those of M1 that they are to exceed."""
    rows = [
        [run, classifier, *(f"{100 * np.mean(values):.2f}" for values in by_size.values())]
        for run, classifiers in probes.items()
        for classifier, by_size in classifiers.items()
    ]
    for source, numbers in TO_PASS.items():
        rows.append([source, "", *(f"{value:.2f}" for value in numbers.values())])
    _print_table(name, ["run", "classifier", *LABELS], rows)
    rows = []
    for (lam, kind, classifier), by_size in _probe_differences(probes).items():
        cells = [format_difference(crossed_mean(np.array(values))) for values in by_size.values()]
        rows.append([f"{lam}{kind}", classifier, *cells])
    _print_table(f"{name}, differences to lam 0", ["lam", "classifier", *LABELS], rows)


def _probe_differences(probes: Probes) -> dict[tuple[str, str, str], dict[str, list[list[float]]]]:
    """Accuracies minus those at lam 0 with the same seed, a row of draws for each seed.

    Keys are (lam, kind of features, classifier), and then the number of labels.
    """
    differences: dict[tuple[str, str, str], dict[str, list[list[float]]]] = {}
    for run, classifiers in probes.items():
        lam, seed, kind = re.fullmatch(r"lam(.+)-seed(\d+)(.*)", run).groups()
        base = probes.get(f"lam0-seed{seed}{kind}")
        if lam == "0" or base is None:
            continue
        for classifier, by_size in classifiers.items():
            rows = differences.setdefault((lam, kind, classifier), {})
            for size, values in by_size.items():
                difference = np.subtract(values, base[classifier][size])
                rows.setdefault(size, []).append(difference.tolist())
    return differences


def _print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    click.echo(f"## {title}\n")
    for cells in (header, ["---"] * len(header), *rows):
        click.echo(f"| {' | '.join(cells)} |")
    click.echo()


if __name__ == "__main__":
    main()
