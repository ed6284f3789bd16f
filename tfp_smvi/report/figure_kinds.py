"""The figures that can be made of a sweep: what each shows, and what it needs."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

from matplotlib.figure import Figure

from tfp_smvi.report import (
    calibration_figure,
    curves,
    entries,
    frontier_figure,
    images,
    moments_figure,
    points,
    training_figure,
    worst_examples,
)
from tfp_smvi.report.differences import differences_to_lam_0
from tfp_smvi.report.layout import Layout
from tfp_smvi.sweeps.results import Sweep

__all__ = ["FIGURES", "FigureKind"]


class FigureKind(NamedTuple):
    """A figure that can be made of a sweep.

    Attributes:
        title: what it shows, as a heading.
        draw: draws it.
        has_data: whether a sweep has what it needs.
        needs: that, for the message.
        caption: what it shows; `describe_bars` adds the seeds and the bars.
        in_words: a text for those who cannot see it.
        bars: over what the standard errors are taken if there is one seed; empty for a figure
            without bars.
    """

    title: str
    draw: Callable[[Sweep, Layout], Figure]
    has_data: Callable[[Sweep], bool]
    needs: str
    caption: str
    in_words: str
    bars: str = ""


def _has_classified_epochs(sweep: Sweep) -> bool:
    """Whether the accuracy of some lam is known at more than one epoch."""
    pairs = itertools.product(points.kernels(sweep), points.label_numbers(sweep))
    curves = (points.accuracies_by_epoch(sweep, *pair) for pair in pairs)
    return any(len(curve) > 1 for by_lam in curves for curve in by_lam.values())


def _has_differences(sweep: Sweep) -> bool:
    """Whether some lam other than 0 can be compared with lam = 0."""
    pairs = itertools.product(points.kernels(sweep), points.label_numbers(sweep))
    curves = (differences_to_lam_0(sweep, *pair) for pair in pairs)
    return any(point.x != 0.0 for curve in curves for point in curve)


def _has_history(sweep: Sweep) -> bool:
    return any(points.training_curves(sweep, name) for name in ("elbo", "divergence"))


def _has_images(sweep: Sweep) -> bool:
    return any(gallery.has_pictures for gallery in points.read_galleries(sweep))


def _has_flat_latents(sweep: Sweep) -> bool:
    return any(gallery.has_flat_latents for gallery in points.read_galleries(sweep))


FIGURES = {
    "likelihood": FigureKind(
        "Gap and likelihood",
        curves.draw_likelihood,
        lambda sweep: bool(points.splits(sweep)),
        "no finished run has been evaluated",
        "(a) The ELBO gap, log-likelihood minus ELBO, which is KL(q(z|x), p(z|x)), against λ. The "
        "bracket is the distance between an upper and a lower bound of log p(x) on examples "
        "simulated from the model: a gap much below it is not resolved. (b) What the smaller gap "
        "costs: the log-likelihood, by annealed importance sampling (AIS), and the ELBO.",
        "Two panels of curves; their numbers are in the table of likelihood and gap.",
        "examples",
    ),
    "frontier": FigureKind(
        "What a smaller gap costs",
        frontier_figure.draw_frontier,
        frontier_figure.has_frontier,
        "fewer than two lams have been evaluated",
        "Each point is a λ. (a) The log-likelihood, by annealed importance sampling (AIS), and the "
        "ELBO against the gap between them: further left, q(z|x) is nearer to the posterior. "
        "(b) The accuracy on the test set of a support vector machine that sees the encoder's "
        "means of a few labelled examples, against the same gap.",
        "Panels of curves; their numbers are in the tables of likelihood and of accuracy.",
        "examples, and subsets of labels",
    ),
    "moments": FigureKind(
        "Moments of the posterior",
        moments_figure.draw_moments,
        moments_figure.has_moments,
        "no evaluation has moments",
        "q(z|x) compared with p(z|x) in each active latent, over examples: (a) the ratio of their "
        "standard deviations, 1 where the width is right; (b) the distance of their means in "
        "standard deviations of p(z|x). Each curve and panel has its own order of latents; bands "
        "are 95 % intervals over examples.",
        "Two panels of curves; a summary is in the table of the posterior, all in sweep.json.",
    ),
    "calibration": FigureKind(
        "Calibration of q(z|x)",
        calibration_figure.draw_calibration,
        calibration_figure.has_calibration,
        "no finished run has been evaluated with a calibration",
        "For examples simulated from the model, z is an exact sample of p(z|x), and its rank among "
        "draws of q(z|x) is uniform if q(z|x) is the posterior. Curves are the empirical "
        "distribution function (ECDF) of the ranks of each active latent minus that of uniform "
        "ones; the number is that of the worst latent. All curves of a calibrated q(z|x) are in "
        "the grey band with a probability of 99 %. Up and then down: q(z|x) is too narrow; down "
        "and then up: too wide; a curve on one side of 0: the mean is off, too high if it is "
        "above.",
        "A panel of curves for each λ, up to four; the report of warnings names what is outside.",
    ),
    "accuracy": FigureKind(
        "Classification from few labels",
        curves.draw_accuracy,
        lambda sweep: bool(points.kernels(sweep)),
        "no finished run has been classified",
        "Accuracy on the test set of a support vector machine that sees the encoder's means of a "
        "few labelled examples. Horizontal lines are the same classifier on raw pixels and on as "
        "many principal components as there are latents; their bars, 95 % intervals over "
        "subsets of labels, are at the right end.",
        "A panel of curves for each kernel; their numbers are in the tables of accuracy.",
        "subsets of labels",
    ),
    "differences": FigureKind(
        "Accuracy compared with λ = 0",
        curves.draw_differences,
        _has_differences,
        "it takes classified runs at lam = 0 and at another lam with the same seed",
        "Difference in accuracy to the run with λ = 0 and the same seed, taken subset by subset of "
        "labels. The curves are drawn a little apart so that bars do not hide each other. If "
        "differences are large, the vertical axis is linear up to one point to each side, the "
        "shaded band, and logarithmic beyond.",
        "A panel of curves for each kernel; their numbers are in the tables of accuracy compared "
        "with λ = 0.",
        "paired differences of the subsets of labels; they do not include the chance of the "
        "training",
    ),
    "accuracy_by_epoch": FigureKind(
        "Accuracy during training",
        curves.draw_accuracy_by_epoch,
        _has_classified_epochs,
        "no finished run has been classified at more than one epoch",
        "Accuracy on the test set against the epochs that the encoder was trained for.",
        "A panel of curves for each kernel and number of labels; their numbers are in sweep.json.",
        "subsets of labels",
    ),
    "training": FigureKind(
        "Training",
        training_figure.draw_training,
        _has_history,
        "no finished run has a history",
        "(a) The ELBO on test data at the end of each epoch; the vertical axis is fitted to what "
        "follows the first tenth of the epochs. (b) The {divergence}. The markers distinguish the "
        "curves and are at some of the epochs only.",
        "Two panels of curves; their numbers are in sweep.json.",
    ),
    "reconstructions": FigureKind(
        "Reconstructions",
        images.draw_reconstructions,
        _has_images,
        "no finished run has a gallery.npz with images",
        "Test images and the decoder's means at the encoder's means, a row for each λ.",
        "A grid of small images, the originals in its first row.",
    ),
    "worst": FigureKind(
        "Worst examples",
        worst_examples.draw_worst,
        worst_examples.has_worst_pictures,
        "no evaluation has pictures of its worst examples",
        "The examples with the largest gaps, in nats above each, over the decoder's means at the "
        "encoder's means, for up to four λ. There q(z|x) is furthest from p(z|x).",
        "Rows of small images; their numbers are in the table of the worst examples.",
    ),
    "samples": FigureKind(
        "Samples",
        images.draw_samples,
        _has_images,
        "no finished run has a gallery.npz with images",
        "The decoder's means at samples of the prior, a panel for each λ.",
        "Grids of small images.",
    ),
    "entries": FigureKind(
        "Entries of x",
        entries.draw_entries,
        entries.has_entries,
        "it is made for data that are vectors",
        "The mean of each entry of x, and the share of zeros of counts, in vectors simulated from "
        "the model against the test data, for up to four λ. Points of a model that fits are on "
        "the line.",
        "A cloud of points in each panel.",
    ),
    "latents": FigureKind(
        "Latent space",
        images.draw_latents,
        _has_flat_latents,
        "it is made for latent_dim = 2",
        "The encoder's means of test examples by class; numbers are at the medians of the classes, "
        "or beside them with a line if several would overlap.",
        "A cloud of points in each panel.",
    ),
}
