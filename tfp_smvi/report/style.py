"""How curves look: in colour, in grey print and for the colour-blind.

References:
    [1] M. Okabe, K. Ito. Color Universal Design. 2008.
    [2] P. Tol. Colour Schemes. SRON/EPS/TN/09-002. 2021.
    [3] M. A. Petroff. Accessible Color Sequences for Data Visualization. arXiv:2107.02270. 2021.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import BinaryIO, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfp_smvi.report.points import Point

__all__ = [
    "BAND",
    "CLASS_COLORS",
    "COLORS",
    "GREY",
    "MARKERS",
    "Dashes",
    "Line",
    "draw_band",
    "draw_bars",
    "lam_lines",
    "plain_lines",
    "write_figure",
]

# Colours of Okabe and Ito [1], and one of Tol [2], which the colour-blind tell apart; markers and
# dashes say the same without colour. The contrast of each with white, and with BAND, is at least 3.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#AA3377", "#000000")
# Ten colours made for the colour-blind [3].
CLASS_COLORS = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
GREY = "#767676"
BAND = "#f4f4f4"
# Of the colour map, from dark to as light as a contrast of 3 with white allows.
LAM_COLORS, LIGHTEST = "plasma", 0.63
_NO_METADATA = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


Dashes = str | tuple[float, Sequence[float]]


class Line(NamedTuple):
    """How one curve looks."""

    color: str
    marker: str
    dashes: Dashes


def plain_lines(count: int) -> list[Line]:
    """Looks for a few curves without an order."""
    return [
        Line(COLORS[n % len(COLORS)], MARKERS[n % len(MARKERS)], DASHES[n % len(DASHES)])
        for n in range(count)
    ]


def lam_lines(lams: Iterable[float]) -> dict[float, Line]:
    """Looks for the curves of many lams: from dark to light in their order."""
    ordered = sorted(set(lams))
    shades = matplotlib.colormaps[LAM_COLORS](np.linspace(0.0, LIGHTEST, len(ordered)))
    return {
        lam: Line(
            matplotlib.colors.to_hex(shade), MARKERS[n % len(MARKERS)], DASHES[n % len(DASHES)]
        )
        for n, (lam, shade) in enumerate(zip(ordered, shades, strict=True))
    }


def draw_bars(
    axes: Axes,
    places: Sequence[float],
    points: Sequence[Point],
    line: Line,
    label: str,
    *,
    hollow: Sequence[bool] = (),
    breaks: Sequence[float] = (),
) -> None:
    """Draws a curve with its bars; across a break of the axis it is thin.

    Args:
        axes: where to draw.
        places: the points' places on the x axis.
        points: the points.
        line: how it looks.
        label: its name in the legend.
        hollow: of each point, whether its marker is white inside; empty for none.
        breaks: where the x axis is broken.
    """
    if not points:
        return
    x, means = np.asarray(places), np.array([point.mean for point in points])
    bars = np.array([[p.mean - p.low for p in points], [p.high - p.mean for p in points]])
    for chosen, face in _faces(line, hollow, len(points)):
        axes.errorbar(
            x[chosen],
            means[chosen],
            bars[:, chosen],
            linestyle="none",
            color=line.color,
            marker=line.marker,
            markerfacecolor=face,
            elinewidth=0.8,
        )
    _draw_pieces(axes, x, means, line, breaks)
    _name_line(axes, line, label)


def _faces(line: Line, hollow: Sequence[bool], count: int) -> list[tuple[np.ndarray, str]]:
    """Which points have filled markers and which have hollow ones, and the colours inside."""
    white = np.array(hollow, bool) if len(hollow) else np.zeros(count, bool)
    return [(~white, line.color), (white, "white")]


def _name_line(axes: Axes, line: Line, label: str) -> None:
    """Adds a line to the legend, which would show markers and lines apart."""
    axes.plot([], [], color=line.color, linestyle=line.dashes, marker=line.marker, label=label)


def _draw_pieces(
    axes: Axes, x: np.ndarray, means: np.ndarray, line: Line, breaks: Sequence[float]
) -> None:
    """Draws the lines between breaks of the axis, and the thin ones across them."""
    plot = functools.partial(axes.plot, color=line.color, linestyle=line.dashes)
    pieces = np.digitize(x, breaks) if len(breaks) else np.zeros(len(x), int)
    for piece in np.unique(pieces):
        inside = pieces == piece
        plot(x[inside], means[inside])
    for last in np.flatnonzero(np.diff(pieces)):
        across = slice(last, last + 2)
        plot(x[across], means[across], linewidth=0.5)


def draw_band(
    axes: Axes, points: Sequence[Point], line: Line, label: str, *, hollow: Sequence[bool] = ()
) -> None:
    """Draws a curve of many points, with a marker at some of them and its bars as a band.

    Args:
        axes: where to draw.
        points: the points.
        line: how it looks.
        label: its name in the legend.
        hollow: as of `draw_bars`.
    """
    if not points:
        return
    x, means = np.array([p.x for p in points]), np.array([p.mean for p in points])
    axes.fill_between(
        x,
        [p.low for p in points],
        [p.high for p in points],
        color=line.color,
        alpha=0.2,
        linewidth=0,
    )
    axes.plot(x, means, color=line.color, linestyle=line.dashes)
    marked = np.arange(len(points)) % max(1, len(points) // 8) == 0
    for chosen, face in _faces(line, hollow, len(points)):
        here = marked & chosen
        axes.plot(
            x[here],
            means[here],
            color=line.color,
            linestyle="none",
            marker=line.marker,
            markerfacecolor=face,
            markersize=3.5,
        )
    _name_line(axes, line, label)


def write_figure(figure: Figure, file_format: str, file: BinaryIO) -> None:
    """Writes a figure as "png" or "pdf", without versions and dates: equal numbers, equal bytes."""
    figure.savefig(file, format=file_format, metadata=_NO_METADATA[file_format])
