"""tfp-smvi classify."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfp_smvi.config import ClassifyConfig
from tfp_smvi.core.errors import SMVIError

from .engines import engine_option
from .groups import GroupedCommand, grouped
from .json_output import echo_json, json_option
from .options import (
    data_dir_option,
    is_given,
    option_name,
    setting,
    threads_option,
    usage_error,
)

if TYPE_CHECKING:
    from tfp_smvi.classification.results import Classification

__all__ = ["classify"]

GROUP = "Without a training run"


def _settings(command: Any) -> Any:
    """Adds an option for each field of ClassifyConfig."""
    for field in reversed(fields(ClassifyConfig)):
        command = setting(ClassifyConfig, field.name)(command)
    return command


@click.command(cls=GroupedCommand)
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path), required=False)
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
@grouped(
    GROUP,
    "--features",
    type=click.Path(dir_okay=False, path_type=Path),
    help="In place of RUN_DIR: an .npz file of the training data's features, mean [n, d], and "
    "labels [n].",
)
@grouped(
    GROUP,
    "--test-features",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The same of the test data.",
)
@grouped(
    GROUP,
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The JSON file of the report.  [default: FEATURES-classification.json]",
)
@engine_option
@data_dir_option
@threads_option
@json_option("the report")
def classify(
    run_dir: Path | None,
    epoch: int | None,
    baselines_dir: Path | None,
    features: Path | None,
    test_features: Path | None,
    output: Path | None,
    engine: str,
    data_dir: Path | None,
    threads: int | None,
    as_json: bool,
    **settings: Any,
) -> int:
    """Classify the test set from few labels.

    Support vector machines see the encoder's means, the pixels or their principal components. They
    are trained on subsets with equally many labelled examples of each class, and chosen by
    cross-validation inside them. The report is written to classification.json in RUN_DIR, or with
    --epoch 25 to classification-epoch025.json. Features from elsewhere need no RUN_DIR: give
    --features and --test-features.
    """
    _check_usage(run_dir, features, test_features)
    try:
        config = ClassifyConfig(**settings)
    except SMVIError as error:
        raise usage_error(error) from error
    from .progress.evaluation import make_block_reporter

    reporter = make_block_reporter("classifying")
    with reporter.loading_tensorflow(threads):
        from tfp_smvi.classification import given, protocol
        from tfp_smvi.classification.results import report_name
        from tfp_smvi.engines.opening import open_engine

    with open_engine(engine, threads=threads, note=reporter.note) as runner, reporter:
        if features and test_features:
            path = output or features.with_name(f"{features.stem}-classification.json")
            report = given.classify_feature_files(
                features,
                test_features,
                config,
                output=path,
                threads=threads,
                engine=runner,
                reporter=reporter,
            )
        else:
            assert run_dir is not None
            path = run_dir / report_name(epoch)
            report = protocol.classify(
                run_dir,
                config,
                data_dir=data_dir,
                epoch=epoch,
                baselines_dir=baselines_dir,
                threads=threads,
                engine=runner,
                reporter=reporter,
            )
    _print_report(report, path, as_json)
    return 0


def _print_report(report: "Classification", path: Path, as_json: bool) -> None:
    from tfp_smvi.classification.table import format_classification

    if as_json:
        echo_json(report.to_json())
    else:
        click.echo(format_classification(report))
        click.echo(f"All of it is in {path}.")


def _check_usage(run_dir: Path | None, features: Path | None, test_features: Path | None) -> None:
    """Raises UsageError for options that do not go together."""
    if (features is None) != (test_features is None):
        raise click.UsageError("--features and --test-features are one pair; give both.")
    if features is None:
        if is_given("output"):
            remedy = "give both" if run_dir is None else "give --features in place of RUN_DIR"
            raise click.UsageError(f"--output is for --features; {remedy}.")
        if run_dir is None:
            raise click.UsageError("give RUN_DIR, or --features and --test-features.")
        return
    if run_dir is not None:
        raise click.UsageError("--features are classified without RUN_DIR; give one of them.")
    for name in ("epoch", "baselines_dir", "data_dir", "input"):
        if is_given(name):
            raise click.UsageError(
                f"{option_name(name)} is of a run, and --features has none; leave it out."
            )
