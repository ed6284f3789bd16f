"""The comparison at equal gap in README.md, and its figure, from both sweeps: python frontier.py.

The gap of each `weighted` run lies between those of two `fisher` runs. Between them log p(x) is
interpolated linearly in the log of the gap. All runs evaluate the same images with the same bits
and classify with the same subsets of labels, so that a bootstrap that draws images (for accuracies,
subsets) once for all runs gives the standard errors of the differences, those of the gaps included.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tfp_smvi.classification.results import ENCODER
from tfp_smvi.report.axes import number_label, percent_label
from tfp_smvi.report.layout import WIDE, legend_below, panel_title, styled
from tfp_smvi.report.style import plain_lines, write_figure
from tfp_smvi.storage.atomic import write_atomically
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
        assert entry.classification is not None
        found = {number: entry.classification.find(ENCODER, KERNEL, number) for number in LABELS}
        accuracies = {number: np.array(result.values) for number, result in found.items() if result}
        runs.append(Run(entry.level, log_likelihood, log_likelihood - elbo, accuracies))
    return sorted(runs, key=lambda run: float(run.gap.mean()))


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
    titles = (f"accuracy, {number:,} labels" for number in LABELS)
    print("| lam, weighted | gap | log p(x) |", " | ".join(titles), "|")
    for run in reversed(weighted):
        gap = run.gap.mean()
        if not fisher[0].gap.mean() <= gap <= fisher[-1].gap.mean():
            continue
        size = len(run.gap)
        cells = [bootstrap(functools.partial(advantage, run, fisher), size)]
        for number in LABELS:
            statistic = functools.partial(accuracy_advantage, run, fisher, number)
            cells.append(bootstrap(statistic, len(run.accuracies[number])))
        texts = (f"{mean:+.2f} +/- {error:.2f}" for mean, error in cells)
        print(f"| {run.lam:g} | {gap:.3g} |", " | ".join(texts), "|")


def draw(sweeps: Mapping[str, Sequence[Run]]) -> Figure:
    """Draws log p(x) and the accuracy from the fewest labels against the gap."""
    figure = Figure(figsize=(WIDE.width, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, runs), line in zip(sweeps.items(), plain_lines(2), strict=True):
        gaps = [run.gap.mean() for run in runs]
        likelihoods = [run.log_likelihood.mean() for run in runs]
        accuracies = [run.accuracies[LABELS[0]].mean() for run in runs]
        for axes, values in ((left, likelihoods), (right, accuracies)):
            look = {"color": line.color, "marker": line.marker, "linestyle": line.dashes}
            axes.plot(gaps, values, label=name, **look)
        above = name == NAMES[1]
        for run, gap, value in zip(runs, gaps, likelihoods, strict=True):
            offset, side = ((-4, 4), "right") if above else ((4, -4), "left")
            left.annotate(
                f"{run.lam:g}",
                (gap, value),
                xytext=offset,
                textcoords="offset points",
                ha=side,
                va="bottom" if above else "top",
                fontsize="small",
                color=line.color,
            )
    _dress(left, right)
    legend_below(figure, left, 2)
    return figure


def _dress(left: Axes, right: Axes) -> None:
    for axes in (left, right):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(number_label))
        axes.set_xlabel("gap: log-likelihood \N{MINUS SIGN} ELBO (nats)")
    left.set_ylabel("log p(x) (nats per image)")
    left.margins(0.12)
    right.set_ylabel("test accuracy (%)")
    right.yaxis.set_major_formatter(FuncFormatter(percent_label))
    panel_title(left, "a", "likelihood; numbers are λ")
    panel_title(right, "b", f"SVM, {KERNEL} kernel, {LABELS[0]} labels")


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
