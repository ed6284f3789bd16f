"""How figures look: for paper, for grey print and for the colour-blind."""

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfp_smvi.report.points import Point

__all__ = [
    "Dashes",
    "Line",
    "draw_band",
    "draw_bars",
    "lam_lines",
    "plain_lines",
    "styled",
    "write_figure",
]

# Okabe and Ito's palette, which the colour-blind tell apart; markers and dashes say the same
# without colour.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
GREY = "#767676"
_NO_METADATA = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}
_SETTINGS: dict[Any, Any] = {
    "figure.dpi": 200.0,
    "pdf.fonttype": 42,  # TrueType: many publishers refuse Type 3
    "font.size": 8.5,
    "axes.titlesize": 9.0,
    "axes.labelsize": 8.5,
    "legend.fontsize": 7.5,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "errorbar.capsize": 2.0,
}


Dashes = str | tuple[float, Sequence[float]]


class Line(NamedTuple):
    """How one curve looks."""

    color: str
    marker: str
    dashes: Dashes


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Draws, or saves, in this style whatever a matplotlibrc says, which is partly read late."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def plain_lines(count: int) -> list[Line]:
    """Looks for a few curves without an order."""
    return [
        Line(COLORS[n % len(COLORS)], MARKERS[n % len(MARKERS)], DASHES[n % len(DASHES)])
        for n in range(count)
    ]


def lam_lines(lams: Iterable[float]) -> dict[float, Line]:
    """Looks for the curves of many lams: from dark to light in their order."""
    ordered = sorted(set(lams))
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(ordered)))
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
    hollow: bool = False,
    breaks: Sequence[float] = (),
) -> None:
    """Draws a curve with its bars; across a break of the axis it is thin and pale.

    Args:
        axes: where to draw.
        places: the points' places on the x axis.
        points: the points.
        line: how it looks.
        label: its name in the legend.
        hollow: whether markers are white inside.
        breaks: where the x axis is broken.
    """
    if not points:
        return
    x, means = np.asarray(places), np.array([point.mean for point in points])
    face = "white" if hollow else line.color
    bars = [[p.mean - p.low for p in points], [p.high - p.mean for p in points]]
    axes.errorbar(
        x,
        means,
        bars,
        linestyle="none",
        color=line.color,
        marker=line.marker,
        markerfacecolor=face,
        elinewidth=0.8,
    )
    _draw_pieces(axes, x, means, line, breaks)
    # For the legend, which would show markers and lines apart.
    axes.plot(
        [],
        [],
        color=line.color,
        linestyle=line.dashes,
        marker=line.marker,
        markerfacecolor=face,
        label=label,
    )


def _draw_pieces(
    axes: Axes, x: np.ndarray, means: np.ndarray, line: Line, breaks: Sequence[float]
) -> None:
    """Draws the lines between breaks of the axis, and the pale ones across them."""
    plot = functools.partial(axes.plot, color=line.color, linestyle=line.dashes)
    pieces = np.digitize(x, breaks) if len(breaks) else np.zeros(len(x), int)
    for piece in np.unique(pieces):
        inside = pieces == piece
        plot(x[inside], means[inside])
    for last in np.flatnonzero(np.diff(pieces)):
        across = slice(last, last + 2)
        plot(x[across], means[across], linewidth=0.5, alpha=0.5)


def draw_band(axes: Axes, points: Sequence[Point], line: Line, label: str) -> None:
    """Draws a curve of many points, with a marker at some of them and its bars as a band."""
    if not points:
        return
    x = [point.x for point in points]
    axes.fill_between(
        x,
        [p.low for p in points],
        [p.high for p in points],
        color=line.color,
        alpha=0.2,
        linewidth=0,
    )
    axes.plot(
        x,
        [point.mean for point in points],
        color=line.color,
        linestyle=line.dashes,
        marker=line.marker,
        markevery=max(1, len(points) // 8),
        markersize=3.5,
        label=label,
    )


def write_figure(figure: Figure, file_format: str, file: BinaryIO) -> None:
    """Writes a figure as "png" or "pdf", without versions and dates: equal numbers, equal bytes."""
    figure.savefig(file, format=file_format, metadata=_NO_METADATA[file_format])
