"""A sweep as one HTML page that needs nothing else: figures, tables, warnings and settings."""

import base64
import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from tfp_smvi.core.errors import explain_write_errors
from tfp_smvi.core.extras import of_extra
from tfp_smvi.report import figures
from tfp_smvi.report import points as figure_data
from tfp_smvi.report import tables as report_tables
from tfp_smvi.report.captions import describe_bars, describe_dagger
from tfp_smvi.report.cells import density_units
from tfp_smvi.report.divergence_names import divergence_in_words, divergence_of
from tfp_smvi.report.figure_kinds import FIGURES
from tfp_smvi.report.layout import NARROW, WIDE, styled
from tfp_smvi.report.level_names import level_title, symbol
from tfp_smvi.report.local_table import local_table
from tfp_smvi.report.posterior_table import posterior_table
from tfp_smvi.report.settings import describe_environment, describe_settings
from tfp_smvi.report.style import write_figure
from tfp_smvi.report.worst_examples import worst_table
from tfp_smvi.storage.atomic import write_atomically
from tfp_smvi.sweeps.results import Sweep
from tfp_smvi.version import __version__

with of_extra("plot"):
    import jinja2

__all__ = ["render_report", "write_report"]

# CSS pixels per inch of a figure, which is drawn at 200 dots per inch.
PIXELS_PER_INCH = 128


class _Image(NamedTuple):
    """An image as the page holds it; sizes are in CSS pixels."""

    data: str
    width: int
    height: int


class _Picture(NamedTuple):
    """A figure as the page shows it: on a wide screen, and on a narrow one."""

    name: str
    title: str
    caption: str
    alt: str
    wide: _Image
    narrow: _Image


def write_report(sweep: Sweep, path: Path) -> None:
    """Writes the page of a sweep, whole or not at all.

    Raises:
        SMVIError: a gallery cannot be read, or the page cannot be written.
    """
    page = render_report(sweep)
    with explain_write_errors(str(path), "make room or choose another {output}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(page.encode(errors="backslashreplace")))


def render_report(sweep: Sweep) -> str:
    """Returns the page: HTML that refers to nothing outside itself.

    Raises:
        SMVIError: a gallery cannot be read.
    """
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("tfp_smvi.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    wide, narrow = (figures.draw_all(sweep, layout) for layout in (WIDE, NARROW))
    templates.globals["split_range"] = _split_range
    return templates.get_template("report.html.j2").render(
        name=sweep.path.resolve().name,
        version=__version__,
        num_runs=len(sweep.runs),
        num_finished=len(sweep.finished),
        divergence=divergence_of(sweep).short,
        lams=[figure_data.lam_label(lam) for lam in sorted({run.level for run in sweep.finished})],
        symbol=symbol(sweep),
        seeds=sorted({run.seed for run in sweep.finished}),
        left_out=sweep.left_out,
        pictures=[_picture(sweep, name, wide[name], narrow[name]) for name in wide],
        missing=[
            (FIGURES[name].title, needs) for name, needs in figures.missing_figures(sweep).items()
        ],
        warnings=_warnings(sweep),
        likelihood=report_tables.likelihood_table(sweep),
        diagnostics=report_tables.diagnostics_table(sweep),
        local=local_table(sweep),
        posterior=posterior_table(sweep),
        worst=worst_table(sweep),
        accuracies=[*report_tables.accuracy_tables(sweep).values()],
        differences=[
            *report_tables.difference_tables(sweep).values(),
            *report_tables.difference_by_epoch_tables(sweep).values(),
        ],
        runs=report_tables.runs_table(sweep),
        commands=[_options(command) for command in sweep.commands],
        settings=describe_settings(sweep.summary.config),
        environment=describe_environment(sweep.summary.environment),
    )


def _split_range(cell: str) -> list[str]:
    """A number and its range, such as "(1.2 to 1.4)", which may be in the next line."""
    number, space, between = cell.partition(" (")
    return [number, f"({between}"] if space and " to " in between else [cell]


def _options(command: Sequence[str]) -> list[str]:
    """The parts of a command between which a line may end: each option with its value."""
    parts: list[list[str]] = []
    for word in command:
        if not parts or word.startswith("--"):
            parts.append([])
        parts[-1].append(word)
    return [shlex.join(part) for part in parts]


# The figures of ELBO and log-likelihood.
_OF_DENSITIES = ("likelihood", "frontier", "training")


def _picture(sweep: Sweep, name: str, wide: Figure, narrow: Figure) -> _Picture:
    kind = FIGURES[name]
    caption = kind.caption.replace("{divergence}", divergence_in_words(sweep))
    lams = ", ".join(
        figure_data.lam_label(lam) for lam in sorted({run.level for run in sweep.finished})
    )
    return _Picture(
        name,
        kind.title,
        " ".join(
            filter(
                None,
                (
                    caption,
                    density_units(sweep).strip() if name in _OF_DENSITIES else "",
                    describe_bars(sweep, name),
                    describe_dagger(sweep),
                ),
            )
        ),
        f"{kind.title}, for {symbol(sweep)} = {lams}. {kind.in_words}",
        _image(wide),
        _image(narrow),
    )


def _image(figure: Figure) -> _Image:
    file = io.BytesIO()
    with styled():
        write_figure(figure, "png", file)
    width, height = (round(PIXELS_PER_INCH * inches) for inches in figure.get_size_inches())
    return _Image(base64.b64encode(file.getvalue()).decode(), width, height)


def _warnings(sweep: Sweep) -> list[tuple[str, list[str]]]:
    """The warnings of all stages, by run."""
    return [
        (f"{level_title(sweep, run.level)}, seed {run.seed}", [*run.all_warnings])
        for run in sweep.finished
        if run.all_warnings
    ]
