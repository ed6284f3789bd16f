"""A sweep as one HTML page that needs nothing else: figures, tables, warnings and settings."""

import base64
import io
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jinja2
from matplotlib.figure import Figure

from tfp_smvi.core.errors import explain_write_errors
from tfp_smvi.core.records import flatten
from tfp_smvi.report import points as figure_data
from tfp_smvi.report import tables as report_tables
from tfp_smvi.report.figures import FIGURES, describe_bars, draw_all, missing_figures
from tfp_smvi.report.style import styled, write_figure
from tfp_smvi.storage.atomic import write_atomically
from tfp_smvi.sweeps.results import Sweep
from tfp_smvi.version import __version__

__all__ = ["render_report", "write_report"]

# CSS pixels per inch of a figure, which is drawn at 200 dots per inch.
PIXELS_PER_INCH = 128


class _Picture(NamedTuple):
    """A figure as the page shows it."""

    name: str
    title: str
    caption: str
    alt: str
    data: str
    width: int
    height: int


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
    drawn, environment = draw_all(sweep), sweep.summary.environment
    return templates.get_template("report.html.j2").render(
        name=sweep.path.resolve().name,
        version=__version__,
        num_runs=len(sweep.runs),
        num_finished=len(sweep.finished),
        lams=[figure_data.lam_label(lam) for lam in sorted({run.lam for run in sweep.finished})],
        seeds=sorted({run.seed for run in sweep.finished}),
        left_out=sweep.left_out,
        pictures=[_picture(sweep, name, figure) for name, figure in drawn.items()],
        missing=[(FIGURES[name].title, needs) for name, needs in missing_figures(sweep).items()],
        warnings=_warnings(sweep),
        evaluation=report_tables.evaluation_table(sweep),
        accuracies=report_tables.accuracy_tables(sweep),
        differences=report_tables.difference_tables(sweep)
        + report_tables.difference_by_epoch_tables(sweep),
        runs=report_tables.runs_table(sweep),
        commands=[shlex.join(command) for command in sweep.commands],
        settings=_settings(sweep.summary.config.settings()),
        environment=_settings(environment.to_json() if environment else {}),
    )


def _picture(sweep: Sweep, name: str, figure: Figure) -> _Picture:
    kind, image = FIGURES[name], io.BytesIO()
    with styled():
        write_figure(figure, "png", image)
    width, height = (round(PIXELS_PER_INCH * inches) for inches in figure.get_size_inches())
    lams = ", ".join(
        figure_data.lam_label(lam) for lam in sorted({run.lam for run in sweep.finished})
    )
    return _Picture(
        name,
        kind.title,
        f"{kind.caption} {describe_bars(sweep, name)}".strip(),
        f"{kind.title}, for λ = {lams}. {kind.in_words}",
        base64.b64encode(image.getvalue()).decode(),
        width,
        height,
    )


def _warnings(sweep: Sweep) -> list[tuple[str, list[str]]]:
    """The warnings of all stages, by run."""
    return [
        (f"λ = {figure_data.lam_label(run.lam)}, seed {run.seed}", [*run.all_warnings])
        for run in sweep.finished
        if run.all_warnings
    ]


def _settings(values: Mapping[str, object]) -> list[tuple[str, str]]:
    """Pairs of a dotted name and a printed value, of nested JSON objects."""
    return [
        (name, value if isinstance(value, str) else json.dumps(value))
        for name, value in flatten(values)
    ]
