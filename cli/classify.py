"""tfp-smvi classify."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from tfp_smvi.config import ClassifyConfig
from tfp_smvi.core.errors import SMVIError

from .groups import GroupedCommand
from .options import data_dir_option, setting, threads_option, usage_error

__all__ = ["classify"]


def _settings(command: Any) -> Any:
    """Adds an option for each field of ClassifyConfig."""
    for field in reversed(fields(ClassifyConfig)):
        command = setting(ClassifyConfig, field.name)(command)
    return command


@click.command(cls=GroupedCommand)
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path))
@_settings
@click.option(
    "--epoch",
    type=click.IntRange(min=1),
    help="Take the checkpoint of this epoch (see train --keep-every).  [default: the newest]",
)
@click.option(
    "--baselines-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the baselines' results; runs of the same data may share it.  "
    "[default: RUN_DIR/baselines]",
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
    """Classify the test set from few labels.

    Support vector machines see the encoder's means, the pixels or their principal components. They
    are trained on subsets with equally many labelled examples of each class, and chosen by
    cross-validation inside them. The report is written to classification.json in RUN_DIR, or with
    --epoch 25 to classification-epoch025.json.
    """
    try:
        config = ClassifyConfig(**settings)
    except SMVIError as error:
        raise usage_error(error) from error
    from .progress.evaluation import make_block_reporter

    reporter = make_block_reporter("classifying")
    with reporter.loading_tensorflow(threads):
        from tfp_smvi.classification import protocol
        from tfp_smvi.classification.results import report_name
        from tfp_smvi.classification.table import format_classification

    with reporter:
        report = protocol.classify(
            run_dir,
            config,
            data_dir=data_dir,
            epoch=epoch,
            baselines_dir=baselines_dir,
            threads=threads,
            reporter=reporter,
        )
    if as_json:
        click.echo(json.dumps(report.to_json()))
    else:
        click.echo(format_classification(report))
        click.echo(f"All of it is in {run_dir / report_name(epoch)}.")
    return 0
