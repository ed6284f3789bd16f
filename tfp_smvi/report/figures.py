"""Drawing all the figures of a sweep, and writing them to files."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from matplotlib.figure import Figure

from tfp_smvi.core.errors import explain_write_errors
from tfp_smvi.report.figure_kinds import FIGURES
from tfp_smvi.report.latex import latex_tables
from tfp_smvi.report.layout import WIDE, Layout, make_layout, styled
from tfp_smvi.report.style import write_figure
from tfp_smvi.storage.atomic import write_atomically
from tfp_smvi.sweeps.results import Sweep

__all__ = [
    "PlotResult",
    "draw_all",
    "lay_out",
    "missing_figures",
    "plot_sweep",
    "write_figures",
]


class PlotResult(NamedTuple):
    """What became of a sweep's figures.

    Attributes:
        files: those that were written.
        missing: the figures that could not be drawn, each with the reason.
    """

    files: list[Path]
    missing: dict[str, str]


def plot_sweep(
    sweep: Sweep,
    directory: Path,
    formats: Sequence[str] = ("png",),
    *,
    style: str = "screen",
    columns: int | None = None,
) -> PlotResult:
    """Draws all figures of a sweep that its results allow, such as likelihood.png.

    Args:
        sweep: the sweep.
        directory: the folder for the files; it is made if it does not exist.
        formats: "png" (200 dots per inch, for a paper 300), "pdf" or both.
        style: "screen", or "paper", which has a paper's fonts and adds the tables in LaTeX.
        columns: one column of a page, in which panels are stacked, or two; None: two for the
            screen, one for a paper.

    Raises:
        SMVIError: an argument is not allowed, a gallery cannot be read, or a file cannot be
            written.
    """
    layout = make_layout(style, columns)
    drawn, tables = draw_all(sweep, layout), latex_tables(sweep) if style == "paper" else {}
    files = write_figures(drawn, directory, formats, style, tables)
    return PlotResult(files, missing_figures(sweep))


def write_figures(
    figures: Mapping[str, Figure],
    directory: Path,
    formats: Sequence[str],
    style: str,
    tables: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes figures and the texts of tables to files with their names, and returns the files.

    Raises:
        SMVIError: a file cannot be written.
    """
    files = []
    with (
        styled(style),
        explain_write_errors(f"to {directory}", "make room or choose another {output}"),
    ):
        directory.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            for suffix in formats:
                path = directory / f"{name}.{suffix}"
                write_atomically(path, functools.partial(write_figure, figure, suffix))
                files.append(path)
        for name, text in (tables or {}).items():
            path = directory / f"{name}.tex"
            write_atomically(path, functools.partial(_write_text, text))
            files.append(path)
    return files


def _write_text(text: str, file: BinaryIO) -> None:
    file.write(text.encode())


def draw_all(sweep: Sweep, layout: Layout = WIDE) -> dict[str, Figure]:
    """Draws each of FIGURES that the sweep has the data for.

    Raises:
        SMVIError: a gallery cannot be read.
    """
    with styled(layout.style):
        drawn = {
            name: kind.draw(sweep, layout) for name, kind in FIGURES.items() if kind.has_data(sweep)
        }
        for figure in drawn.values():
            lay_out(figure)
    return drawn


def lay_out(figure: Figure) -> None:
    """Lays a figure out once, so that every format shows the same."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def missing_figures(sweep: Sweep) -> dict[str, str]:
    """Returns the figures that cannot be drawn, each with the reason.

    Raises:
        SMVIError: a gallery cannot be read.
    """
    return {name: kind.needs for name, kind in FIGURES.items() if not kind.has_data(sweep)}
