"""tfp-smvi export."""

import contextlib
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tfp_smvi.config import ExportPrecision, ExportWeights, FormatName, PartName
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.export import standalone_check
from tfp_smvi.export.standalone import started_early
from tfp_smvi.export.versions import check_model_name, check_version

from .json_output import echo_json, json_option
from .options import usage_error

__all__ = ["export"]


class _Checked(click.ParamType):  # type: ignore[type-arg]  # click 8.1 takes no type argument
    """A text that a function of the library checks and converts."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        """Stores the name of the type and the function."""
        self.name, self._read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Converts the text."""
        try:
            return self._read(str(value))
        except SMVIError as error:
            raise usage_error(error) from error


@click.command()
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path), required=False)
@click.option(
    "--model-name",
    type=_Checked("name", check_model_name),
    help="The name of the model.  [default: the name of the run]",
)
@click.option(
    "--version",
    type=_Checked("integer", check_version),
    help="The version.  [default: the next free one]",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default="saved_models",
    show_default=True,
    help="The folder of the models.",
)
@click.option(
    "--part",
    type=click.Choice(typing.get_args(PartName)),
    default="encoder",
    show_default=True,
    help="The part to export; both are two models, and the name of the decoder ends in -decoder.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(typing.get_args(FormatName)),
    help="Write this format for other runtimes beside the SavedModel; can be given several times.",
)
@click.option(
    "--precision",
    type=click.Choice(typing.get_args(ExportPrecision)),
    default="float32",
    show_default=True,
    help="Arithmetic of the encoder's matrix products; bfloat16 is faster if the processor "
    "multiplies it.",
)
@click.option(
    "--weights",
    type=click.Choice(typing.get_args(ExportWeights)),
    default="float32",
    show_default=True,
    help="What the weights are stored in; float16 takes half of the bytes, the arithmetic is the "
    "same.",
)
@click.option(
    "--verify/--no-verify",
    default=True,
    show_default=True,
    help="Load the result in a fresh process, and publish it only if it answers like the model.",
)
@click.option(
    "--check",
    "path",
    type=click.Path(file_okay=False, path_type=Path),
    help="Export nothing; check the version in this folder, such as saved_models/NAME/1.",
)
@json_option("the result")
def export(run_dir: Path | None, path: Path | None, as_json: bool, **options: Any) -> int:
    """Publish the model of a run as a new version that TF Serving loads, or check one.

    A version appears whole or not at all, and an existing one is never changed.
    """
    if (run_dir is None) == (path is None):
        raise click.UsageError("give either RUN_DIR, to export it, or --check FOLDER.")
    if path is not None:
        _check(path, as_json)
        return 0
    from .progress.training import make_reporter

    reporter = make_reporter()
    verifying = started_early(standalone_check) if options["verify"] else contextlib.nullcontext()
    with verifying:
        with reporter.loading_tensorflow():
            from tfp_smvi.export.exporter import export_run
        with reporter.starting("Exporting"):
            results = export_run(
                typing.cast(Path, run_dir), note=reporter.note, warn=reporter.warn, **options
            )
    if as_json:
        echo_json([{"path": str(folder), **card.to_json()} for folder, card in results])
        return 0
    for folder, card in results:
        click.echo(
            f"Exported the {card.part} to {folder}, with the signatures "
            f"{', '.join(card.signatures)}."
        )
        for spec in card.formats.values():
            click.echo(f"Beside it: {', '.join(spec.files.values())}.")
    if options["verify"]:
        click.echo("Loaded in a fresh process, every signature answers like the model.")
    return 0


def _check(folder: Path, as_json: bool) -> None:
    from .progress.training import make_reporter

    reporter = make_reporter()
    with reporter.starting("Checking"):
        from tfp_smvi.export.check import check_export

        check_export(folder, warn=reporter.warn)
    if as_json:
        echo_json({"path": str(folder), "whole": True})
    else:
        click.echo(f"{folder} is whole, and every signature answers as recorded.")
