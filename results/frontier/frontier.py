"""The comparison at equal gap in README.md, and its figure, from both sweeps: python frontier.py.

A `weighted` run is compared at its gap with the `fisher` runs on both sides, between which log p(x)
is interpolated linearly in the log of the gap. All runs evaluate the same images with the same bits
and, if they classify, use the same subsets of labels. So a bootstrap that draws images (for
accuracies, subsets) once for all runs gives the standard errors of the differences, those of the
gaps included.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from tfp_smvi.classification.results import ENCODER
from tfp_smvi.report.axes import number_label, percent_label
from tfp_smvi.report.layout import WIDE, legend_below, panel_title, styled
from tfp_smvi.report.style import plain_lines, write_figure
from tfp_smvi.storage.atomic import write_atomically
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.results import read_sweep

FOLDER = Path(__file__).parent
NAMES = ("fisher", "weighted")
KERNEL, LABELS = "rbf", (600, 1000, 3000)
NUM_REPLICATES = 4000


class Run(NamedTuple):
    """A lam: nats of each image, and accuracies, fractions, of each subset of labels."""

    lam: float
    log_likelihood: np.ndarray
    gap: np.ndarray
    accuracies: dict[int, np.ndarray]


def read(name: str) -> list[Run]:
    """The runs of a sweep, in the order of their gaps."""
    sweep, runs = read_sweep(FOLDER / name), []
    for entry in sweep.finished:
        with np.load(sweep.run_path(entry) / "evaluation.npz") as arrays:
            log_likelihood, elbo = arrays["test_log_likelihood"], arrays["test_elbo"]
        runs.append(Run(entry.level, log_likelihood, log_likelihood - elbo, accuracies_of(entry)))
    return sorted(runs, key=lambda run: float(run.gap.mean()))


def accuracies_of(entry: Entry) -> dict[int, np.ndarray]:
    """The accuracies of a run by number of labels; none if it was not classified."""
    if entry.classification is None:
        return {}
    results = {number: entry.classification.find(ENCODER, KERNEL, number) for number in LABELS}
    return {number: np.array(result.values) for number, result in results.items() if result}


def common_labels(runs: Iterable[Run]) -> list[int]:
    """The numbers of labels that all runs were classified with."""
    return sorted(set(LABELS).intersection(*(run.accuracies for run in runs)))


def bootstrap(statistic: Callable[[np.ndarray], float], size: int) -> tuple[float, float]:
    """A statistic of the sample 0, ..., size - 1, and its standard error."""
    generator = np.random.default_rng(0)
    replicates = [statistic(generator.integers(size, size=size)) for _ in range(NUM_REPLICATES)]
    return statistic(np.arange(size)), float(np.std(replicates, ddof=1))


def advantage(run: Run, others: Sequence[Run], images: np.ndarray) -> float:
    """log p(x) of a run minus that of others at its gap, in nats, on a sample of images."""
    log_gaps = [np.log(other.gap[images].mean()) for other in others]
    values = [other.log_likelihood[images].mean() for other in others]
    there = np.interp(np.log(run.gap[images].mean()), log_gaps, values)
    return float(run.log_likelihood[images].mean() - there)


def accuracy_advantage(run: Run, others: Sequence[Run], number: int, subsets: np.ndarray) -> float:
    """The same of the accuracy, in percentage points, on a sample of subsets of labels."""
    log_gaps = [np.log(other.gap.mean()) for other in others]
    values = [other.accuracies[number][subsets].mean() for other in others]
    there = np.interp(np.log(run.gap.mean()), log_gaps, values)
    return 100.0 * float(run.accuracies[number][subsets].mean() - there)


def print_comparison(fisher: Sequence[Run], weighted: Sequence[Run]) -> None:
    """Prints `weighted` minus `fisher` at the gaps of `weighted` that lie among those of fisher."""
    labels = common_labels([*fisher, *weighted])
    titles = (f"{number:,} labels" for number in labels)
    print("|", " | ".join(["lam, weighted", "gap", "log p(x)", *titles]), "|")
    for run in reversed(weighted):
        gap = run.gap.mean()
        if not fisher[0].gap.mean() <= gap <= fisher[-1].gap.mean():
            continue
        size = len(run.gap)
        cells = [bootstrap(functools.partial(advantage, run, fisher), size)]
        for number in labels:
            statistic = functools.partial(accuracy_advantage, run, fisher, number)
            cells.append(bootstrap(statistic, len(run.accuracies[number])))
        texts = (f"{mean:+.2f} +/- {error:.2f}" for mean, error in cells)
        print(f"| {run.lam:g} | {gap:.3g} |", " | ".join(texts), "|")


def draw(sweeps: Mapping[str, Sequence[Run]]) -> Figure:
    """Draws log p(x) and, if all were classified, the accuracy from the fewest labels by gap."""
    labels = common_labels(itertools.chain(*sweeps.values()))
    figure = Figure(figsize=(WIDE.width, 3.4), layout="constrained")
    panels = figure.subplots(1, 1 + bool(labels), squeeze=False)[0]
    for (name, runs), line in zip(sweeps.items(), plain_lines(2), strict=True):
        gaps = [float(run.gap.mean()) for run in runs]
        look = {"color": line.color, "marker": line.marker, "linestyle": line.dashes}
        likelihoods = [float(run.log_likelihood.mean()) for run in runs]
        panels[0].plot(gaps, likelihoods, label=name, **look)
        _name_lams(panels[0], runs, line.color, above=name == NAMES[1])
        if labels:
            accuracies = [run.accuracies[labels[0]].mean() for run in runs]
            panels[1].plot(gaps, accuracies, label=name, **look)
    _dress(panels, labels)
    legend_below(figure, panels[0], 2)
    return figure


def _name_lams(axes: Axes, runs: Sequence[Run], color: str, *, above: bool) -> None:
    offset, side = ((-4, 4), "right") if above else ((4, -4), "left")
    for run in runs:
        axes.annotate(
            f"{run.lam:g}",
            (float(run.gap.mean()), float(run.log_likelihood.mean())),
            xytext=offset,
            textcoords="offset points",
            ha=side,
            va="bottom" if above else "top",
            fontsize="small",
            color=color,
        )


def _dress(panels: Sequence[Axes], labels: Sequence[int]) -> None:
    for axes in panels:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(number_label))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks([0.3, 0.5, 1.0, 2.0, 3.0])
        axes.set_xlabel("gap: log-likelihood \N{MINUS SIGN} ELBO (nats)")
    panels[0].set_ylabel("log p(x) (nats per image)")
    panels[0].margins(0.12)
    panel_title(panels[0], "a", "likelihood; numbers are \N{GREEK SMALL LETTER LAMDA}")
    if labels:
        panels[1].set_ylabel("test accuracy (%)")
        panels[1].yaxis.set_major_formatter(FuncFormatter(percent_label))
        panel_title(panels[1], "b", f"SVM, {KERNEL} kernel, {labels[0]} labels")


def main() -> None:
    """Prints the table and writes the figure."""
    sweeps = {name: read(name) for name in NAMES}
    print_comparison(*sweeps.values())
    with styled():
        figure = draw(sweeps)
        for suffix in ("png", "pdf"):
            path = FOLDER / f"frontier.{suffix}"
            write_atomically(path, functools.partial(write_figure, figure, suffix))


if __name__ == "__main__":
    main()
