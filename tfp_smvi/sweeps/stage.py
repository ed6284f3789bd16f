"""The stages of one run of a sweep, as a task of an engine.

A process of its own gives each run its own TensorFlow and threads, and lets the others live when it
dies. The task emits, beside the events of every task:

    begin     "stage": "train", "evaluate" or "classify"
    progress  of that stage: "fraction", from 0 to 1, and "text", such as "epoch 3/10"
    warn      "message"
    end       the results of the stage are on disk

A failure is "common" if every run of the sweep would meet it.
"""

import os
import time
from pathlib import Path
from typing import Any

from tfp_smvi.config import ClassifyConfig, EvaluateConfig, RunConfig
from tfp_smvi.core.errors import RUN_AGAIN, SMVIError, explain_write_errors
from tfp_smvi.core.runtime import quiet_tensorflow, set_threads
from tfp_smvi.engines.base import Context
from tfp_smvi.engines.worker import STOPPED
from tfp_smvi.runs.records import EpochRecord
from tfp_smvi.storage.locks import hold_folder

__all__ = ["run_stages"]

# So long may the process of a killed sweep take to save and end.
LOCK_SECONDS = 60.0
# Between two reports of a stage's progress.
SECONDS_PER_REPORT = 0.5


def run_stages(context: Context, **order: Any) -> None:
    """Does the stages that an order asks for."""
    busy = SMVIError("another process of a sweep works on it", remedy="wait for its end")
    run_dir = Path(order["run_dir"])
    # Held until this process ends.
    with hold_folder(
        run_dir, busy=busy, remedy=RUN_AGAIN, timeout=LOCK_SECONDS, name=".sweep.lock"
    ):
        _work(order, context)


def _work(order: dict[str, Any], context: Context) -> None:
    quiet_tensorflow()
    set_threads(order["threads"])
    run_dir = Path(order["run_dir"])
    data_dir = Path(order["data_dir"]) if order["data_dir"] is not None else None
    stages = order["stages"]
    if "train" in stages:
        context.emit("begin", stage="train")
        _train(order, run_dir, data_dir, context)
        context.emit("end")
    if "evaluate" in stages:
        from tfp_smvi.evaluation.pipeline import evaluate

        context.emit("begin", stage="evaluate")
        config = EvaluateConfig.from_json(order["evaluate"])
        report = evaluate(run_dir, config, data_dir=data_dir, reporter=_Work(context))
        for warning in report.warnings if report else ():
            context.emit("warn", message=warning)
        context.emit("end")
    if "classify" in stages:
        context.emit("begin", stage="classify")
        _classify(order, run_dir, data_dir, context)
        context.emit("end")


def _train(
    order: dict[str, Any],
    run_dir: Path,
    data_dir: Path | None,
    context: Context,
) -> None:
    from tfp_smvi.data import load_dataset
    from tfp_smvi.runs.gallery import write_gallery
    from tfp_smvi.training.checks import resolve
    from tfp_smvi.training.loop import TrainingInterrupted, fit
    from tfp_smvi.training.trainer import weight_of

    config = RunConfig.from_json(order["train"])
    try:
        dataset = load_dataset(config.data.dataset, data_dir)
        if order["classify"] is not None:
            from tfp_smvi.classification.labels import check_labels

            # Now, and not after hours of training.
            check_labels(dataset, ClassifyConfig.from_json(order["classify"]))
        resolve(config, dataset)
    except SMVIError as error:
        raise _CommonError(str(error)) from error
    try:
        with context.handling_signals():
            result = fit(
                config,
                dataset,
                run_dir,
                checkpoint_minutes=order["checkpoint_minutes"],
                keep_every=order["keep_every"],
                reporter=_Training(context),
            )
    except TrainingInterrupted:
        os._exit(STOPPED)
    step = result.history[-1].step
    if note := weight_of(config.train).unfinished(step):
        context.emit("warn", message=note)
    with explain_write_errors(f"to {run_dir}", RUN_AGAIN):
        write_gallery(run_dir / "gallery.npz", result.model, dataset, step)


def _classify(
    order: dict[str, Any], run_dir: Path, data_dir: Path | None, context: Context
) -> None:
    from tfp_smvi.classification.protocol import classify

    config, epochs = ClassifyConfig.from_json(order["classify"]), order["classify_epochs"]
    # The baselines are the same for all runs: the first to need one measures it.
    baselines_dir = run_dir.parent / "baselines"
    for number, epoch in enumerate(epochs):
        classify(
            run_dir,
            config,
            data_dir=data_dir,
            epoch=epoch,
            baselines_dir=baselines_dir,
            threads=order["threads"],
            reporter=_Work(context, number, len(epochs)),
        )


class _CommonError(SMVIError):
    """A failure that has nothing to do with this run, and that all runs of the sweep would meet."""

    common = True


class _Reporter:
    """Tells what the stages have in common."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def progress_to(self, fraction: float, text: str = "") -> None:
        self._context.emit("progress", fraction=fraction, text=text)

    def note(self, message: str) -> None:
        """Is not told: a sweep has enough to say."""

    def warn(self, message: str) -> None:
        self._context.emit("warn", message=message)


class _Training(_Reporter):
    """A `tfp_smvi.training.reporter.TrainingReporter`."""

    def begin(self, num_epochs: int, step: int, steps_per_epoch: int) -> None:
        self._epochs = num_epochs
        self._steps = self._epochs * steps_per_epoch
        self._told = 0.0
        self.progress_to(step / self._steps)

    def progress(self, progress: Any) -> None:
        now = time.monotonic()
        if now >= self._told + SECONDS_PER_REPORT:
            self._told = now
            self.progress_to(
                progress.step / self._steps, f"epoch {progress.epoch + 1}/{self._epochs}"
            )

    def epoch(self, record: EpochRecord) -> None:
        text = f"epoch {record.epoch}/{self._epochs}, ELBO {record.test.elbo:.2f}"
        self.progress_to(record.step / self._steps, text)


class _Work(_Reporter):
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
