"""How figures look: for paper, for grey print and for the colour-blind, with an axis that has a place for lam = 0."""

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tfp_smvi.report.points import Point, lam_label

__all__ = [
    "LamAxis",
    "Line",
    "draw_band",
    "draw_bars",
    "keep_labels_apart",
    "lam_lines",
    "number_label",
    "plain_lines",
    "scale_of",
    "styled",
    "value_axis",
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


class Line(NamedTuple):
    """How one curve looks."""

    color: str
    marker: str
    dashes: Any


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Draws, or saves, in this style, whatever a matplotlibrc says: some of it is looked up at the very end."""
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


def number_label(value: float, position: object = None) -> str:
    """A number in print, with a true minus sign; also for `FuncFormatter`."""
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


class LamAxis:
    """A logarithmic axis of lam, broken where zero, negative values and infinity have their places.

    Args:
        lams: the values that need a place.
    """

    def __init__(self, lams: Iterable[float]) -> None:
        """Gives each region its place, in decades from left to right."""
        self.lams = sorted(set(lams))
        regions = [
            [lam for lam in self.lams if lam < 0.0],
            [lam for lam in self.lams if lam == 0.0],
            [lam for lam in self.lams if 0.0 < lam < math.inf],
            [lam for lam in self.lams if math.isinf(lam)],
        ]
        self.regions = [region for region in regions if region]
        widths = [_decades(region[-1]) - _decades(region[0]) for region in self.regions]
        gap = max(0.5, 0.12 * sum(widths))
        self._offsets: dict[int, float] = {}
        self.breaks, start = [], 0.0
        for region, width in zip(self.regions, widths, strict=True):
            if start > 0.0:
                self.breaks.append(start - 0.5 * gap)
            self._offsets[_region(region[0])] = start - _decades(region[0])
            start += width + gap
        self.left, self.right = -0.4 * gap, start - 0.6 * gap

    def place(self, lam: float) -> float:
        """Where a lam stands on the axis."""
        return self._offsets[_region(lam)] + _decades(lam)

    def dress(self, axes: Axes) -> None:
        """Puts ticks, labels and the marks of the breaks on an axis."""
        axes.set_xlim(self.left, self.right)
        axes.set_xticks(
            [self.place(lam) for lam in self.lams], [lam_label(lam) for lam in self.lams]
        )
        axes.set_xticks(self._minor(), minor=True)
        axes.tick_params(axis="x", which="minor", length=1.5)
        axes.set_xlabel("λ, the weight of the divergence")
        for place in self.breaks:
            axes.plot(
                [place],
                [0.0],
                transform=axes.get_xaxis_transform(),
                marker=[(-0.6, -1.0), (0.6, 1.0)],
                markersize=8,
                color="black",
                markeredgewidth=0.8,
                clip_on=False,
                zorder=10,
            )

    def _minor(self) -> list[float]:
        """Where 1, 2, ..., 9 times each power of ten stand among the positive lams, as on any logarithmic axis."""
        positive = next((region for region in self.regions if 0.0 < region[0] < math.inf), None)
        if positive is None:
            return []
        low, high = positive[0], positive[-1]
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        values = [digit * 10.0**exponent for exponent in exponents for digit in range(1, 10)]
        return [self.place(value) for value in values if low <= value <= high]


def keep_labels_apart(figure: Figure) -> None:
    """Turns the labels of an x axis on which they would touch."""
    figure.draw_without_rendering()  # so that all have their places
    for axes in figure.axes:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        gap = 0.03 * figure.dpi
        if any(one.x1 + gap > other.x0 for one, other in itertools.pairwise(boxes)):
            axes.tick_params(axis="x", labelrotation=60)


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
    """Draws a curve with its bars; across a break of the axis it goes on thin and pale.

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
    pieces = np.digitize(x, breaks) if len(breaks) else np.zeros(len(x), int)
    for piece in np.unique(pieces):
        inside = pieces == piece
        axes.plot(x[inside], means[inside], color=line.color, linestyle=line.dashes)
    for last in np.flatnonzero(np.diff(pieces)):
        across = slice(last, last + 2)
        axes.plot(
            x[across],
            means[across],
            color=line.color,
            linestyle=line.dashes,
            linewidth=0.5,
            alpha=0.5,
        )
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


def value_axis(axes: Axes, points: Iterable[Point]) -> None:
    """Scales the y axis by its values: linear, logarithmic, or logarithmic with a linear part about zero."""
    scale, options = scale_of(points)
    axes.set_yscale(scale, **options)
    if scale != "linear":
        axes.yaxis.set_major_formatter(FuncFormatter(number_label))


def scale_of(points: Iterable[Point]) -> tuple[str, Mapping[str, float]]:
    """Chooses the scale of an axis.

    Values within a factor of ten are shown linearly, others logarithmically. Where a value, or its
    bar, reaches zero or below, the part of the size of those values is linear ("symlog").

    Returns:
        The name of a matplotlib scale and its options.
    """
    found = list(points)
    sizes = [abs(point.mean) for point in found if point.mean != 0.0]
    if not sizes:
        return "linear", {}
    reaching_zero = [max(-point.low, point.high) for point in found if point.low <= 0.0]
    if not reaching_zero:
        return ("log", {}) if max(sizes) > 10.0 * min(sizes) else ("linear", {})
    threshold = 10.0 ** math.ceil(math.log10(max(reaching_zero) or min(sizes)))
    return ("symlog", {"linthresh": threshold}) if max(sizes) > 10.0 * threshold else ("linear", {})


def _decades(lam: float) -> float:
    """The place of a lam within its region."""
    if lam == 0.0 or math.isinf(lam):
        return 0.0
    return math.log10(lam) if lam > 0.0 else -math.log10(-lam)


def _region(lam: float) -> int:
    return 2 if math.isinf(lam) else (lam > 0.0) - (lam < 0.0)


def write_figure(figure: Figure, file_format: str, file: BinaryIO) -> None:
    """Writes a figure as "png" or "pdf". Without versions and dates in it, the same numbers make the same file."""
    figure.savefig(file, format=file_format, metadata=_NO_METADATA[file_format])
