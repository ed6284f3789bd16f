"""The axes of figures: one of lam with a place for 0 and infinity, and values of any size."""

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tfp_smvi.report.points import Point, lam_label
from tfp_smvi.report.style import BAND, GREY

__all__ = [
    "LamAxis",
    "epoch_ticks",
    "keep_labels_apart",
    "mark_linear_part",
    "number_label",
    "percent_label",
    "scale_of",
    "value_axis",
]

MOST_EPOCHS = 6  # with a tick each


def number_label(value: float, position: object = None) -> str:
    """A number in print, with a true minus sign; also for `FuncFormatter`."""
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def percent_label(value: float, position: object = None) -> str:
    """A fraction in percent in print, without the sign; also for `FuncFormatter`."""
    return number_label(100.0 * value)


class LamAxis:
    """A logarithmic axis of lam, broken where zero, negative values and infinity have their places.

    Args:
        lams: the values that need a place.
        name: what is written at one.
        growing: those that runs have not reached, whose markers are hollow.
        label: what the axis shows.
    """

    def __init__(
        self,
        lams: Iterable[float],
        name: Callable[[float], str] = lam_label,
        growing: Collection[float] = (),
        label: str = "λ, the weight of the divergence",
    ) -> None:
        """Gives each region its place, in decades from left to right."""
        self._name, self.growing, self._label = name, growing, label
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
        """The place of a lam on the axis."""
        return self._offsets[_region(lam)] + _decades(lam)

    def dress(self, axes: Axes) -> None:
        """Puts ticks, labels and the marks of the breaks on an axis."""
        axes.set_xlim(self.left, self.right)
        axes.set_xticks([self.place(lam) for lam in self.lams], [*map(self._name, self.lams)])
        axes.set_xticks(self._minor(), minor=True)
        axes.tick_params(axis="x", which="minor", length=1.5)
        axes.set_xlabel(self._label)
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
        """The places of 1, 2, ..., 9 times each power of ten among the positive lams."""
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
        if any(left.x1 + gap > right.x0 for left, right in itertools.pairwise(boxes)):
            axes.tick_params(axis="x", labelrotation=60)


def value_axis(axes: Axes, points: Iterable[Point]) -> None:
    """Scales the y axis by its values: linear, logarithmic, or both ("symlog")."""
    scale, options = scale_of(points)
    axes.set_yscale(scale, **options)
    if scale == "symlog":
        mark_linear_part([axes], options["linthresh"], named=[axes])
    if scale != "linear":
        axes.yaxis.set_major_formatter(FuncFormatter(number_label))


def mark_linear_part(row: Sequence[Axes], threshold: float, named: Iterable[Axes]) -> None:
    """Marks where a "symlog" axis changes from linear to logarithmic.

    Args:
        row: panels that share the axis.
        threshold: the axis is linear up to it, to each side.
        named: those that have the words beside them: the parts' names, "log" and "linear".
    """
    for axes in row:
        axes.axhspan(-threshold, threshold, color=BAND, linewidth=0.0, zorder=0.0)
        for edge in (-threshold, threshold):
            axes.axhline(edge, color=GREY, linewidth=0.6, linestyle=(0, (4, 3)), zorder=1.0)
    for axes in named:
        _name_parts(axes, threshold)


def _name_parts(axes: Axes, threshold: float) -> None:
    """Puts "log" and "linear" beside the parts of a "symlog" axis."""
    low, high = axes.get_ylim()
    for name, bottom, top in (
        ("log", threshold, high),
        ("linear", max(low, -threshold), min(high, threshold)),
        ("log", low, -threshold),
    ):
        place = axes.transLimits.transform(axes.transScale.transform([(0, bottom), (0, top)]))
        if place[1, 1] - place[0, 1] > 0.1:  # room for the word
            axes.text(
                1.01,
                place[:, 1].mean(),
                name,
                transform=axes.transAxes,
                rotation=90,
                va="center",
                fontsize="x-small",
                color=GREY,
            )


def epoch_ticks(axes: Axes, epochs: Collection[float] = ()) -> None:
    """Puts ticks at the given epochs if they are few, and otherwise at round numbers."""
    if 0 < len(epochs) <= MOST_EPOCHS:
        axes.set_xticks(sorted(epochs))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(MOST_EPOCHS, integer=True, steps=[1, 2, 5, 10]))


def scale_of(points: Iterable[Point]) -> tuple[str, Mapping[str, float]]:
    """Chooses the scale of an axis.

    Values within a factor of ten are shown linearly, others logarithmically. If a value or its bar
    reaches zero or below, the part of the size of those values is linear ("symlog").

    Returns:
        The name of a matplotlib scale and its options.
    """
    points = list(points)
    sizes = [abs(point.mean) for point in points if point.mean != 0.0]
    if not sizes:
        return "linear", {}
    reaching_zero = [max(-point.low, point.high) for point in points if point.low <= 0.0]
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
