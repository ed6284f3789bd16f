"""Training a model into a run directory: resumable at any moment, bit for bit."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfp_smvi.config import RunConfig
from tfp_smvi.core.errors import RUN_AGAIN, explain_write_errors
from tfp_smvi.core.reporters import Silent
from tfp_smvi.core.runtime import require_float32, require_no_tape, require_one_device
from tfp_smvi.core.signals import handle_stop_signals
from tfp_smvi.data import Dataset, eval_batches, train_batches
from tfp_smvi.data.batches import explain_read_errors
from tfp_smvi.data.test_batches import TEST_SEED
from tfp_smvi.models.dependence import measure_dependence
from tfp_smvi.models.protocol import TrainableModel
from tfp_smvi.objectives.multiplier import Multiplier
from tfp_smvi.runs.checkpoint import require_run, restore_checkpoint, save_checkpoint
from tfp_smvi.runs.data_file import write_data_file
from tfp_smvi.runs.directory import RunDirectory, read_run
from tfp_smvi.runs.given_units import in_given_units
from tfp_smvi.runs.log import MetricsLog
from tfp_smvi.runs.records import (
    TRAIN_METRICS,
    EpochRecord,
    TrainingState,
    TrainMetrics,
)
from tfp_smvi.runs.warnings import run_warnings, training_warnings
from tfp_smvi.training import checks
from tfp_smvi.training.plan import notes_of_plan, plan
from tfp_smvi.training.reporter import TrainingProgress, TrainingReporter
from tfp_smvi.training.results import FitResult, TrainingInterrupted
from tfp_smvi.training.start import Start, begin
from tfp_smvi.training.steering import Steering, TrainingData, divide
from tfp_smvi.training.trainer import Trainer

__all__ = ["fit"]

TEST_BATCH = 1000
NUM_RECONSTRUCTIONS = 32
# The duration of one call of the compiled function: short enough to answer a signal, long enough
# to cost nothing.
CALL_SECONDS = 0.5


def fit(
    config: RunConfig,
    dataset: Dataset,
    run_dir: Path | str,
    *,
    model: TrainableModel | None = None,
    fresh: bool = False,
    checkpoint_minutes: float = 10.0,
    keep_every: int | None = None,
    reporter: TrainingReporter | None = None,
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
        reporter: receives progress updates.

    Returns:
        The trained model and its history.

    Raises:
        SMVIError: the configuration does not fit the data or the directory, checkpoint_minutes is
            not above 0, keep_every is less than 1, the objective is no longer finite, the data can
            no longer be read, the directory cannot be written, or this is a graph, a distribution
            strategy's scope or a gradient tape.
        TrainingInterrupted: SIGINT, SIGTERM or SIGHUP came; the state is saved.

    Source: [Levy & Ermon, eq. 7 and section 5].
    """
    checks.check_fit_arguments(checkpoint_minutes, keep_every)
    run_dir = Path(run_dir)
    require_float32()
    require_one_device()
    require_no_tape()
    data = divide(dataset.train, config.train)
    steps_per_epoch = data.steps_per_epoch(config.train)
    config = plan(checks.resolve(config, dataset), steps_per_epoch, run_dir, fresh=fresh)
    warn = reporter.warn if reporter else None
    doubts = checks.warn_of_doubts(config, dataset, warn)
    reporter = reporter or Silent()
    start = begin(config, dataset, run_dir, model, reporter, fresh=fresh)
    signals: list[int] = []  # received so far; a second one has its usual effect
    with (
        handle_stop_signals(signals.append, once=True),
        explain_write_errors(f"to {run_dir}", f"earlier checkpoints are intact: {RUN_AGAIN}"),
        explain_read_errors(),
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
        state = _Run(start, dataset, data, run, reporter, signals, checkpoint_minutes, keep_every)
        result = state.train()
        checks.warn_of_collapse(result.history[-1], warn)
        return result


class _Run:
    """The state of one call of `fit`."""

    def __init__(
        self,
        start: Start,
        dataset: Dataset,
        data: TrainingData,
        run: RunDirectory,
        reporter: TrainingReporter,
        signals: Sequence[int],
        checkpoint_minutes: float,
        keep_every: int | None,
    ) -> None:
        config = start.record.config
        self.record, self.config, self.run = start.record, config, run
        self.dataset, self.split = dataset, data.train
        self.reporter, self.signals = reporter, signals
        self.checkpoint_seconds, self.keep_every = 60.0 * checkpoint_minutes, keep_every
        self.binarize = config.model.likelihood == "bernoulli"
        self.steps_per_epoch = data.steps_per_epoch(config.train)
        self.trainer = Trainer(start.model, config.train, self.steps_per_epoch)
        self.steering = self._make_steering(data)
        self.check = checks.FiniteCheck(dataset.real_valued)
        self.history: list[EpochRecord] = []
        self.sums = np.zeros(len(TRAIN_METRICS))  # over the steps of the current epoch
        self.seconds = 0.0  # spent on the current epoch
        self.saved_step, self.saved_at = -1, time.monotonic()
        self.steps_per_call = 1

    def train(self) -> FitResult:
        """Restores the last checkpoint and trains what is missing."""
        self._restore()
        config, split = self.config.train, self.split
        steps_per_epoch = self.steps_per_epoch
        step, end = self.trainer.step, config.epochs * steps_per_epoch
        self.reporter.begin(self.config.train.epochs, step, steps_per_epoch)
        if step < end:
            for line in training_warnings(self.config, end, steps_per_epoch):
                self.reporter.warn(line)
            for line in notes_of_plan(config):
                self.reporter.note(line)
        batches = train_batches(
            split,
            batch_size=config.batch_size,
            seed=config.seed,
            first_step=step,
            num_steps=max(end - step, 0),
            binarize=self.binarize,
        )
        images = next(iter(self._test_batches(NUM_RECONSTRUCTIONS)))[1].numpy()
        scale = self.dataset.standardization
        model = in_given_units(self.trainer.model, scale)
        images = images if scale is None else scale.undo(images)
        log = MetricsLog(self.run, self.config, self.history, model, images)
        try:
            iterator = iter(batches)
            for epoch in range(step // steps_per_epoch, config.epochs):
                self._train_epoch(iterator, epoch, steps_per_epoch)
                self._finish_epoch(log, epoch, steps_per_epoch)
            self._stop_if_asked()
        finally:
            log.close()
        warnings = run_warnings(read_run(self.run.path).warnings, self.config, self.history[-1])
        return FitResult(self.trainer.model, tuple(self.history), self.run.path, warnings)

    def _train_epoch(self, batches: Iterator[tf.Tensor], epoch: int, steps_per_epoch: int) -> None:
        """Trains until the end of the epoch, in calls of about CALL_SECONDS."""
        epoch_begin, end = epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch
        step = begin = self.trainer.step
        started, before = time.monotonic(), self.seconds
        while step < end:
            self._stop_if_asked()
            count = min(self.steps_per_call, end - step)
            call_started = time.monotonic()
            rows = self.trainer.train(batches, count)
            self.check.steps(rows, step, self.saved_step)
            step += count
            now = time.monotonic()
            self.seconds = before + now - started
            # One row after the other, so that no bit depends on how the steps were grouped.
            self.sums = np.cumsum(np.vstack([self.sums, rows]), axis=0)[-1]
            means = TrainMetrics(*(self.sums / (step - epoch_begin)).tolist())
            self.reporter.progress(
                TrainingProgress(
                    step, epoch, (step - begin) / (now - started), means, self.trainer.lam
                )
            )
            self.steps_per_call = _next_call(count, now - call_started)
            # At the end of the epoch, _finish_epoch saves the state with the epoch's record.
            if step < end and now - self.saved_at > self.checkpoint_seconds:
                self._save()

    def _finish_epoch(self, log: MetricsLog, epoch: int, steps_per_epoch: int) -> None:
        """Tests, logs and saves, in this order: resuming drops what a kill leaves in the log."""
        started = time.monotonic()
        constraint = self.steering.end_epoch(self.trainer.step) if self.steering else None
        test = self._test_batches(TEST_BATCH)
        metrics = self.trainer.test(test)
        self.check.test(metrics, self.trainer.step, self.saved_step)
        record = EpochRecord(
            epoch=epoch + 1,
            step=self.trainer.step,
            train=TrainMetrics(*(self.sums / steps_per_epoch).tolist()),
            test=metrics,
            seconds=round(self.seconds + time.monotonic() - started, 3),
            lam=self.trainer.lam,
            learning_rate=self.trainer.learning_rate,
            constraint=constraint,
            **measure_dependence(self.trainer.model, test)._asdict(),
        )
        log.write(record)
        self.history.append(record)
        self.sums, self.seconds = np.zeros_like(self.sums), 0.0
        self._save(forever=self.keep_every is not None and (epoch + 1) % self.keep_every == 0)
        self.reporter.epoch(record)

    def _make_steering(self, data: TrainingData) -> Steering | None:
        weight = self.trainer.weight
        if data.held_out is None or not isinstance(weight, Multiplier):
            return None
        return Steering(weight, self.trainer.model, data.held_out, binarize=self.binarize)

    def _stop_if_asked(self) -> None:
        if self.signals:
            if self.saved_step != self.trainer.step:
                self._save()
            raise TrainingInterrupted(self.signals[-1], self.trainer.step)

    def _save(self, *, forever: bool = False) -> None:
        state = TrainingState(
            tuple(self.history), tuple(self.sums.tolist()), self.seconds, self.record
        )
        step = self.trainer.step
        save_checkpoint(self.run.checkpoints, step, self.trainer.arrays(), state, forever=forever)
        self.saved_step, self.saved_at = step, time.monotonic()

    def _restore(self) -> None:
        checkpoint = restore_checkpoint(self.run.checkpoints, self._warn)
        if checkpoint is None:
            self._warn_of_lost_epochs()
            return
        require_run(checkpoint, self.record, self.trainer.shapes(), self.run.path)
        self.trainer.assign(checkpoint.arrays)
        state = checkpoint.state
        self.history, self.seconds = [*state.history], state.seconds
        self.sums = np.array(state.sums)
        self.saved_step = checkpoint.step

    def _warn_of_lost_epochs(self) -> None:
        """Warns if the checkpoints of a run were deleted: a kill loses at most one."""
        log = self.run.metrics
        if log.is_file() and len(log.read_bytes().splitlines()) > 1:
            self._warn(
                f"{log} has epochs, but there is no checkpoint in {self.run.checkpoints}; "
                "the training starts from the beginning."
            )

    def _warn(self, message: str) -> None:
        self.run.add_warning(message)
        self.reporter.warn(message)

    def _test_batches(self, size: int) -> tf.data.Dataset:
        test = self.dataset.test
        return eval_batches(test, batch_size=size, seed=TEST_SEED, binarize=self.binarize)


def _next_call(count: int, seconds: float) -> int:
    """The number of steps that take about CALL_SECONDS; at most ten times that of the last call."""
    return max(1, min(10 * count, int(count * CALL_SECONDS / max(seconds, 1e-6))))
