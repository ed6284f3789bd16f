"""Training a model into a run directory: resumable at any moment, bit for bit."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from tfp_smvi.config import RunConfig
from tfp_smvi.core.errors import RUN_AGAIN, explain_write_errors
from tfp_smvi.core.runtime import require_float32, require_no_tape, require_one_device
from tfp_smvi.data import Dataset
from tfp_smvi.data.batches import explain_read_errors
from tfp_smvi.models.protocol import TrainableModel
from tfp_smvi.runs.data_file import write_data_file
from tfp_smvi.runs.directory import RunDirectory
from tfp_smvi.training import checks
from tfp_smvi.training.callbacks import call_reporters
from tfp_smvi.training.devices import OneDevice
from tfp_smvi.training.distributed import SeveralDevices
from tfp_smvi.training.following import agree_on_run, follow
from tfp_smvi.training.plan import plan
from tfp_smvi.training.reporter import TrainingReporter
from tfp_smvi.training.results import FitResult
from tfp_smvi.training.running import Run
from tfp_smvi.training.schedule import Schedule
from tfp_smvi.training.start import begin
from tfp_smvi.training.steering import divide

__all__ = ["fit"]


def fit(
    config: RunConfig,
    dataset: Dataset,
    run_dir: Path | str,
    *,
    model: TrainableModel | None = None,
    fresh: bool = False,
    checkpoint_minutes: float = 10.0,
    keep_every: int | None = None,
    devices: SeveralDevices | None = None,
    reporter: TrainingReporter | Sequence[TrainingReporter] | None = None,
    progress: bool = False,
) -> FitResult:
    """Trains a model, or continues with one, until it has seen `config.train.epochs` epochs.

        maximize 1/m sum_i ELBO(x_i) - lam * D_SM(q(z|x_i), p(z|x_i))

    On a CPU in float32 with the same number of threads, a run that is stopped in any way and
    started again ends with the same bits as one that was not.

    Args:
        config: the configuration.
        dataset: the data that it names.
        run_dir: the run directory; see `tfp_smvi.runs.directory`.
        model: a model of your own, to train in place of the one that the configuration describes;
            see `tfp_smvi.models.protocol`.
        fresh: whether to delete an existing run.
        checkpoint_minutes: a checkpoint is written at the end of an epoch and whenever the last one
            is older than this.
        keep_every: the checkpoint of every N-th epoch is kept permanently; None keeps only the last
            two.
        devices: the devices that share each batch, as `connect_devices` returns them; None for one.
        reporter: receives progress updates, or several that do, such as a `tfp_smvi.Callback`. An
            exception that it raises ends the training, whose state is saved before.
        progress: whether to show a bar.

    Returns:
        The trained model and its history, which of several processes the first one has.

    Raises:
        SMVIError: the configuration does not fit the data or the directory, checkpoint_minutes is
            not above 0, keep_every is less than 1, the objective is no longer finite, the data can
            no longer be read, the directory cannot be written, another process of the training has
            ended or trains something else, or this is a graph, a distribution strategy's scope or
            a gradient tape.
        TrainingInterrupted: SIGINT, SIGTERM or SIGHUP came; the state is saved.

    Source: [Levy & Ermon, eq. 7 and section 5].
    """
    checks.check_fit_arguments(checkpoint_minutes, keep_every)
    schedule = Schedule([], checkpoint_minutes, keep_every)
    shows = progress and (devices is None or devices.is_chief)
    work = functools.partial(_fit, config, dataset, Path(run_dir), model, fresh, schedule, devices)
    return call_reporters(work, reporter, progress=shows)


def _fit(
    given: RunConfig,
    dataset: Dataset,
    run_dir: Path,
    model: TrainableModel | None,
    fresh: bool,
    schedule: Schedule,
    devices: SeveralDevices | None,
    reporter: TrainingReporter,
    warn: Callable[[str], None] | None,
) -> FitResult:
    """Does what `fit` does, whose arguments are checked."""
    require_float32()
    require_one_device()
    require_no_tape()
    data = divide(dataset.train, given.train)
    steps_per_epoch = data.steps_per_epoch(given.train)
    given = checks.resolve(given, dataset)
    complete = functools.partial(plan, given, steps_per_epoch, run_dir, fresh=fresh)
    config = agree_on_run(devices, given, dataset, complete) if devices else complete()
    doubts = checks.warn_of_doubts(config, dataset, warn)
    place = devices or OneDevice()
    with place.explaining_errors():
        start = begin(config, dataset, run_dir, model, reporter, fresh=fresh, devices=place)
    if devices:
        devices.require_made_here(start.model.trainable_variables)
        if not devices.is_chief:
            return follow(start, dataset, data, devices, run_dir)
    with (
        schedule.receiving_signals(),
        explain_write_errors(f"to {run_dir}", f"earlier checkpoints are intact: {RUN_AGAIN}"),
        explain_read_errors(),
        place.explaining_errors(),
        RunDirectory.open(
            run_dir,
            start.record,
            fresh=fresh,
            warn=reporter.warn,
            steps_per_epoch=steps_per_epoch,
        ) as run,
    ):
        write_data_file(run.data, dataset)
        for line in doubts:
            run.add_warning(line)
        result = Run(start, dataset, data, run, reporter, place, schedule).train()
        checks.warn_of_collapse(result.history[-1], warn)
        return result
