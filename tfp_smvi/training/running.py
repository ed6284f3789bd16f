"""The steps and epochs of one call of `fit`, from its last checkpoint to its end."""

import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfp_smvi.data import Dataset
from tfp_smvi.models.dependence import measure_dependence
from tfp_smvi.objectives.multiplier import Multiplier
from tfp_smvi.runs.checkpoint import require_run, restore_checkpoint, save_checkpoint
from tfp_smvi.runs.directory import RunDirectory, read_run
from tfp_smvi.runs.early_stopping import early_stop
from tfp_smvi.runs.log import MetricsLog
from tfp_smvi.runs.records import (
    TRAIN_METRICS,
    EpochRecord,
    TrainingState,
    TrainMetrics,
)
from tfp_smvi.runs.warnings import run_warnings, training_warnings
from tfp_smvi.training import checks
from tfp_smvi.training.callbacks import saving_at_errors
from tfp_smvi.training.devices import Devices
from tfp_smvi.training.following import share_state, share_weight
from tfp_smvi.training.plan import notes_of_plan
from tfp_smvi.training.reporter import TrainingProgress, TrainingReporter
from tfp_smvi.training.results import FitResult, TrainingInterrupted
from tfp_smvi.training.schedule import Schedule, next_call
from tfp_smvi.training.start import Start
from tfp_smvi.training.steering import Steering, TrainingData
from tfp_smvi.training.testing import open_log, test_batches
from tfp_smvi.training.trainer import Trainer

__all__ = ["Run"]


class Run:
    """The state of one call of `fit`."""

    def __init__(
        self,
        start: Start,
        dataset: Dataset,
        data: TrainingData,
        run: RunDirectory,
        reporter: TrainingReporter,
        devices: Devices,
        schedule: Schedule,
    ) -> None:
        """Makes the trainer; nothing is read yet."""
        config = start.record.config
        self.record, self.config, self.run = start.record, config, run
        self.dataset, self.data = dataset, data
        self.reporter, self.devices, self.schedule = reporter, devices, schedule
        self.binarize = config.model.likelihood == "bernoulli"
        self.steps_per_epoch = data.steps_per_epoch(config.train)
        self.trainer = Trainer(start.model, config.train, self.steps_per_epoch, devices)
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
        share_state(self.trainer, self.devices)
        config, steps_per_epoch = self.config.train, self.steps_per_epoch
        step, end = self.trainer.step, config.epochs * steps_per_epoch
        log = open_log(self.run, self.config, self.history, self.trainer.model, self.dataset)
        try:
            with saving_at_errors(self._save_once, self.run.path):
                if step == end or not self._stopped():
                    self.reporter.begin(config.epochs, step, steps_per_epoch)
                if step < end and not self._stopped():
                    for line in training_warnings(self.config, end, steps_per_epoch):
                        self.reporter.warn(line)
                    for line in notes_of_plan(config):
                        self.reporter.note(line)
                self._train_epochs(log, step)
            self._stop(self.schedule.signum)
            self.devices.wait()
        finally:
            log.close()
        warnings = run_warnings(read_run(self.run.path).warnings, self.config, self.history[-1])
        return FitResult(self.trainer.model, tuple(self.history), self.run.path, warnings)

    def _train_epochs(self, log: MetricsLog, step: int) -> None:
        """Trains from a step to the end of the training."""
        iterator = iter(self.data.batches(self.config, step))
        for epoch in range(step // self.steps_per_epoch, self.config.train.epochs):
            if line := self._stopped():
                # The others learn it by a call of no steps.
                self._stop(self.devices.agree(0, self.schedule.signum)[1])
                self.run.set_stopped(line)
                self.reporter.note(line)
                return
            self._train_epoch(iterator, epoch, self.steps_per_epoch)
            self._finish_epoch(log, epoch, self.steps_per_epoch)

    def _stopped(self) -> str | None:
        """Why early stopping ends the training, if it does; in the middle of an epoch it waits."""
        if self.trainer.step % self.steps_per_epoch:
            return None
        return early_stop(self.config.train, self.history)

    def _train_epoch(self, batches: Iterator[tf.Tensor], epoch: int, steps_per_epoch: int) -> None:
        """Trains until the end of the epoch, in short calls."""
        epoch_begin, end = epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch
        step = begin = self.trainer.step
        started, before = time.monotonic(), self.seconds
        while step < end:
            asked = min(self.steps_per_call, end - step)
            count, signum = self.devices.agree(asked, self.schedule.signum)
            self._stop(signum)
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
            self.steps_per_call = next_call(count, now - call_started)
            # At the end of the epoch, _finish_epoch saves the state with the epoch's record.
            if step < end and self.schedule.is_due(now - self.saved_at):
                self._save()

    def _finish_epoch(self, log: MetricsLog, epoch: int, steps_per_epoch: int) -> None:
        """Tests, logs and saves, in this order: resuming drops what a kill leaves in the log."""
        started = time.monotonic()
        constraint = self.steering.end_epoch(self.trainer.step) if self.steering else None
        share_weight(self.trainer, self.devices)
        test = test_batches(self.dataset, self.config)
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
            **measure_dependence(self.trainer.model, next(iter(test))[1])._asdict(),
        )
        log.write(record)
        self.history.append(record)
        self.sums, self.seconds = np.zeros_like(self.sums), 0.0
        self._save(forever=self.schedule.keeps(epoch + 1))
        self.reporter.epoch(record)

    def _make_steering(self, data: TrainingData) -> Steering | None:
        weight = self.trainer.weight
        if data.held_out is None or not isinstance(weight, Multiplier):
            return None
        return Steering(weight, self.trainer.model, data.held_out, binarize=self.binarize)

    def _stop(self, signum: int) -> None:
        """Saves and stops, if a signal asks for it."""
        if signum:
            self._save_once()
            self.devices.wait()
            raise TrainingInterrupted(signum, self.trainer.step)

    def _save(self, *, forever: bool = False) -> None:
        sums, step = tuple(self.sums.tolist()), self.trainer.step
        state = TrainingState(tuple(self.history), sums, self.seconds, self.record)
        save_checkpoint(self.run.checkpoints, step, self.trainer.arrays(), state, forever=forever)
        self.saved_step, self.saved_at = step, time.monotonic()

    def _save_once(self) -> int:
        """Saves the state unless it is saved; returns its step."""
        if self.saved_step != self.trainer.step:
            self._save()
        return self.saved_step

    def _restore(self) -> None:
        checkpoint = restore_checkpoint(self.run.checkpoints, self._warn)
        if checkpoint is None:
            if lost := checks.lost_epochs(self.run):
                self._warn(lost)
            return
        require_run(checkpoint, self.record, self.trainer.shapes(), self.run.path)
        self.trainer.assign(checkpoint.arrays)
        state = checkpoint.state
        self.history, self.seconds = [*state.history], state.seconds
        self.sums = np.array(state.sums)
        self.saved_step = checkpoint.step

    def _warn(self, message: str) -> None:
        self.run.add_warning(message)
        self.reporter.warn(message)
