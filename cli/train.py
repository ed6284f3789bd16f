"""tfp-smvi train."""

import json
import math
import signal
from pathlib import Path
from typing import Any

import click

from tfp_smvi.config import TrainConfig
from tfp_smvi.core.errors import SMVIError

from .options import build_config, config_options, data_dir_option, threads_option, usage_error

__all__ = ["train"]


def _refuse_nan(context: click.Context, option: click.Parameter, value: float) -> float:
    """Raises UsageError for what click's ranges let pass; belongs to the option, which sweep has, too."""
    if math.isnan(value):
        raise click.UsageError(
            f"{option.opts[0]} = nan is not allowed; give a number greater than 0.", context
        )
    return value


@click.command()
@config_options
@click.option(
    "--run-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the run lives; runs/<dataset>-lam<lam>-seed<seed> unless given.",
)
@data_dir_option
@click.option("--fresh", is_flag=True, help="Delete the run that is there and start over.")
@click.option(
    "--checkpoint-minutes",
    type=click.FloatRange(min=0.0, min_open=True),
    callback=_refuse_nan,
    default=10.0,
    show_default=True,
    help="Save this often within an epoch; each epoch's end is saved anyway.",
)
@click.option(
    "--keep-every",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep the checkpoint of every N-th epoch for good.  [default: the last two alone]",
)
@threads_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def train(
    run_dir: Path | None,
    data_dir: Path | None,
    fresh: bool,
    checkpoint_minutes: float,
    keep_every: int | None,
    threads: int | None,
    as_json: bool,
    **settings: Any,
) -> int:
    """Train a model on ELBO - lam * D_SM, or go on with a run that was stopped.

    The same command again resumes where the last checkpoint stands, and a finished run takes a
    larger --epochs.
    """
    config = build_config(settings)
    from .progress.training import make_reporter

    reporter = make_reporter()
    with reporter.loading_tensorflow(threads):
        from tfp_smvi.data import load_dataset
        from tfp_smvi.runs.directory import run_directory_name
        from tfp_smvi.training.loop import TrainingInterrupted, fit, resolve

    dataset = load_dataset(config.data.dataset, data_dir, progress=reporter.note)
    try:
        config = resolve(config, dataset)
    except SMVIError as error:
        raise usage_error(error) from error
    run_dir = run_dir or Path("runs") / run_directory_name(config)
    try:
        with reporter:
            result = fit(
                config,
                dataset,
                run_dir,
                fresh=fresh,
                checkpoint_minutes=checkpoint_minutes,
                keep_every=keep_every,
                reporter=reporter,
            )
    except TrainingInterrupted as stop:
        reporter.note(
            f"Stopped by {signal.Signals(stop.signum).name}; step {stop.step} is saved in {run_dir}."
        )
        reporter.note("Run the same command again to go on.")
        return 128 + stop.signum
    _print_result(result.history[-1], config.train, run_dir, as_json)
    return 0


def _print_result(
    record: dict[str, Any], config: TrainConfig, run_dir: Path, as_json: bool
) -> None:
    if as_json:
        click.echo(json.dumps({"run_dir": str(run_dir), **record}))
        return
    test = record["test"]
    epochs, steps = (
        f"{record[unit]} {unit}{'s' * (record[unit] != 1)}" for unit in ("epoch", "step")
    )
    click.echo(f"Trained {epochs}, {steps}. On the test data, in nats per example:")
    for name, label in (
        ("objective", "objective"),
        ("elbo", "ELBO"),
        ("reconstruction", "reconstruction"),
        ("kl", "KL(q(z|x), p(z))"),
        ("divergence", "divergence D_SM"),
    ):
        click.echo(f"  {label:<18}{test[name]:>10.2f}")
    if note := config.unfinished_warmup(record["step"]):
        click.echo(note)
    click.echo(f"The run is in {run_dir}; its curves: tensorboard --logdir {run_dir.parent}")
