"""tfp-smvi features."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.errors import SMVIError

from .options import data_dir_option, setting, threads_option, usage_error
from .progress.base import WorkReporter

__all__ = ["FeaturesProgress", "features"]


class FeaturesProgress(WorkReporter):
    """Shows the images that are done, and the speed; a `tfp_smvi.features.extraction.FeaturesReporter`."""

    def __init__(self, console: Console) -> None:
        """Shows it on a console."""
        super().__init__(
            console,
            TextColumn("features"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}  ETA"),
            TimeRemainingColumn(),
        )

    def begin(self, num_images: int, num_done: int) -> None:
        """Says what is done already."""
        self._begin(num_images, num_done)
        if num_done:
            self.note(f"Going on after {num_done} of {num_images} images.")
        self._task = self._bar.add_task("features", total=num_images, completed=num_done, rate="")

    def advance(self, num_images: int) -> None:
        """Moves the bar, or prints a line if the last one is some time ago."""
        self._done += num_images
        rate = f"{self._speed():.0f} images/s"
        self._bar.update(self._task, completed=self._done, rate=rate)
        if self._line_is_due():
            self.note(f"{self._done} of {self._total} images, {rate}")


@click.command()
@click.argument("images", metavar="INPUT")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help=".npz or .parquet with ids, mean and stddev, or .npy with the means alone.",
)
@click.option(
    "--model",
    type=click.Path(file_okay=False, path_type=Path),
    help="A local export, saved_models/NAME: its highest version, or --version.",
)
@click.option(
    "--endpoint", help="A server instead: grpc://HOST:8500/NAME or http://HOST:8501/NAME."
)
@click.option("--version", type=click.IntRange(min=1), help="The version of the model.")
@click.option("--label", help="The label of the version, at a server.")
@click.option("--key", help="The array in an .npz file; needed where it has several.")
@setting(FeaturesConfig, "batch_size")
@setting(FeaturesConfig, "in_flight")
@setting(FeaturesConfig, "timeout")
@setting(FeaturesConfig, "retries")
@setting(FeaturesConfig, "on_error")
@click.option("--fresh", is_flag=True, help="Replace the output that is there, and begin it anew.")
@data_dir_option
@threads_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def features(
    images: str,
    output: Path,
    model: Path | None,
    endpoint: str | None,
    version: int | None,
    label: str | None,
    key: str | None,
    fresh: bool,
    data_dir: Path | None,
    threads: int | None,
    as_json: bool,
    **settings: Any,
) -> int:
    """Write the features of many images, the mean and stddev of q(z|x), to a file.

    INPUT is a .npy or .npz file, a folder of PNG and JPEG files, or tfds:NAME/SPLIT such as
    tfds:mnist/test. The same command again goes on where it was stopped.
    """
    if (model is None) == (endpoint is None):
        raise click.UsageError("give either --model, a local export, or --endpoint, a server.")
    if label is not None and (model is not None or version is not None):
        raise click.UsageError(
            "--label names a version at a server: give it with --endpoint and without --version."
        )
    from tfp_smvi.features.files import require_suffix
    from tfp_smvi.serving.client import Endpoint

    try:
        config = FeaturesConfig(**settings)
        require_suffix(output)
        if endpoint is not None:
            Endpoint.parse(endpoint)
    except SMVIError as error:
        raise usage_error(error) from error
    from .stopping import stop_at_once

    reporter = FeaturesProgress(Console(stderr=True, highlight=False, soft_wrap=True))
    message = (
        f"Stopped; what is done is kept in {output}.partial. Run the same command again to go on."
    )
    with stop_at_once(lambda: reporter.stop(message)):
        with reporter.loading_tensorflow(threads):
            from tfp_smvi.features.extraction import extract_features
            from tfp_smvi.features.images import open_images
            from tfp_smvi.serving.client import connect
            from tfp_smvi.serving.encoders import LocalEncoder

        source = open_images(images, key, data_dir, note=reporter.note)
        encoder = (
            LocalEncoder(model, version)
            if model
            else connect(endpoint or "", config, version, label)
        )
        with contextlib.closing(encoder), reporter:
            report = extract_features(
                source, encoder, output, config, fresh=fresh, reporter=reporter
            )
    _print(dataclasses.asdict(report), reporter, as_json)
    return 0


def _print(report: dict[str, Any], reporter: FeaturesProgress, as_json: bool) -> None:
    if report["num_skipped"]:
        reporter.warn(
            f"{report['num_skipped']} of {report['num_images']} images have no features, such as:"
        )
        for line in report["first_errors"]:
            reporter.note(f"  {line}")
        reporter.note(f"All of them are in {report['errors_file']}.")
    if as_json:
        click.echo(json.dumps(report))
        return
    speed = f", {report['images_per_second']:.0f} images/s" if report["images_per_second"] else ""
    click.echo(f"The features of {report['num_features']} images are in {report['output']}{speed}.")
