"""Training a model into a run directory: resumable at any moment, bit for bit."""

import dataclasses
import math
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfp_smvi.config import DataConfig, RunConfig
from tfp_smvi.core.errors import RUN_AGAIN, SMVIError, explain_write_errors
from tfp_smvi.core.reporters import Silent, TrainingProgress, TrainingReporter
from tfp_smvi.core.runtime import environment, mixed_precision
from tfp_smvi.core.signals import handle_stop_signals
from tfp_smvi.data import Dataset, eval_batches, train_batches
from tfp_smvi.data.test_batches import TEST_SEED
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.checkpoint import restore_checkpoint, save_checkpoint
from tfp_smvi.runs.directory import RunDirectory
from tfp_smvi.runs.log import MetricsLog
from tfp_smvi.training.trainer import TRAIN_METRICS, Trainer

__all__ = ["FitResult", "TrainingInterrupted", "fit", "resolve"]

TEST_BATCH = 1000
NUM_RECONSTRUCTIONS = 32
# One call of the compiled function lasts about so long: short enough to answer a signal, long
# enough to cost nothing.
CALL_SECONDS = 0.5


class TrainingInterrupted(Exception):  # noqa: N818
    """A signal ended the training; its state is saved.

    Attributes:
        signum: the signal's number.
        step: the steps that are saved.
    """

    def __init__(self, signum: int, step: int) -> None:
        """Stores both."""
        super().__init__(
            f"stopped by {signal.Signals(signum).name} after step {step}, which is saved."
        )
        self.signum, self.step = signum, step


class FitResult(NamedTuple):
    """A trained model.

    Attributes:
        model: the model.
        history: the record of each epoch, as in metrics.jsonl.
        run_dir: the run directory.
    """

    model: VAE
    history: list[dict[str, Any]]
    run_dir: Path


def resolve(config: RunConfig, dataset: Dataset) -> RunConfig:
    """Completes a configuration by what follows from the data.

    Raises:
        SMVIError: the data and the configuration do not go together.
    """
    if DataConfig(dataset.name) != config.data:
        raise SMVIError(
            f"dataset = {config.data.dataset!r} is not the name of the data given, which is {dataset.name!r}; give "
            "both the same, so that the run says what it was trained on."
        )
    likelihood = config.model.likelihood or dataset.default_likelihood
    if likelihood == "bernoulli" and dataset.real_valued:
        raise SMVIError(
            f"likelihood = 'bernoulli' needs intensities in [0, 1] and {dataset.name} has other values; "
            "give gaussian, or rescale the data."
        )
    if config.train.batch_size > dataset.train.num_examples:
        raise SMVIError(
            f"batch_size = {config.train.batch_size} is more than the {dataset.train.num_examples} training "
            f"examples of {dataset.name}; give a smaller one."
        )
    return dataclasses.replace(
        config, model=dataclasses.replace(config.model, likelihood=likelihood)
    )


def fit(
    config: RunConfig,
    dataset: Dataset,
    run_dir: Path | str,
    *,
    fresh: bool = False,
    checkpoint_minutes: float = 10.0,
    keep_every: int | None = None,
    reporter: TrainingReporter | None = None,
) -> FitResult:
    """Trains a model, or goes on with one, until it has seen `config.train.epochs` epochs.

        maximize 1/m sum_i ELBO(x_i) - lam * D_SM(q(z|x_i), p(z|x_i))

    On a CPU in float32 with the same number of threads, a run that is stopped in any way and
    started again ends with the same bits as one that was not.

    Args:
        config: the configuration.
        dataset: the data that it names.
        run_dir: the run directory; see `run_directory`.
        fresh: deletes the run that is there.
        checkpoint_minutes: a checkpoint is written at the end of an epoch and whenever the last one
            is older.
        keep_every: the checkpoint at the end of every so many epochs is kept for good; None keeps
            the last two alone.
        reporter: hears of the progress.

    Returns:
        The trained model and its history.

    Raises:
        SMVIError: the configuration does not fit the data or the directory, checkpoint_minutes is
            not above 0, keep_every is less than 1, the objective is no longer finite, or the
            directory cannot be written.
        TrainingInterrupted: SIGINT or SIGTERM came; the state is saved.

    Source: [Levy & Ermon, eq. 7 and section 5].
    """
    reporter = reporter or Silent()
    if keep_every is not None and keep_every < 1:
        raise SMVIError(
            f"keep_every = {keep_every} is not allowed; give a number of epochs of at least 1."
        )
    if not checkpoint_minutes > 0.0:  # NaN is neither
        raise SMVIError(
            f"checkpoint_minutes = {checkpoint_minutes} is not allowed; give a number greater than 0."
        )
    run_dir = Path(run_dir)
    config = resolve(config, dataset)
    details = {
        "data": {
            "fingerprint": dataset.fingerprint,
            "image_shape": list(dataset.image_shape),
            "real_valued": dataset.real_valued,
        },
        **environment().to_json(),
    }
    kept = f"the checkpoints that were there are intact: {RUN_AGAIN}"
    signals: list[int] = []  # that came; a second one acts as it does elsewhere
    with (
        handle_stop_signals(signals.append, once=True),
        mixed_precision(config.train.precision, config.train.xla),
        explain_write_errors(f"to {run_dir}", kept),
        RunDirectory.open(
            run_dir,
            config,
            details,
            fresh=fresh,
            warn=reporter.warn,
            steps_per_epoch=dataset.train.num_examples // config.train.batch_size,
        ) as run,
    ):
        return _Run(config, dataset, run, reporter, signals, checkpoint_minutes, keep_every).train()


class _Run:
    """The state of one call of `fit`."""

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        run: RunDirectory,
        reporter: TrainingReporter,
        signals: Sequence[int],
        checkpoint_minutes: float,
        keep_every: int | None,
    ) -> None:
        self.config, self.dataset, self.run = config, dataset, run
        self.reporter, self.signals = reporter, signals
        self.checkpoint_seconds, self.keep_every = 60.0 * checkpoint_minutes, keep_every
        self.binarize = config.model.likelihood == "bernoulli"
        self.trainer = Trainer(
            VAE(config.model, dataset.image_shape, config.train.seed), config.train
        )
        self.history: list[dict[str, Any]] = []
        self.sums = np.zeros(len(TRAIN_METRICS))  # over the steps of the current epoch
        self.seconds = 0.0  # spent on the current epoch
        self.saved_step, self.saved_at = -1, time.monotonic()
        self.steps_per_call = 1

    def train(self) -> FitResult:
        """Restores what is there and trains what is missing."""
        self._restore()
        config, split = self.config.train, self.dataset.train
        steps_per_epoch = split.num_examples // config.batch_size
        step, end = self.trainer.step, config.epochs * steps_per_epoch
        self.reporter.begin(self.config.train.epochs, step, steps_per_epoch)
        batches = train_batches(
            split,
            batch_size=config.batch_size,
            seed=config.seed,
            first_step=step,
            num_steps=max(end - step, 0),
            binarize=self.binarize,
        )
        log = MetricsLog(self.run, self.history, self.trainer.model, self._images_to_reconstruct())
        try:
            iterator = iter(batches)
            for epoch in range(step // steps_per_epoch, config.epochs):
                self._train_epoch(iterator, epoch, steps_per_epoch)
                self._finish_epoch(log, epoch, steps_per_epoch)
            self._stop_if_asked()
        finally:
            log.close()
        return FitResult(self.trainer.model, self.history, self.run.path)

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
            _check_finite(rows, step, self.saved_step, self.dataset)
            step += count
            now = time.monotonic()
            self.seconds = before + now - started
            # One row after the other, so that no bit depends on how the steps were grouped.
            self.sums = np.cumsum(np.vstack([self.sums, rows]), axis=0)[-1]
            means = _record_metrics(self.sums / (step - epoch_begin))
            self.reporter.progress(
                TrainingProgress(step, epoch, (step - begin) / (now - started), means)
            )
            self.steps_per_call = _next_call(count, now - call_started)
            # At the end of the epoch its record belongs to the checkpoint, too: _finish_epoch saves
            # both.
            if step < end and now - self.saved_at > self.checkpoint_seconds:
                self._save()

    def _finish_epoch(self, log: MetricsLog, epoch: int, steps_per_epoch: int) -> None:
        """Tests, logs and saves, in this order: what a kill in between leaves in the log is dropped on resuming."""
        started = time.monotonic()
        test = eval_batches(
            self.dataset.test, batch_size=TEST_BATCH, seed=TEST_SEED, binarize=self.binarize
        )
        tested = self.trainer.test(test)
        if not all(map(math.isfinite, tested.values())):
            what = "the objective on the test data"
            raise _not_finite(what, self.trainer.step, self.saved_step, self.dataset)
        record = {
            "epoch": epoch + 1,
            "step": self.trainer.step,
            "train": _record_metrics(self.sums / steps_per_epoch),
            "test": tested,
            "seconds": round(self.seconds + time.monotonic() - started, 3),
        }
        log.write(record)
        self.history.append(record)
        self.sums, self.seconds = np.zeros_like(self.sums), 0.0
        self._save(forever=self.keep_every is not None and (epoch + 1) % self.keep_every == 0)
        self.reporter.epoch(record)

    def _stop_if_asked(self) -> None:
        if self.signals:
            if self.saved_step != self.trainer.step:
                self._save()
            raise TrainingInterrupted(self.signals[-1], self.trainer.step)

    def _save(self, *, forever: bool = False) -> None:
        # NaN (no divergence at lam = 0) is not JSON.
        sums = [None if math.isnan(value) else value for value in self.sums.tolist()]
        info = {"history": self.history, "sums": sums, "seconds": self.seconds}
        step = self.trainer.step
        save_checkpoint(self.run.checkpoints, step, self.trainer.arrays(), info, forever=forever)
        self.saved_step, self.saved_at = step, time.monotonic()

    def _restore(self) -> None:
        checkpoint = restore_checkpoint(self.run.checkpoints, self.reporter.warn)
        if checkpoint is None:
            self._warn_of_lost_epochs()
            return
        try:
            self.trainer.assign(checkpoint.arrays)
        except (KeyError, ValueError) as error:
            raise SMVIError(
                f"the checkpoint at step {checkpoint.step} of {self.run.path} was written by another version of "
                "this program; install the one in config.json, or start over with --fresh."
            ) from error
        self.history, self.seconds = checkpoint.info["history"], checkpoint.info["seconds"]
        self.sums = np.array(
            [math.nan if value is None else value for value in checkpoint.info["sums"]]
        )
        self.saved_step = checkpoint.step

    def _warn_of_lost_epochs(self) -> None:
        """Warns where the checkpoints of a run were deleted: a kill leaves one epoch without any at most."""
        log = self.run.metrics
        if log.exists() and len(log.read_bytes().splitlines()) > 1:
            self.reporter.warn(
                f"{log} has epochs, but there is no checkpoint in {self.run.checkpoints}; "
                "the training starts from the beginning."
            )

    def _images_to_reconstruct(self) -> np.ndarray:
        test = self.dataset.test
        batches = eval_batches(
            test,
            batch_size=NUM_RECONSTRUCTIONS,
            seed=TEST_SEED,
            binarize=self.binarize,
            num_examples=min(NUM_RECONSTRUCTIONS, test.num_examples),
        )
        return next(iter(batches))[1].numpy()


def _check_finite(rows: np.ndarray, step: int, saved_step: int, dataset: Dataset) -> None:
    """Raises SMVIError if the objective or the gradient of a step is not finite."""
    bad = np.flatnonzero(~np.isfinite(rows[:, [TRAIN_METRICS.index("objective"), -1]]).all(axis=1))
    if bad.size:
        raise _not_finite(
            "the objective or its gradient", step + int(bad[0]) + 1, saved_step, dataset
        )


def _not_finite(what: str, step: int, saved_step: int, dataset: Dataset) -> SMVIError:
    kept = (
        f"the checkpoint at step {saved_step} is kept"
        if saved_step >= 0
        else "no checkpoint was written yet"
    )
    advice = (
        "Scale the data to values of about 1 if theirs are far larger. "
        if dataset.real_valued
        else ""
    )
    return SMVIError(
        f"{what} is not finite at step {step}; {kept}. {advice}"
        "Try a smaller --learning-rate or --clip-norm, or a longer --lam-warmup-steps, in a new directory."
    )


def _record_metrics(means: np.ndarray) -> dict[str, float | None]:
    """By name; None for what was not computed."""
    return {
        name: None if math.isnan(value) else value
        for name, value in zip(TRAIN_METRICS, means.tolist(), strict=True)
    }


def _next_call(count: int, seconds: float) -> int:
    """The number of steps that last about CALL_SECONDS, growing by at most ten times a call."""
    return max(1, min(10 * count, int(count * CALL_SECONDS / max(seconds, 1e-6))))
