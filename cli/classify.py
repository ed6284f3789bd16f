"""tfp-smvi classify."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from tfp_smvi.config import ClassifyConfig
from tfp_smvi.core.errors import SMVIError

from .options import data_dir_option, setting, threads_option, usage_error

__all__ = ["classify"]


def _settings(command: Any) -> Any:
    """Adds an option for each field of ClassifyConfig."""
    for field in reversed(fields(ClassifyConfig)):
        command = setting(ClassifyConfig, field.name)(command)
    return command


@click.command()
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path))
@_settings
@click.option(
    "--epoch",
    type=click.IntRange(min=1),
    help="The epoch whose checkpoint to take (see train --keep-every).  [default: the newest]",
)
@click.option(
    "--baselines-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where baselines are kept, which runs of the same data may share.  [default: RUN_DIR/baselines]",
)
@data_dir_option
@threads_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout.")
def classify(
    run_dir: Path,
    epoch: int | None,
    baselines_dir: Path | None,
    data_dir: Path | None,
    threads: int | None,
    as_json: bool,
    **settings: Any,
) -> int:
    """Classify the test set with few labels, on the encoder's means, the pixels and their principal components.

    Support vector machines are trained on subsets with equally many labelled examples of each
    class, and chosen by cross-validation inside them. The report goes to classification.json in
    RUN_DIR, or with --epoch 25 to classification-epoch025.json.
    """
    try:
        config = ClassifyConfig(**settings)
    except SMVIError as error:
        raise usage_error(error) from error
    from .evaluation_progress import make_block_reporter

    reporter = make_block_reporter("classifying")
    with reporter.loading_tensorflow(threads):
        from tfp_smvi.classification import protocol as classification

    with reporter:
        report = classification.classify(
            run_dir,
            config,
            data_dir=data_dir,
            epoch=epoch,
            baselines_dir=baselines_dir,
            threads=threads,
            reporter=reporter,
        )
    if as_json:
        click.echo(json.dumps(report))
    else:
        click.echo(classification.format_classification(report))
        click.echo(f"All of it is in {run_dir / classification.report_name(epoch)}.")
    return 0
