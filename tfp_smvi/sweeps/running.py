"""What the stages of a run do: the work of each, with its progress as a fraction."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tfp_smvi.core.errors import RUN_AGAIN, explain_write_errors
from tfp_smvi.core.runtime import num_threads
from tfp_smvi.engines.base import Context
from tfp_smvi.engines.worker import STOPPED
from tfp_smvi.runs.directory import RunDirectory
from tfp_smvi.runs.records import EpochRecord, read_history
from tfp_smvi.sweeps.orders import Order, Progress, Warned, emit

if TYPE_CHECKING:
    from tfp_smvi.training.reporter import TrainingProgress

__all__ = ["classify_run", "evaluate_run", "train_run"]

# Between two reports of a stage's progress.
SECONDS_PER_REPORT = 0.5


def train_run(order: Order, context: Context) -> None:
    """Trains a run and writes its gallery."""
    from tfp_smvi.data import load_dataset
    from tfp_smvi.models.vae import VAE
    from tfp_smvi.runs.gallery import write_gallery
    from tfp_smvi.training.loop import fit
    from tfp_smvi.training.results import TrainingInterrupted

    run_dir, config = Path(order.run_dir), order.train
    dataset = load_dataset(config.data, _data_dir(order))
    try:
        with context.handling_signals():
            result = fit(
                config,
                dataset,
                run_dir,
                checkpoint_minutes=order.checkpoint_minutes,
                keep_every=order.keep_every,
                reporter=_TrainingReporter(context),
            )
    except TrainingInterrupted:
        os._exit(STOPPED)
    step = result.history[-1].step
    assert isinstance(result.model, VAE)
    with explain_write_errors(f"to {run_dir}", RUN_AGAIN):
        write_gallery(run_dir / "gallery.npz", result.model, dataset, step)


def evaluate_run(order: Order, context: Context) -> None:
    """Evaluates a run."""
    from tfp_smvi.evaluation.pipeline import evaluate
    from tfp_smvi.evaluation.warnings import warnings_about

    reporter = _PartReporter(context)
    report = evaluate(
        Path(order.run_dir), order.evaluate, data_dir=_data_dir(order), reporter=reporter
    )
    if report is None:
        return
    # With the fields in braces: the command line names its options.
    warnings = warnings_about(report.splits, report.bracket, report.settings, report.calibration)
    for warning in warnings:
        emit(context, Warned(warning))


def classify_run(order: Order, context: Context) -> None:
    """Classifies a run at each epoch that is asked for and that its training has had."""
    from tfp_smvi.classification.protocol import classify

    run_dir, config = Path(order.run_dir), order.classify
    assert config is not None
    last = read_history(RunDirectory(run_dir).metrics)[-1].epoch
    epochs = [epoch for epoch in order.classify_epochs if epoch is None or epoch < last]
    for number, epoch in enumerate(epochs):
        classify(
            run_dir,
            config,
            data_dir=_data_dir(order),
            epoch=epoch,
            # The baselines are the same for all runs: the first to need one measures it.
            baselines_dir=run_dir.parent / "baselines",
            threads=num_threads(),
            reporter=_PartReporter(context, number, len(epochs)),
        )


def _data_dir(order: Order) -> Path | None:
    return Path(order.data_dir) if order.data_dir is not None else None


class _Reporter:
    """What the reporters of all stages share."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def progress_to(self, fraction: float, text: str = "") -> None:
        emit(self._context, Progress(fraction, text))

    def note(self, message: str) -> None:
        """Is not reported: the output of a sweep is long enough."""

    def warn(self, message: str) -> None:
        emit(self._context, Warned(message))


class _TrainingReporter(_Reporter):
    """A `tfp_smvi.training.reporter.TrainingReporter`."""

    def begin(self, num_epochs: int, step: int, steps_per_epoch: int) -> None:
        self._epochs = num_epochs
        self._steps = self._epochs * steps_per_epoch
        self._last_report = 0.0
        self.progress_to(step / self._steps)

    def progress(self, progress: "TrainingProgress") -> None:
        now = time.monotonic()
        if now >= self._last_report + SECONDS_PER_REPORT:
            self._last_report = now
            text = f"epoch {progress.epoch + 1}/{self._epochs}"
            self.progress_to(progress.step / self._steps, text)

    def epoch(self, record: EpochRecord) -> None:
        text = f"epoch {record.epoch}/{self._epochs}, ELBO {record.test.elbo:.2f}"
        self.progress_to(record.step / self._steps, text)


class _PartReporter(_Reporter):
    """A `tfp_smvi.core.reporters.EvaluationReporter`, of one of some equal parts of a stage."""

    def __init__(self, context: Context, part: int = 0, parts: int = 1) -> None:
        super().__init__(context)
        self._part, self._parts = part, parts

    def begin(self, num_units: int, cost: float, cost_done: float) -> None:
        self._cost, self._done = cost, cost_done
        self.advance(0.0)

    def advance(self, cost: float) -> None:
        self._done += cost
        self.progress_to((self._part + self._done / self._cost) / self._parts)
