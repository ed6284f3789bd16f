"""The figures made of images and latents, each from the galleries of a sweep."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfp_smvi.report.layout import WIDE, Layout
from tfp_smvi.report.level_names import level_title
from tfp_smvi.report.marks import DAGGER
from tfp_smvi.report.points import Gallery, lams_with_warnings, read_galleries
from tfp_smvi.report.style import CLASS_COLORS, GREY, MARKERS
from tfp_smvi.sweeps.results import Sweep

__all__ = [
    "draw_latents",
    "draw_reconstructions",
    "draw_samples",
    "keep_apart",
    "show_image",
    "with_margin",
]

NUM_RECONSTRUCTIONS = (6, 12)  # in one column and in two
PANELS_A_ROW = (2, 4)
SAMPLES_A_SIDE = 5
# Between the names of two classes, as a part of half a panel: the height of a letter.
NAME_DISTANCE = 0.2


def draw_reconstructions(sweep: Sweep, layout: Layout = WIDE) -> Figure:
    """Draws test images over their reconstructions, a row per lam."""
    galleries = [gallery for gallery in read_galleries(sweep) if gallery.has_pictures]
    count = min(
        NUM_RECONSTRUCTIONS[layout.columns - 1],
        *(len(gallery.reconstructions) for gallery in galleries),
    )
    names = ["original", *(level_title(sweep, gallery.lam) for gallery in galleries)]
    rows = [galleries[0].originals, *(gallery.reconstructions for gallery in galleries)]
    image = np.concatenate(
        [np.concatenate(with_margin(row[:count]), axis=1) for row in rows], axis=0
    )
    height, width = image.shape[:2]
    figure = Figure(
        figsize=(layout.width, 0.88 * layout.width * height / width + 0.1), layout="constrained"
    )
    axes = figure.subplots()
    show_image(axes, image)
    axes.set_yticks((np.arange(len(rows)) + 0.5) * height / len(rows), names)
    axes.tick_params(length=0)
    _explain_dagger(figure, sweep)
    return figure


def draw_samples(sweep: Sweep, layout: Layout = WIDE) -> Figure:
    """Draws images sampled from the models, a panel per lam."""
    galleries = [gallery for gallery in read_galleries(sweep) if gallery.has_pictures]
    figure, panels = _grid(layout, len(galleries), 0.2)
    for axes, gallery in zip(panels, galleries, strict=False):
        images = with_margin(gallery.samples[: SAMPLES_A_SIDE**2])
        side = math.isqrt(len(images))
        rows = images[: side**2].reshape(side, side, *images.shape[1:])
        show_image(axes, np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0))
        axes.set_title(level_title(sweep, gallery.lam))
    _explain_dagger(figure, sweep)
    return figure


def draw_latents(sweep: Sweep, layout: Layout = WIDE) -> Figure:
    """Draws the encoder's means in two dimensions, coloured by class, a panel per lam."""
    galleries = [gallery for gallery in read_galleries(sweep) if gallery.has_flat_latents]
    figure, panels = _grid(layout, len(galleries), 0.3)
    # One scale for all: how far the means spread is a part of the answer.
    means = np.concatenate([gallery.means for gallery in galleries if gallery.means is not None])
    centre = (means.min(axis=0) + means.max(axis=0)) / 2
    reach = 1.05 * np.abs(means - centre).max()
    limits = np.stack([centre - reach, centre + reach], axis=1)
    for axes, gallery in zip(panels, galleries, strict=False):
        _scatter(axes, gallery, NAME_DISTANCE * reach)
        axes.set_title(level_title(sweep, gallery.lam))
        axes.set(xlim=limits[0], ylim=limits[1], aspect="equal")
        axes.grid(visible=False)
    _explain_dagger(figure, sweep, "first latent")
    figure.supylabel("second latent", fontsize=matplotlib.rcParams["axes.labelsize"])
    return figure


def _explain_dagger(figure: Figure, sweep: Sweep, label: str = "") -> None:
    """Puts a label under a figure, and what a dagger at a lam means."""
    lines = [label] if label else []
    if lams_with_warnings(sweep):
        lines.append(DAGGER)
    if lines:
        figure.supxlabel("\n".join(lines), fontsize=matplotlib.rcParams["axes.labelsize"])


def _scatter(axes: Axes, gallery: Gallery, distance: float) -> None:
    means, labels = gallery.means, gallery.labels
    assert means is not None
    if labels is None:
        axes.scatter(means[:, 0], means[:, 1], s=4, color=GREY, linewidths=0)
        return
    classes = np.unique(labels)
    for number, name in enumerate(classes):
        inside, (more, color) = means[labels == name], divmod(number, len(CLASS_COLORS))
        axes.scatter(
            inside[:, 0],
            inside[:, 1],
            s=5,
            color=CLASS_COLORS[color],
            marker=MARKERS[more % len(MARKERS)],
            linewidths=0,
        )
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


def _grid(layout: Layout, count: int, title: float) -> tuple[Figure, Sequence[Axes]]:
    """Square panels, a few in a row; those that are not needed are hidden."""
    columns = min(count, PANELS_A_ROW[layout.columns - 1])
    rows = math.ceil(count / columns)
    width = min(layout.width, 3.0 * columns)
    figure = Figure(figsize=(width, rows * (width / columns + title)), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels


def with_margin(images: np.ndarray) -> np.ndarray:
    """Puts a white line between images."""
    return np.pad(images, [(0, 0), (0, 1), (0, 1), (0, 0)], constant_values=1.0)


def show_image(axes: Axes, image: np.ndarray) -> None:
    """Shows shades [height, width, channels] without ticks."""
    grey = image.shape[-1] != 3
    axes.imshow(
        image[..., 0] if grey else image, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest"
    )
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
