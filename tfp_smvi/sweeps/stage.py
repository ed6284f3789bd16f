"""The process that does the stages of one run of a sweep: `python -m tfp_smvi.sweeps.stage ORDER`.

A process of its own gives each run its own TensorFlow and threads, and lets the others live when it
dies. ORDER is a JSON object, see `sweep_jobs`. What happens is told on stdout, a JSON object a
line:

    {"event": "begin", "stage": "train" | "evaluate" | "classify"} {"event": "progress", "fraction":
    0.25, "text": "epoch 3/10"}     of that stage {"event": "warn", "message": "..."} {"event":
    "end"}                                                  its results are on disk {"event":
    "failed", "error": "one line", "common": false}         and no stage follows; "common": nor
    would another
                                                                      run of the sweep come any
                                                                      further

The process ends in order, with exit code 143, at SIGTERM and when its stdin is closed, which also
happens when the process at the other end dies in any way.
"""

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from tfp_smvi.config import ClassifyConfig, EvaluateConfig, RunConfig
from tfp_smvi.core.errors import RUN_AGAIN, SMVIError, explain_write_errors
from tfp_smvi.core.runtime import quiet_tensorflow, set_threads
from tfp_smvi.storage.locks import hold_folder

__all__ = ["main"]

Emit = Callable[[Mapping[str, Any]], None]

STOPPED = 128 + signal.SIGTERM
# So long may the process of a killed sweep take to save and end.
LOCK_SECONDS = 60.0
# Between two reports of a stage's progress.
SECONDS_PER_REPORT = 0.5


def main() -> None:
    """Does the stages that the order on the command line asks for."""
    # Ctrl-C reaches all processes of the terminal; the one that leads the sweep hears it and stops
    # the others.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, _end_at_once)
    emit = _take_stdout()
    training = threading.Event()
    threading.Thread(target=_end_with_parent, args=(training,), daemon=True).start()
    order = json.loads(sys.argv[1])
    try:
        busy = SMVIError("another process of a sweep works on it", remedy="wait for its end")
        run_dir = Path(order["run_dir"])
        # Held until this process ends.
        with hold_folder(
            run_dir, busy=busy, remedy=RUN_AGAIN, timeout=LOCK_SECONDS, name=".sweep.lock"
        ):
            _work(order, emit, training)
    except SMVIError as error:
        emit({"event": "failed", "error": str(error), "common": isinstance(error, _CommonError)})
    except Exception as error:  # whatever it is, the other runs of the sweep go on
        traceback.print_exc()
        first = (str(error).splitlines() or [""])[0]
        emit({"event": "failed", "error": f"{type(error).__name__}: {first} (see sweep.log)"})


def _take_stdout() -> Emit:
    """Keeps stdout for the events, and leads to stderr what libraries print."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def emit(event: Mapping[str, Any]) -> None:
        try:
            channel.write(json.dumps(event) + "\n")
            channel.flush()
        except OSError:
            pass  # nobody listens any more, and `_end_with_parent` ends this process in order

    return emit


def _end_at_once(number: int, frame: FrameType | None) -> None:
    # All that is written is written atomically. An exception could be lost on its way through a
    # library.
    os._exit(STOPPED)


def _end_with_parent(training: threading.Event) -> None:
    """Sends SIGTERM to this process when stdin is closed."""
    while os.read(0, 1):
        pass
    # The training saves at its first signal and ends at once at a second, which may not come while
    # it saves.
    while training.is_set() and signal.getsignal(signal.SIGTERM) is _end_at_once:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)


def _work(order: dict[str, Any], emit: Emit, training: threading.Event) -> None:
    quiet_tensorflow()
    set_threads(order["threads"])
    run_dir = Path(order["run_dir"])
    data_dir = Path(order["data_dir"]) if order["data_dir"] is not None else None
    stages = order["stages"]
    if "train" in stages:
        emit({"event": "begin", "stage": "train"})
        _train(order, run_dir, data_dir, emit, training)
        emit({"event": "end"})
    if "evaluate" in stages:
        from tfp_smvi.evaluation.pipeline import evaluate

        emit({"event": "begin", "stage": "evaluate"})
        config = EvaluateConfig.from_json(order["evaluate"])
        report = evaluate(run_dir, config, data_dir=data_dir, reporter=_Work(emit))
        for warning in report["warnings"] if report else ():
            emit({"event": "warn", "message": warning})
        emit({"event": "end"})
    if "classify" in stages:
        emit({"event": "begin", "stage": "classify"})
        _classify(order, run_dir, data_dir, emit)
        emit({"event": "end"})


def _train(
    order: dict[str, Any],
    run_dir: Path,
    data_dir: Path | None,
    emit: Emit,
    training: threading.Event,
) -> None:
    from tfp_smvi.data import load_dataset
    from tfp_smvi.runs.gallery import write_gallery
    from tfp_smvi.training.loop import TrainingInterrupted, fit, resolve

    config = RunConfig.from_json(order["train"])
    try:
        dataset = load_dataset(config.data.dataset, data_dir)
        if order["classify"] is not None:
            from tfp_smvi.classification.protocol import check_labels

            # Now, and not after hours of training.
            check_labels(dataset, ClassifyConfig.from_json(order["classify"]))
        resolve(config, dataset)
    except SMVIError as error:
        raise _CommonError(str(error)) from error
    training.set()
    try:
        result = fit(
            config,
            dataset,
            run_dir,
            checkpoint_minutes=order["checkpoint_minutes"],
            keep_every=order["keep_every"],
            reporter=_Training(emit),
        )
    except TrainingInterrupted:
        os._exit(STOPPED)
    finally:
        training.clear()
    step = result.history[-1]["step"]
    if note := config.train.unfinished_warmup(step):
        emit({"event": "warn", "message": note})
    with explain_write_errors(f"to {run_dir}", RUN_AGAIN):
        write_gallery(run_dir / "gallery.npz", result.model, dataset, step)


def _classify(order: dict[str, Any], run_dir: Path, data_dir: Path | None, emit: Emit) -> None:
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
            reporter=_Work(emit, number, len(epochs)),
        )


class _CommonError(SMVIError):
    """A failure that has nothing to do with this run, and that all runs of the sweep would meet."""


class _Reporter:
    """Tells what the stages have in common."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit

    def progress_to(self, fraction: float, text: str = "") -> None:
        self._emit({"event": "progress", "fraction": fraction, "text": text})

    def note(self, message: str) -> None:
        """Is not told: a sweep has enough to say."""

    def warn(self, message: str) -> None:
        self._emit({"event": "warn", "message": message})


class _Training(_Reporter):
    """A `tfp_smvi.core.reporters.TrainingReporter`."""

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

    def epoch(self, record: Mapping[str, Any]) -> None:
        text = f"epoch {record['epoch']}/{self._epochs}, ELBO {record['test']['elbo']:.2f}"
        self.progress_to(record["step"] / self._steps, text)


class _Work(_Reporter):
    """A `tfp_smvi.core.reporters.EvaluationReporter`, of one of some equal parts of a stage."""

    def __init__(self, emit: Emit, part: int = 0, parts: int = 1) -> None:
        super().__init__(emit)
        self._part, self._parts = part, parts

    def begin(self, num_units: int, cost: float, cost_done: float) -> None:
        self._cost, self._done = cost, cost_done
        self.advance(0.0)

    def advance(self, cost: float) -> None:
        self._done += cost
        self.progress_to((self._part + self._done / self._cost) / self._parts)


if __name__ == "__main__":
    main()
