"""All the figures of a sweep: what each shows, and writing them to files."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from tfp_smvi.core.errors import explain_write_errors
from tfp_smvi.report import curves as curve_figures
from tfp_smvi.report import images as picture_figures
from tfp_smvi.report.style import styled, write_figure
from tfp_smvi.storage.atomic import write_atomically
from tfp_smvi.sweeps.results import Sweep

__all__ = ["FIGURES", "FigureKind", "PlotResult", "describe_bars", "draw_all", "plot_sweep"]


class FigureKind(NamedTuple):
    """A figure that can be made of a sweep.

    Attributes:
        title: what it shows, as a heading.
        draw: draws it; None where the sweep lacks what it needs.
        needs: that, for the message.
        caption: what is to be seen, with the number of seeds and bars of each kind left to
            `describe_bars`.
        in_words: what to say to those who cannot see it.
        bars: over what the standard errors are taken where there is one seed; empty for a figure
            without bars.
    """

    title: str
    draw: Callable[[Sweep], Figure | None]
    needs: str
    caption: str
    in_words: str
    bars: str = ""


class PlotResult(NamedTuple):
    """What became of a sweep's figures.

    Attributes:
        files: those that were written.
        missing: a line for each figure that could not be made, with the reason.
    """

    files: list[Path]
    missing: list[str]


FIGURES = {
    "likelihood": FigureKind(
        "Gap and likelihood",
        curve_figures.draw_likelihood,
        "no finished run has been evaluated",
        "(a) The ELBO gap, log-likelihood minus ELBO, which is KL(q(z|x), p(z|x)), against λ. The bracket is the "
        "distance between an upper and a lower bound of log p(x) on images simulated from the model: a gap much "
        "below it is not resolved. (b) What the smaller gap costs: the log-likelihood, by annealed importance "
        "sampling (AIS), and the ELBO.",
        "Two panels of curves; their numbers are in the table of likelihood and gap.",
        "images",
    ),
    "accuracy": FigureKind(
        "Classification from few labels",
        curve_figures.draw_accuracy,
        "no finished run has been classified",
        "Accuracy on the test set of a support vector machine that sees the encoder's means of a few labelled "
        "images. Horizontal lines are the same classifier on raw pixels and on as many principal components as "
        "there are latents; their bars, two standard errors over subsets of labels, stand at the right end.",
        "A panel of curves for each kernel; their numbers are in the tables of accuracy.",
        "subsets of labels",
    ),
    "differences": FigureKind(
        "Accuracy compared with λ = 0",
        curve_figures.draw_differences,
        "it takes classified runs at lam = 0 and at another lam with the same seed",
        "Difference in accuracy to the run with λ = 0 and the same seed, taken subset by subset of labels. The "
        "curves are drawn a little apart so that bars do not hide each other. Where differences are large, the "
        "vertical axis is linear up to one point to each side, and logarithmic beyond.",
        "A panel of curves for each kernel; their numbers are in the tables of accuracy compared with λ = 0.",
        "paired differences of the subsets of labels; they do not hold the chance of the training",
    ),
    "accuracy_by_epoch": FigureKind(
        "Accuracy in the course of training",
        curve_figures.draw_accuracy_by_epoch,
        "no finished run has been classified at more than one epoch",
        "Accuracy on the test set against the epochs that the encoder was trained for.",
        "A panel of curves for each kernel and number of labels; their numbers are in sweep.json.",
        "subsets of labels",
    ),
    "training": FigureKind(
        "Training",
        curve_figures.draw_training,
        "no finished run has a history",
        "(a) The ELBO on test data at the end of each epoch; the vertical axis is fitted to what follows the first "
        "tenth of the epochs. (b) The score-matching divergence D_SM(q(z|x), p(z|x)), in squared nats per squared "
        "unit of z. The markers tell the curves apart and stand at some of the epochs only.",
        "Two panels of curves; their numbers are in sweep.json.",
    ),
    "reconstructions": FigureKind(
        "Reconstructions",
        picture_figures.draw_reconstructions,
        "no finished run has a gallery.npz with images",
        "Test images and the decoder's means at the encoder's means, a row for each λ.",
        "A grid of small images, the originals in its first row.",
    ),
    "samples": FigureKind(
        "Samples",
        picture_figures.draw_samples,
        "no finished run has a gallery.npz with images",
        "The decoder's means at samples of the prior, a panel for each λ.",
        "Grids of small images.",
    ),
    "latents": FigureKind(
        "Latent space",
        picture_figures.draw_latents,
        "it is made for latent_dim = 2",
        "The encoder's means of test images by class; numbers stand at the medians of the classes, or beside them "
        "with a line where several would meet.",
        "A cloud of points in each panel.",
    ),
}
_PICTURES = {"reconstructions", "samples", "latents"}


def plot_sweep(sweep: Sweep, directory: Path, formats: Sequence[str] = ("png",)) -> PlotResult:
    """Draws all figures of a sweep that its results allow, such as likelihood.png.

    Args:
        sweep: the sweep.
        directory: where the files go; it is made where there is none.
        formats: "png" (200 dots per inch), "pdf" or both.

    Raises:
        SMVIError: a gallery cannot be read, or a file cannot be written.
    """
    files, drawn = [], draw_all(sweep)
    with styled(), explain_write_errors(f"to {directory}", "make room or choose another {output}"):
        directory.mkdir(parents=True, exist_ok=True)
        for name, figure in drawn.items():
            if figure is None:
                continue
            for suffix in formats:
                path = directory / f"{name}.{suffix}"
                write_atomically(path, functools.partial(write_figure, figure, suffix))
                files.append(path)
    return PlotResult(
        files, [f"{name}: {FIGURES[name].needs}" for name, figure in drawn.items() if not figure]
    )


def draw_all(sweep: Sweep) -> dict[str, Figure | None]:
    """Draws each of FIGURES; None for those that the sweep lacks something for.

    Raises:
        SMVIError: a gallery cannot be read.
    """
    with styled():
        drawn = {name: kind.draw(sweep) for name, kind in FIGURES.items()}
        for figure in drawn.values():
            if figure is not None:
                # Laid out once, so that every format shows the same.
                figure.draw_without_rendering()
                figure.set_layout_engine("none")
    return drawn


def describe_bars(sweep: Sweep, name: str) -> str:
    """Says in a sentence or two what a figure's points and bars are; empty where it has none."""
    if name in _PICTURES:
        return (
            "Each λ is shown by its first seed."
            if len({run.seed for run in sweep.finished}) > 1
            else ""
        )
    seeds, over = ", ".join(map(str, sweep.seeds)), FIGURES[name].bars
    if len(sweep.seeds) > 1:
        ends = "bands" if name == "training" else "bars"
        text = f"Points are means over the seeds {seeds}, and {ends} reach from the lowest to the highest."
    else:
        text = f"Bars are two standard errors to each side, over {over}." if over else ""
    if len(sweep.compared) < len(sweep.finished):
        text += f" Seeds that some λ lack are in the tables alone; all λ have {seeds}."
    elif len(sweep.compared) < len(sweep.seeds) * len({run.lam for run in sweep.compared}):
        text += " No seed is that of all λ, and some points are means over other seeds than others."
    return text.strip()
