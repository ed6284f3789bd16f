"""The figures made of images and latents, each from the galleries of a sweep."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfp_smvi.report.points import Gallery, lam_label, read_galleries
from tfp_smvi.report.style import GREY
from tfp_smvi.sweeps.results import Sweep

__all__ = ["draw_latents", "draw_reconstructions", "draw_samples", "keep_apart"]

WIDTH = 7.2
NUM_RECONSTRUCTIONS = 12
SAMPLES_A_SIDE = 5
# Between the names of two classes, as a part of half a panel: the height of a letter.
NAME_DISTANCE = 0.2


def draw_reconstructions(sweep: Sweep) -> Figure:
    """Draws test images over their reconstructions, a row per lam."""
    galleries = read_galleries(sweep)
    count = min(NUM_RECONSTRUCTIONS, *(len(gallery.reconstructions) for gallery in galleries))
    names = ["original", *(f"λ = {lam_label(gallery.lam)}" for gallery in galleries)]
    rows = [galleries[0].originals, *(gallery.reconstructions for gallery in galleries)]
    image = np.concatenate(
        [np.concatenate(_with_margin(row[:count]), axis=1) for row in rows], axis=0
    )
    height, width = image.shape[:2]
    figure = Figure(figsize=(WIDTH, 0.88 * WIDTH * height / width + 0.1), layout="constrained")
    axes = figure.subplots()
    _show(axes, image)
    axes.set_yticks((np.arange(len(rows)) + 0.5) * height / len(rows), names)
    axes.tick_params(length=0)
    return figure


def draw_samples(sweep: Sweep) -> Figure:
    """Draws images sampled from the models, a panel per lam."""
    galleries = read_galleries(sweep)
    figure, panels = _grid(len(galleries), 0.2)
    for axes, gallery in zip(panels, galleries, strict=False):
        images = _with_margin(gallery.samples[: SAMPLES_A_SIDE**2])
        side = math.isqrt(len(images))
        rows = images[: side**2].reshape(side, side, *images.shape[1:])
        _show(axes, np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0))
        axes.set_title(f"λ = {lam_label(gallery.lam)}")
    return figure


def draw_latents(sweep: Sweep) -> Figure:
    """Draws the encoder's means in two dimensions, coloured by class, a panel per lam."""
    galleries = [gallery for gallery in read_galleries(sweep) if gallery.has_flat_latents]
    figure, panels = _grid(len(galleries), 0.3)
    # One scale for all: how far the means spread is a part of the answer.
    means = np.concatenate([gallery.means for gallery in galleries if gallery.means is not None])
    centre = (means.min(axis=0) + means.max(axis=0)) / 2
    reach = 1.05 * np.abs(means - centre).max()
    limits = np.stack([centre - reach, centre + reach], axis=1)
    for axes, gallery in zip(panels, galleries, strict=False):
        _scatter(axes, gallery, NAME_DISTANCE * reach)
        axes.set(
            title=f"λ = {lam_label(gallery.lam)}", xlim=limits[0], ylim=limits[1], aspect="equal"
        )
        axes.grid(visible=False)
    figure.supxlabel("first latent", fontsize=8.5)
    figure.supylabel("second latent", fontsize=8.5)
    return figure


def _scatter(axes: Axes, gallery: Gallery, distance: float) -> None:
    means, labels = gallery.means, gallery.labels
    assert means is not None
    if labels is None:
        axes.scatter(means[:, 0], means[:, 1], s=4, color=GREY, linewidths=0)
        return
    classes = np.unique(labels)
    shades = matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, len(classes)))
    for name, shade in zip(classes, shades, strict=True):
        inside = means[labels == name]
        axes.scatter(inside[:, 0], inside[:, 1], s=4, color=[shade], linewidths=0, alpha=0.7)
    centres = np.stack([np.median(means[labels == name], axis=0) for name in classes])
    _write_names(axes, classes, centres, keep_apart(centres, distance))


def _write_names(axes: Axes, classes: np.ndarray, centres: np.ndarray, places: np.ndarray) -> None:
    """Writes the names of the classes, for the colour-blind, each with a line to its class."""
    halo: list[patheffects.AbstractPathEffect] = [
        patheffects.withStroke(linewidth=2.0, foreground="white")
    ]
    for (x, y), (to_x, to_y) in zip(centres, places, strict=True):
        axes.plot([x, to_x], [y, to_y], color="black", linewidth=0.5)
    for name, (x, y) in zip(classes, places, strict=True):
        text = axes.text(x, y, str(name), ha="center", va="center", fontsize=9, weight="bold")
        text.set_path_effects(halo)


def keep_apart(places: np.ndarray, distance: float) -> np.ndarray:
    """Moves points [n, 2] as little as needed for any two to be about `distance` apart."""
    places = np.array(places, np.float64)
    # Points that coincide move in different directions.
    angles = 2.4 * np.arange(len(places))
    own = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for _ in range(500):
        offsets = places[:, None] - places[None, :]
        lengths = np.linalg.norm(offsets, axis=-1)
        missing = np.maximum(distance - lengths, 0.0)
        np.fill_diagonal(missing, 0.0)
        if missing.max(initial=0.0) < 0.01 * distance:
            break
        apart = lengths[..., None] > 1e-6 * distance
        ways = np.where(
            apart, offsets / np.maximum(lengths, 1e-6 * distance)[..., None], own[:, None]
        )
        places += 0.5 * np.sum(missing[..., None] * ways, axis=1)
    return places


def _grid(count: int, title: float) -> tuple[Figure, Sequence[Axes]]:
    """Square panels, at most four in a row; those that are not needed are hidden."""
    columns = min(count, 4)
    rows = math.ceil(count / columns)
    width = WIDTH if columns > 2 else 3.0 * columns
    figure = Figure(figsize=(width, rows * (width / columns + title)), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels


def _with_margin(images: np.ndarray) -> np.ndarray:
    """Puts a white line between images."""
    return np.pad(images, [(0, 0), (0, 1), (0, 1), (0, 0)], constant_values=1.0)


def _show(axes: Axes, image: np.ndarray) -> None:
    grey = image.shape[-1] != 3
    axes.imshow(
        image[..., 0] if grey else image, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest"
    )
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
