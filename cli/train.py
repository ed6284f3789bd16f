"""tfp-smvi train."""

import contextlib
import math
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from tfp_smvi.config import DivergenceName, RunConfig
from tfp_smvi.core.errors import SMVIError, name_fields
from tfp_smvi.core.quantities import OF_DIVERGENCE

from .groups import GroupedCommand, grouped
from .json_output import echo_json, json_option
from .options import (
    build_config,
    config_options,
    data_dir_option,
    option_name,
    threads_option,
    usage_error,
)
from .terminal import echo
from .tracking import track_option, tracking

if TYPE_CHECKING:
    from tfp_smvi.data import Dataset
    from tfp_smvi.training.distributed import SeveralDevices
    from tfp_smvi.training.results import FitResult, TrainingInterrupted

    from .progress.training import TrainingReporter

__all__ = ["train"]


class _DevicesType(click.ParamType):  # type: ignore[type-arg]  # click 8.1 takes no type argument
    """A number of devices, or all."""

    name = "N|all"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> int | Literal["all"]:
        """Returns the number, or "all"."""
        if value == "all":
            return "all"
        number = 0
        with contextlib.suppress(ValueError):
            number = int(value)
        if number < 1:
            self.fail(f"{value!r} is not a number of devices; give 1 or more, or all.")
        return number


def _refuse_nan(context: click.Context, option: click.Parameter, value: float) -> float:
    """Raises UsageError for NaN, which click's ranges let pass; `sweep` shares the option."""
    if math.isnan(value):
        raise click.UsageError(
            f"{option.opts[0]} = nan is not allowed; give a number greater than 0.", context
        )
    return value


@click.command(cls=GroupedCommand)
@config_options
@grouped(
    "Run",
    "--run-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="The run's directory.  [default: runs/<dataset>-lam<lam>-seed<seed>]",
)
@data_dir_option
@grouped("Run", "--fresh", is_flag=True, help="Delete the run in the directory and start over.")
@grouped(
    "Run",
    "--checkpoint-minutes",
    type=click.FloatRange(min=0.0, min_open=True),
    callback=_refuse_nan,
    default=10.0,
    show_default=True,
    help="Minutes between checkpoints within an epoch; the end of each epoch is always saved.",
)
@grouped(
    "Run",
    "--keep-every",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep the checkpoint of every N-th epoch permanently.  [default: only the last two]",
)
@grouped(
    "Run",
    "--devices",
    type=_DevicesType(),
    metavar="N|all",
    help="GPUs of this machine that share each batch: a number, or all. Processes on several "
    "machines are those of TF_CONFIG or of a Slurm step.  [default: 1]",
)
@track_option
@threads_option
@json_option("the result")
def train(
    run_dir: Path | None,
    data_dir: Path | None,
    fresh: bool,
    checkpoint_minutes: float,
    keep_every: int | None,
    devices: int | Literal["all"] | None,
    track: tuple[str, ...],
    threads: int | None,
    as_json: bool,
    **settings: Any,
) -> int:
    """Train a model on ELBO - lam * D, or continue a run that was stopped.

    The same command resumes from the last checkpoint. To train a finished run further, raise
    --epochs.
    """
    config = build_config(settings)
    _check_processes(devices)
    from .progress.training import make_reporter

    reporter = make_reporter(config.train.divergence)
    with reporter.loading_tensorflow(threads):
        from tfp_smvi.runs.directory import read_run, run_directory_name
        from tfp_smvi.runs.warnings import final_warnings
        from tfp_smvi.training.distributed import connect_devices
        from tfp_smvi.training.loop import fit
        from tfp_smvi.training.results import TrainingInterrupted

    try:
        shared = connect_devices(devices, note=reporter.note)  # before TensorFlow's first operation
    except SMVIError as error:
        if error.field != "devices":
            raise
        raise usage_error(error) from error
    if shared is not None:
        reporter = _report_devices(reporter, shared)
    config, dataset = _load_data(config, data_dir, reporter)
    run_dir = run_dir or Path("runs") / run_directory_name(config)
    try:
        trackers_here = track if shared is None or shared.is_chief else ()
        with reporter, tracking(trackers_here, run_dir, reporter) as trackers:
            result = fit(
                config,
                dataset,
                run_dir,
                fresh=fresh,
                checkpoint_minutes=checkpoint_minutes,
                keep_every=keep_every,
                devices=shared,
                reporter=[reporter, *trackers],
            )
    except TrainingInterrupted as stop:
        return _note_stop(reporter, stop, run_dir)
    if not result.history:  # that of the first of several processes
        return 0
    warnings = final_warnings(read_run(run_dir).config, result.history[-1])
    # The run directory as it was given.
    _print_result(result._replace(run_dir=run_dir), config.train.divergence, warnings, as_json)
    return 0


def _check_processes(devices: int | Literal["all"] | None) -> None:
    """Refuses what does not fit the processes of TF_CONFIG or Slurm, before TensorFlow loads."""
    from tfp_smvi.training.cluster import read_cluster, require_no_devices

    if read_cluster() is None:
        return
    try:
        require_no_devices(devices)
    except SMVIError as error:
        raise usage_error(error) from error
    # TensorFlow has three lines of its own for another process that has ended.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _report_devices(reporter: "TrainingReporter", devices: "SeveralDevices") -> "TrainingReporter":
    """Says what shares each batch; of several processes the first one alone reports."""
    from .progress.training import make_silent_reporter

    if not devices.is_chief:
        return make_silent_reporter()
    reporter.note(f"Each batch is shared by {devices.describe()}.")
    return reporter


def _load_data(
    config: RunConfig, data_dir: Path | None, reporter: "TrainingReporter"
) -> tuple[RunConfig, "Dataset"]:
    """Loads and describes the data, and settles what of the configuration depends on them."""
    from tfp_smvi.data import load_dataset
    from tfp_smvi.data.description import describe
    from tfp_smvi.training.checks import resolve

    dataset = load_dataset(config.data, data_dir, progress=reporter.note)
    config = resolve(config, dataset)
    assert config.model.likelihood is not None
    reporter.note(describe(dataset, config.model.likelihood))
    return config, dataset


def _note_stop(reporter: "TrainingReporter", stop: "TrainingInterrupted", run_dir: Path) -> int:
    """Prints what is saved and how to continue; returns the exit code."""
    name = signal.Signals(stop.signum).name
    reporter.note(f"Stopped by {name}; step {stop.step} is saved in {run_dir}.")
    reporter.note("Run the same command again to continue.")
    return 128 + stop.signum


def _print_result(
    result: "FitResult", divergence: DivergenceName, warnings: Sequence[str], as_json: bool
) -> None:
    """Prints the last epoch on stdout, and again what was warned of at the start."""
    from tfp_smvi.runs.constraints import describe_constraint

    record, run_dir = result.history[-1], result.run_dir
    if as_json:
        values = {"run_dir": str(run_dir), **record.to_json(), "warnings": [*result.warnings]}
        echo_json(values)
        return
    epochs = f"{record.epoch} epoch{'s' * (record.epoch != 1)}"
    steps = f"{record.step} step{'s' * (record.step != 1)}"
    lam = "" if record.lam is None else f" lam is {record.lam:.4g}."
    click.echo(f"Trained {epochs}, {steps}.{lam} On the test data, in nats per example:")
    quantity = OF_DIVERGENCE[divergence]
    for value, label, unit in (
        (record.test.objective, "objective", ""),
        (record.test.elbo, "ELBO", ""),
        (record.test.reconstruction, "reconstruction", ""),
        (record.test.kl, "KL(q(z|x), p(z))", ""),
        (record.test.divergence, quantity.label, f" {quantity.unit}"),
    ):
        click.echo(f"  {label:<18}{value:>10.2f}{unit}")
    if record.constraint is not None:
        echo(describe_constraint(record))
    for line in warnings:
        echo(f"Warning: {name_fields(line, option_name)}")
    click.echo(f"The run is in {run_dir}; its curves: tensorboard --logdir {run_dir.parent}")
