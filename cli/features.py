"""tfp-smvi features."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.errors import SMVIError

from .engines import engine_option
from .groups import GroupedCommand, grouped
from .json_output import echo_json, json_option
from .options import data_dir_option, setting, threads_option, usage_error
from .progress.base import stderr_console
from .progress.features import FeaturesProgress

if TYPE_CHECKING:
    from tfp_smvi.features.results import FeaturesReport
    from tfp_smvi.serving.encoders import Encoder

__all__ = ["features"]


@click.command(cls=GroupedCommand)
@click.argument("images", metavar="INPUT")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("features.npz"),
    show_default=True,
    help=".npz or .parquet with ids, mean and stddev, or .npy with the means only.",
)
@grouped(
    "Encoder",
    "--model",
    type=click.Path(file_okay=False, path_type=Path),
    help="A local export, saved_models/NAME, or pretrained:mnist, which is installed: its highest "
    "version, or --version.",
)
@grouped(
    "Encoder",
    "--endpoint",
    help="A server instead of --model: grpc://HOST:8500/NAME or http://HOST:8501/NAME.",
)
@grouped("Encoder", "--version", type=click.IntRange(min=1), help="The version of the model.")
@grouped("Encoder", "--label", help="The label of the version on the server.")
@grouped(
    "Encoder",
    "--run-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="A run directory instead of --model, for --refine.",
)
@grouped(
    "Encoder",
    "--refine",
    type=click.IntRange(min=1),
    metavar="STEPS",
    help="Write the features of the best q(z|x) of each example, which a search of at most this "
    "many steps finds; needs --run-dir.",
)
@click.option("--key", help="The array in an .npz file; needed if it has several.")
@click.option(
    "--label-column",
    help='The column of a table to leave out.  [default: "label" if there is one]',
)
@setting(FeaturesConfig, "batch_size")
@setting(FeaturesConfig, "in_flight")
@setting(FeaturesConfig, "timeout")
@setting(FeaturesConfig, "retries")
@setting(FeaturesConfig, "on_error")
@click.option("--fresh", is_flag=True, help="Replace an existing output, and start again.")
@engine_option
@data_dir_option
@threads_option
@json_option("the result")
def features(
    images: str,
    output: Path,
    model: Path | None,
    endpoint: str | None,
    version: int | None,
    label: str | None,
    run_dir: Path | None,
    refine: int | None,
    key: str | None,
    label_column: str | None,
    fresh: bool,
    engine: str,
    data_dir: Path | None,
    threads: int | None,
    as_json: bool,
    **settings: Any,
) -> int:
    """Write the features of many examples, the mean and stddev of q(z|x), to a file.

    INPUT is a .npy or .npz file, a .csv or .parquet table, a folder of PNG and JPEG files, or
    tfds:NAME/SPLIT such as tfds:mnist/test. After a stop, the same command continues the work.
    """
    _check_refine(run_dir, refine, model or endpoint or version or label)
    config = _check_usage(model or run_dir, endpoint, version, label, output, settings)
    from .stopping import stop_at_once

    reporter = FeaturesProgress(stderr_console())
    message = (
        f"Stopped; what is done is kept in {output}.partial. Run the same command again to go on."
    )
    with stop_at_once(lambda: reporter.stop(message)):
        with reporter.loading_tensorflow(threads):
            from tfp_smvi.engines.opening import open_engine
            from tfp_smvi.features.extraction import extract_features
            from tfp_smvi.features.images import open_images
            from tfp_smvi.serving.client import connect
            from tfp_smvi.serving.encoders import LocalEncoder

        source = open_images(images, key, data_dir, label_column=label_column, note=reporter.note)
        encoder: Encoder
        if run_dir and refine:
            from tfp_smvi.features.refined import RefinedEncoder

            size = config.batch_size
            encoder = RefinedEncoder(run_dir, refine, size, note=reporter.note, warn=reporter.warn)
        elif model:
            encoder = LocalEncoder(model, version, warn=reporter.warn)
        else:
            encoder = connect(endpoint or "", config, version, label)
        opening = open_engine(engine, threads=threads, note=reporter.note)
        with contextlib.closing(encoder), opening as runner, reporter:
            report = extract_features(
                source, encoder, output, config, fresh=fresh, engine=runner, reporter=reporter
            )
    _print(report, reporter, as_json)
    return 0


def _check_refine(run_dir: Path | None, refine: int | None, other: object) -> None:
    """Raises UsageError unless --refine and --run-dir are given together, without an export."""
    if refine is not None and run_dir is None:
        raise click.UsageError(
            "--refine needs log p(x, z), and an export has the encoder alone; give --run-dir in "
            "place of --model."
        )
    if run_dir is not None and refine is None:
        raise click.UsageError(
            "--run-dir is for --refine; give both, or --model, an export of the run."
        )
    if run_dir is not None and other is not None:
        raise click.UsageError("--run-dir is instead of the other options of an encoder.")


def _check_usage(
    model: Path | None,
    endpoint: str | None,
    version: int | None,
    label: str | None,
    output: Path,
    settings: dict[str, Any],
) -> FeaturesConfig:
    """Makes the configuration, or raises a click.UsageError for options that are not allowed."""
    if (model is None) == (endpoint is None):
        raise click.UsageError(
            "give one of --model, a local export, --endpoint, a server, or --run-dir with --refine."
        )
    if label is not None and (model is not None or version is not None):
        raise click.UsageError(
            "--label names a version on a server: give it with --endpoint and without --version."
        )
    from tfp_smvi.features.formats import require_suffix
    from tfp_smvi.serving.served import Endpoint

    try:
        config = FeaturesConfig(**settings)
        require_suffix(output)
        if endpoint is not None:
            Endpoint.parse(endpoint)
    except SMVIError as error:
        raise usage_error(error) from error
    return config


def _print(report: "FeaturesReport", reporter: FeaturesProgress, as_json: bool) -> None:
    if report.num_skipped:
        reporter.warn(
            f"{report.num_skipped} of {report.num_images} examples have no features, such as:"
        )
        for line in report.first_errors:
            reporter.note(f"  {line}")
        reporter.note(f"All of them are in {report.errors_file}.")
    if as_json:
        echo_json(report.to_json())
        return
    speed = f", {report.images_per_second:.0f} examples/s" if report.images_per_second else ""
    click.echo(f"The features of {report.num_features} examples are in {report.output}{speed}.")
