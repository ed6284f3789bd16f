"""The numbers that figures and tables show, taken from a sweep; nothing is drawn here.

A point is for one lam or epoch. If there is one seed to compare, it is the estimate of that run,
and its bar is its 95 % interval by Student's t. If there are several, it is the mean over seeds,
and its bar reaches from the lowest to the highest. The seeds are those that every lam has
(`Sweep.compared`).
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfp_smvi.classification.results import ENCODER, PCA, PIXELS, Accuracy
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.data.pictures import shades
from tfp_smvi.storage.arrays import DamagedFileError, read_arrays
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.results import Sweep

__all__ = [
    "BASELINES",
    "Gallery",
    "Point",
    "accuracies",
    "accuracies_by_epoch",
    "accuracy",
    "baseline",
    "brackets",
    "estimates",
    "kernels",
    "label_numbers",
    "lam_label",
    "lam_name",
    "lams_with_warnings",
    "over_lams",
    "point",
    "read_galleries",
    "splits",
    "training_curves",
]

# What classifiers see in place of the encoder's means.
BASELINES = {PIXELS: "raw pixels", PCA: "PCA"}


class Point(NamedTuple):
    """A point of a curve, with the ends of its bar.

    Attributes:
        x: lam or epoch.
        mean: its value.
        low: the lower end of the bar; `mean` if there is no bar.
        high: the upper end.
        num_seeds: the number of runs behind it.
    """

    x: float
    mean: float
    low: float
    high: float
    num_seeds: int


class Gallery(NamedTuple):
    """The images of one run, float32 [n, height, width, channels] in [0, 1], and its latents.

    Attributes:
        lam: the run's.
        originals: test images; of vectors [n, d].
        reconstructions: of the same images, in the same order.
        samples: images drawn from the model.
        means: encoder means, [m, latent_dim], or None.
        labels: the classes of their images, [m], or None.
    """

    lam: float
    originals: np.ndarray
    reconstructions: np.ndarray
    samples: np.ndarray
    means: np.ndarray | None
    labels: np.ndarray | None

    @property
    def has_pictures(self) -> bool:
        """Whether the examples are images."""
        return self.originals.ndim == 4

    @property
    def has_flat_latents(self) -> bool:
        """Whether there are encoder means in two dimensions."""
        return self.means is not None and self.means.shape[1:] == (2,)


def splits(sweep: Sweep) -> list[str]:
    """The splits that a run was evaluated on, test first."""
    runs = [run for run in sweep.finished if run.evaluation]
    return sorted({split for run in runs if run.evaluation for split in run.evaluation.splits})


def kernels(sweep: Sweep) -> list[str]:
    """The kernels of the classifiers, rbf first."""
    return sorted({result.kernel for result in _all_accuracies(sweep)}, reverse=True)


def label_numbers(sweep: Sweep) -> list[int]:
    """The numbers of labels, in ascending order."""
    return sorted({result.num_labels for result in _all_accuracies(sweep)})


def lam_label(lam: float) -> str:
    """A lam in print, such as "0.01", with a true minus sign, or the sign of infinity."""
    return "∞" if math.isinf(lam) else f"{lam:g}".replace("-", "\N{MINUS SIGN}")


def lam_name(sweep: Sweep, lam: float) -> str:
    """A lam in print, with a dagger if the training of a run with it has a warning."""
    return lam_label(lam) + ("†" if lam in lams_with_warnings(sweep) else "")


def lams_with_warnings(sweep: Sweep) -> set[float]:
    """The lams of finished runs whose training has a warning, for example that lam never grew."""
    return {run.level for run in sweep.finished if run.warnings}


def over_lams(sweep: Sweep, estimate: Callable[[Entry], Estimate | None]) -> list[Point]:
    """Makes a curve over lam, one point for each lam that has an estimate.

    Args:
        sweep: the sweep, of which the runs that can be compared are used.
        estimate: returns the value of a run, or None.
    """
    return _points(sweep, ((run.level, estimate(run)) for run in sweep.compared))


def estimates(sweep: Sweep, split: str, quantity: str) -> list[Point]:
    """A quantity of the evaluation, such as "gap", on a split, over lam."""

    def estimate(run: Entry) -> Estimate | None:
        summary = run.evaluation.splits.get(split) if run.evaluation else None
        if summary is None:
            return None
        value: Estimate | None = getattr(summary, quantity)
        return value and value.known_to(summary.num_examples - 1)

    return over_lams(sweep, estimate)


def brackets(sweep: Sweep) -> list[Point]:
    """Upper minus lower bound of log p(x) on simulated examples over lam, in nats."""

    def width(run: Entry) -> Estimate | None:
        bracket = run.evaluation.bracket if run.evaluation else None
        return bracket.width.known_to(bracket.num_examples - 1) if bracket else None

    return over_lams(sweep, width)


def accuracy(
    run: Entry, features: str, kernel: str, num_labels: int, epoch: int | None = None
) -> Accuracy | None:
    """A run's accuracy with one classifier, at the end or at an epoch; None if not measured."""
    report = run.classification if epoch is None else run.classifications.get(epoch)
    return report.find(features, kernel, num_labels) if report else None


def accuracies(sweep: Sweep, kernel: str, num_labels: int) -> list[Point]:
    """The final accuracy on the encoder's means, a fraction, over lam."""

    def estimate(run: Entry) -> Estimate | None:
        result = accuracy(run, ENCODER, kernel, num_labels)
        return result.estimate if result else None

    return over_lams(sweep, estimate)


def baseline(sweep: Sweep, features: str, kernel: str, num_labels: int) -> Estimate | None:
    """The accuracy on "pixels" or "pca", which is the same for all runs."""
    results = (accuracy(run, features, kernel, num_labels) for run in sweep.finished)
    return next((result.estimate for result in results if result), None)


def accuracies_by_epoch(sweep: Sweep, kernel: str, num_labels: int) -> dict[float, list[Point]]:
    """The accuracy on the encoder's means over the training's epochs, by lam."""
    curves = {}
    for lam in sorted({run.level for run in sweep.finished}):
        points = [
            (epoch, result.estimate)
            for run in sweep.compared
            if run.level == lam
            for epoch, report in run.classifications.items()
            if (result := report.find(ENCODER, kernel, num_labels))
        ]
        curves[lam] = _points(sweep, points)
    return {lam: points for lam, points in curves.items() if points}


def training_curves(sweep: Sweep, quantity: str) -> dict[float, list[Point]]:
    """The "elbo" or "divergence" of the test data over the training's epochs, by lam."""
    curves: dict[float, list[Point]] = {}
    for lam in sorted({run.level for run in sweep.finished}):
        records = [record for run in sweep.compared if run.level == lam for record in run.history]
        curves[lam] = _points(
            sweep,
            ((record.epoch, Estimate(getattr(record.test, quantity))) for record in records),
        )
    return {lam: points for lam, points in curves.items() if points}


def read_galleries(sweep: Sweep) -> list[Gallery]:
    """Reads the gallery.npz of the first finished run of each lam, if it exists.

    Raises:
        SMVIError: one exists and cannot be read.
    """
    return [
        _read_gallery(run.level, sweep.run_path(run) / "gallery.npz") for run in first_runs(sweep)
    ]


def first_runs(sweep: Sweep) -> list[Entry]:
    """The first finished run of each lam that has a gallery.npz."""
    first: dict[float, Entry] = {}
    for run in sweep.finished:
        first.setdefault(run.level, run)
    return [run for run in first.values() if (sweep.run_path(run) / "gallery.npz").exists()]


def read_gallery_file(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a gallery.npz, once for all figures.

    Raises:
        SMVIError: it cannot be read.
    """
    try:
        status = path.stat()
        return _read_once(path, status.st_size, status.st_mtime_ns)
    except (OSError, DamagedFileError) as error:
        raise _damaged(path, error) from error


@functools.lru_cache(maxsize=64)
def _read_once(path: Path, size: int, modified_ns: int) -> dict[str, np.ndarray]:
    """Reads a file of this size and time: another one is read again."""
    return read_arrays(path)


def _damaged(path: Path, reason: object) -> SMVIError:
    remedy = "delete it, and run the same tfp-smvi sweep again"
    return SMVIError(f"{path} cannot be read ({reason})", remedy=remedy)


def _read_gallery(lam: float, path: Path) -> Gallery:
    values = read_gallery_file(path)
    try:
        originals, reconstructions, samples = (
            _shades(values[name], values["originals"])
            for name in ("originals", "reconstructions", "samples")
        )
        means, labels = values.get("means"), values.get("labels")
        return Gallery(lam, originals, reconstructions, samples, means, labels)
    except KeyError as error:
        raise _damaged(path, f"{error} is missing") from error


def _shades(images: np.ndarray, originals: np.ndarray) -> np.ndarray:
    images = shades(images, originals)
    return images[..., None] if images.ndim == 3 else images


def point(x: float, estimate: Estimate, num_seeds: int = 1) -> Point:
    """The point of one estimate, whose bar is its 95 % interval."""
    bar = 0.0 if math.isnan(estimate.half_width) else estimate.half_width
    return Point(x, estimate.mean, estimate.mean - bar, estimate.mean + bar, num_seeds)


def _points(sweep: Sweep, values: Iterable[tuple[float, Estimate | None]]) -> list[Point]:
    groups: dict[float, list[Estimate]] = {}
    for x, estimate in values:
        if estimate is not None and math.isfinite(estimate.mean):
            groups.setdefault(x, []).append(estimate)
    return [_point(x, groups[x], len(sweep.seeds) > 1) for x in sorted(groups)]


def _point(x: float, values: Sequence[Estimate], over_seeds: bool) -> Point:
    means = [estimate.mean for estimate in values]
    if over_seeds:
        low, high = min(means), max(means)
        # Rounding must not put the mean of equal values beside them.
        return Point(x, float(np.clip(np.mean(means), low, high)), low, high, len(means))
    return point(x, values[0])


def _all_accuracies(sweep: Sweep) -> list[Accuracy]:
    reports = (report for run in sweep.finished for report in run.classifications.values())
    return [result for report in reports for result in report.results]
