"""The worst examples of each lam: a figure of their pictures, and a table."""

import math
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfp_smvi.core.estimates import Estimate
from tfp_smvi.core.quantities import QUANTITIES
from tfp_smvi.data.pictures import shades
from tfp_smvi.evaluation.diagnostics import ExampleSummary
from tfp_smvi.report.cells import DASH, format_estimate
from tfp_smvi.report.images import show_image, with_margin
from tfp_smvi.report.layout import WIDE, Layout
from tfp_smvi.report.level_names import level_title, symbol
from tfp_smvi.report.points import lam_label
from tfp_smvi.report.tables import Table
from tfp_smvi.storage.arrays import DamagedFileError, read_arrays
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.results import Sweep

__all__ = ["draw_worst", "has_worst_pictures", "worst_table"]

NUM_PICTURES = (5, 10)  # in one column and in two
MOST_LEVELS = 4


class _Worst(NamedTuple):
    """The worst examples of a run and their pictures, shades [n, height, width, channels]."""

    level: float
    examples: tuple[ExampleSummary, ...]
    originals: np.ndarray
    reconstructions: np.ndarray


def has_worst_pictures(sweep: Sweep) -> bool:
    """Whether an evaluation has kept pictures of its worst examples."""
    return bool(_read_pictures(sweep))


def draw_worst(sweep: Sweep, layout: Layout = WIDE) -> Figure:
    """Draws the worst examples over their reconstructions, for some of the lams."""
    runs, count = _read_pictures(sweep), NUM_PICTURES[layout.columns - 1]
    chosen = np.linspace(0, len(runs) - 1, min(len(runs), MOST_LEVELS)).round().astype(int)
    runs = [runs[i] for i in chosen]
    height, width = runs[0].originals.shape[1:3]
    row = 1.8 * layout.width / count * height / width + 0.6
    figure = Figure(figsize=(layout.width, row * len(runs)), layout="constrained")
    for axes, run in zip(figure.subplots(len(runs), squeeze=False)[:, 0], runs, strict=True):
        _draw_pairs(axes, run, count)
        axes.set_title(level_title(sweep, run.level), loc="left")
    return figure


def worst_table(sweep: Sweep) -> Table | None:
    """A row for each of the worst examples of the first run of each lam; None if there are none."""
    names = ("gap", "log_likelihood", "elbo", "divergence")
    header = [symbol(sweep), "seed", "split", "example", *(QUANTITIES[n].heading for n in names)]
    caption = (
        "The examples with the largest gaps, in nats: there q(z|x) is furthest from p(z|x). "
        "Numbers of examples count from 0. A Pareto k above 0.7 says that q(z|x) misses tails or "
        "modes."
    )
    rows = [
        [lam_label(run.level), str(run.seed), split, str(example.index), *_cells(example, names)]
        for run in _first_evaluated(sweep)
        for split, examples in _worst_of(run).items()
        for example in examples
    ]
    return Table(caption, [*header, "Pareto k"], rows, 4) if rows else None


def _cells(example: ExampleSummary, names: tuple[str, ...]) -> list[str]:
    k = "∞" if example.pareto_k == math.inf else f"{example.pareto_k:.2f}"
    numbers = [format_estimate(Estimate(example[name]), 2) for name in names]
    return [*numbers, DASH if math.isnan(example.pareto_k) else k]


def _draw_pairs(axes: Axes, run: _Worst, count: int) -> None:
    """Draws the first pairs of a run, with the number and the gap above each."""
    rows = [
        np.concatenate(with_margin(images[:count]), axis=1)
        for images in (run.originals, run.reconstructions)
    ]
    image = np.concatenate(rows, axis=0)
    show_image(axes, image)
    size = len(image) / 2
    axes.set_yticks([0.5 * size, 1.5 * size], ["x", "E[x|z]"])
    shown = run.examples[:count]
    width = image.shape[1] / len(shown)
    labels = [f"no. {example.index}\n{example.gap:.1f} nats" for example in shown]
    axes.set_xticks((np.arange(len(shown)) + 0.5) * width, labels)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=matplotlib.rcParams["legend.fontsize"])


def _read_pictures(sweep: Sweep) -> list[_Worst]:
    """The pictures of the first run of each lam, where its evaluation has them."""
    pictures = []
    for run in _first_evaluated(sweep):
        for split, examples in _worst_of(run).items():
            names = [f"{split}_worst_{kind}" for kind in ("originals", "reconstructions")]
            try:
                values = read_arrays(sweep.run_path(run) / "evaluation.npz", names)
            except (OSError, DamagedFileError):  # the table has the numbers
                continue
            originals, reconstructions = (shades(values[name], values[names[0]]) for name in names)
            if originals.ndim == 3:
                originals, reconstructions = originals[..., None], reconstructions[..., None]
            if len(originals) == len(reconstructions) == len(examples):
                pictures.append(_Worst(run.level, examples, originals, reconstructions))
    return pictures


def _worst_of(run: Entry) -> dict[str, tuple[ExampleSummary, ...]]:
    """The worst examples of a run's test data, or else of the split that it was evaluated on."""
    splits = run.evaluation.splits if run.evaluation else {}
    for name in sorted(splits):
        if splits[name].worst:
            return {name: splits[name].worst or ()}
    return {}


def _first_evaluated(sweep: Sweep) -> list[Entry]:
    """The first run of each lam that has worst examples."""
    first: dict[float, Entry] = {}
    for run in sweep.finished:
        if _worst_of(run):
            first.setdefault(run.level, run)
    return [*first.values()]
