"""How large figures are, how their panels lie, and which fonts they have."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from tfp_smvi.core.errors import SMVIError

__all__ = [
    "NARROW",
    "STYLES",
    "WIDE",
    "Layout",
    "Style",
    "legend_below",
    "make_layout",
    "panel_title",
    "panels",
    "styled",
]

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
# STIX has the shapes of Times, comes with matplotlib, and has the same letters for mathematics.
_PAPER_SETTINGS: dict[Any, Any] = {
    **_SETTINGS,
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "figure.dpi": 300.0,
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.0,
    "legend.fontsize": 7.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.5,
}


STACKED_HEIGHT = 2.4  # of a panel below others, inches
MOST_HEIGHT = 9.0  # of a figure, inches: a page has little more


class Style(NamedTuple):
    """What figures are made for.

    Attributes:
        widths: of a figure in one column and in two, inches.
        settings: matplotlib's.
        columns: how many columns a figure has if nothing else is asked for.
    """

    widths: tuple[float, float]
    settings: Mapping[Any, Any]
    columns: int


STYLES = {
    "screen": Style((3.5, 7.2), _SETTINGS, 2),
    "paper": Style((3.25, 6.75), _PAPER_SETTINGS, 1),
}


class Layout(NamedTuple):
    """A style and a number of columns.

    Attributes:
        style: a name of STYLES.
        columns: in one, panels are one below the other; in two, side by side.
    """

    style: str
    columns: int

    @property
    def width(self) -> float:
        """The width of a figure in inches."""
        return STYLES[self.style].widths[self.columns - 1]

    @property
    def stacked(self) -> bool:
        """Whether panels are one below the other."""
        return self.columns == 1


NARROW, WIDE = Layout("screen", 1), Layout("screen", 2)


def make_layout(style: str, columns: int | None) -> Layout:
    """Checks the names of a style and a number of columns; None: as many as the style has.

    Raises:
        SMVIError: there is no such style, or the columns are neither one nor two.
    """
    if style not in STYLES:
        allowed = " or ".join(STYLES)
        raise SMVIError("is not allowed", field="style", value=style, remedy=f"give {allowed}")
    if columns not in (None, 1, 2):
        raise SMVIError("is not allowed", field="columns", value=columns, remedy="give 1 or 2")
    return Layout(style, columns or STYLES[style].columns)


@contextlib.contextmanager
def styled(style: str = "screen") -> Iterator[None]:
    """Draws, or saves, in a style whatever a matplotlibrc says, which is partly read late."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLES[style].settings)
        yield


def panels(
    layout: Layout, rows: int, columns: int, height: float
) -> tuple[Figure, Sequence[Sequence[Axes]]]:
    """Makes the panels of one quantity; those of a row share their range, also when stacked.

    Args:
        layout: the layout.
        rows: the rows of panels.
        columns: the panels in each.
        height: of a panel with its labels if it is beside others, inches.

    Returns:
        The figure and its panels by row and column.
    """
    if not layout.stacked:
        size = (layout.width, rows * height + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, sharey="row").tolist()
    height = min(rows * columns * STACKED_HEIGHT + 0.6, MOST_HEIGHT)  # many panels are lower
    figure = Figure(figsize=(layout.width, height), layout="constrained")
    flat = figure.subplots(rows * columns, 1, squeeze=False).ravel().tolist()
    grid = [flat[row * columns : (row + 1) * columns] for row in range(rows)]
    for first, *others in grid:
        for axes in others:
            axes.sharey(first)
    return figure, grid


def legend_below(figure: Figure | SubFigure, axes: Axes, columns: int) -> None:
    """Puts the legend of a panel, which serves for all, under the figure.

    Args:
        figure: the figure, or the part of one that the legend is for.
        axes: the panel.
        columns: the most columns; it has fewer if they are wider than the figure.
    """
    handles = axes.get_legend_handles_labels()
    for count in range(columns, 0, -1):
        legend = figure.legend(*handles, loc="outside lower center", ncols=count)
        if count == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def panel_title(axes: Axes, letter: str, text: str) -> None:
    """Writes such as "(a) ELBO gap" above a panel."""
    axes.set_title(f"({letter}) {text}", loc="left")
