"""One grid of lam and seed: each run is trained, evaluated and classified, in its own process.

References:
    [1] D. Levy and S. Ermon. Trading-off Learning and Inference in Deep Latent Variable Models.
        Section 5.
"""

import contextlib
import dataclasses
import signal
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from tfp_smvi.config import SweepConfig
from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.core.reporters import Silent
from tfp_smvi.core.signals import handle_stop_signals
from tfp_smvi.engines.base import Event, StoppableEngine
from tfp_smvi.engines.processes import Processes, describe_exit
from tfp_smvi.storage.locks import hold_folder
from tfp_smvi.sweeps import orders
from tfp_smvi.sweeps.checking import check_data
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.orders import Order, shared_order
from tfp_smvi.sweeps.reporters import SweepReporter
from tfp_smvi.sweeps.results import Summary, write_summary
from tfp_smvi.sweeps.stages import STAGES, missing_epochs, refresh
from tfp_smvi.sweeps.summary import open_summary, read_environment
from tfp_smvi.sweeps.task import LOG, make_task

__all__ = ["SweepInterrupted", "sweep"]


class SweepInterrupted(Exception):  # noqa: N818
    """A signal ended the sweep; what is done is kept.

    Attributes:
        signum: the signal's number.
    """

    def __init__(self, signum: int) -> None:
        """Stores it."""
        super().__init__(f"stopped by {signal.Signals(signum).name}; what is done is kept.")
        self.signum = signum


def sweep(
    sweep_dir: Path | str,
    config: SweepConfig = SweepConfig(),  # noqa: B008  # it is frozen
    *,
    jobs: int = 1,
    threads: int | None = None,
    engine: StoppableEngine | None = None,
    data_dir: Path | None = None,
    checkpoint_minutes: float = 10.0,
    command: Sequence[str] = (),
    redo: bool = False,
    reporter: SweepReporter | None = None,
) -> Summary:
    """Trains, evaluates and classifies at each lam and seed, and resumes where it was stopped.

    Each run has a run directory in the sweep directory and its own process, so that a run that dies
    does not stop the others. After every stage sweep.json and sweep.csv are written again. What is
    done with the same settings is not done again; runs of a lam or a seed that an earlier call
    asked for are kept.

    Args:
        sweep_dir: the sweep directory.
        config: the grid and the settings of its runs.
        jobs: the number of runs to work on at once, in processes of this machine.
        threads: CPU threads of each; None divides the cores between them.
        engine: runs the work in place of processes of this machine, as many runs at once as it
            takes; then threads=None leaves the threads to it. Other machines need the sweep
            directory and the data under the same paths.
        data_dir: the folder of prepared data sets; None for the default.
        checkpoint_minutes: as for `fit`.
        command: the command line to record in the summary.
        redo: whether to repeat evaluations and classifications that were made with other settings.
        reporter: receives progress updates.

    Returns:
        The summary, as in sweep.json; a run that failed has the status "failed" and its reason as
        "error".

    Raises:
        SMVIError: jobs is less than 1, the data cannot be loaded or do not allow a setting (nothing
            is made or changed then), another process works there, the directory holds a sweep with
            other settings, it cannot be written, or the engine is lost.
        SweepInterrupted: SIGINT, SIGTERM or SIGHUP came; all processes have saved and ended.

    Source: [1].
    """
    sweep_dir, reporter = Path(sweep_dir), reporter or Silent()
    order = shared_order(sweep_dir, config, jobs, threads, engine, data_dir, checkpoint_minutes)
    remedy = "choose another {sweep_dir}"
    busy = SMVIError(f"another sweep works in {sweep_dir}", remedy=f"wait for it or {remedy}")
    # An engine without tasks is false.
    given = contextlib.nullcontext(engine) if engine is not None else Processes(jobs)
    with given as runner:
        runner.require(sweep_dir.absolute())
        is_new = not sweep_dir.exists()
        if is_new:
            _check_data(order, runner, reporter)
        with hold_folder(sweep_dir, busy=busy, remedy=remedy):
            summary = open_summary(sweep_dir, config, command, reporter.warn, redo=redo)
            config = summary.config.with_grid(config.levels, config.seeds)
            if not is_new and any(entry.is_in(config) and not entry.done for entry in summary.runs):
                runs = [sweep_dir / entry.run_dir for entry in summary.runs]
                _check_data(order, runner, reporter, runs)
            return _Sweep(sweep_dir, config, summary, order, runner, reporter).run()


def _check_data(
    order: Order, engine: StoppableEngine, reporter: SweepReporter, run_dirs: Sequence[Path] = ()
) -> None:
    """Raises an error if the data do not allow the settings, before anything is made or changed."""
    stopped_by = check_data(order, engine, reporter.note, run_dirs)
    if stopped_by is not None:
        raise SweepInterrupted(stopped_by)


class _Sweep:
    """The state of one call of `sweep`."""

    def __init__(
        self,
        sweep_dir: Path,
        config: SweepConfig,
        summary: Summary,
        order: Order,
        engine: StoppableEngine,
        reporter: SweepReporter,
    ) -> None:
        self.sweep_dir, self.config, self.summary, self.order = sweep_dir, config, summary, order
        self.engine, self.reporter = engine, reporter
        self.entries = {entry.run_dir: entry for entry in summary.runs}
        # By run: the current stage and when it began, and the error that a task reported.
        self.stages: dict[str, tuple[str, float]] = {}
        self.errors: dict[str, str] = {}
        self.warnings: set[str] = set()  # so far
        self.waiting: deque[str] = deque()
        self.stopped_by: int | None = None

    def run(self) -> Summary:
        """Does what is left of the runs that are asked for."""
        asked = [entry for entry in self.entries.values() if entry.is_in(self.config)]
        self.waiting.extend(entry.run_dir for entry in asked if not entry.done)
        self._save()
        self.reporter.begin(asked, self.config.stages, self.engine.capacity)
        with handle_stop_signals(self._put_signal):
            try:
                self._work()
            except SMVIError:  # the engine is lost
                for name, entry in self.entries.items():
                    if entry.status == "running":
                        self._change(name, status="pending")
                self._save()
                raise
        if self.stopped_by is not None:
            raise SweepInterrupted(self.stopped_by)
        return self.summary

    def _work(self) -> None:
        while True:
            while self.waiting and not self.engine.full and self.stopped_by is None:
                self._start(self.waiting.popleft())
            if not len(self.engine):
                return
            event = self.engine.next_event()
            self._handle(event.task, orders.read_event(event))

    def _start(self, name: str) -> None:
        entry, stages = self._refresh(name)
        run_dir = Path(self.order.run_dir) / name
        order = dataclasses.replace(
            self.order,
            run_dir=str(run_dir),
            stages=tuple(stages),
            train=self.config.run(entry.level, entry.seed),
            classify_epochs=tuple(missing_epochs(entry, self.config)),
        )
        try:
            self.engine.start(make_task(name, order))
        except OSError as error:
            reason = f"cannot write to {run_dir} ({plain_reason(error)})"
            self._change(name, status="failed", error=reason)
        else:
            self._change(name, status="running", error=None)
        self._report(name)

    def _put_signal(self, number: int) -> None:
        self.engine.put(Event("", "signal", {"number": number}))

    def _handle(self, name: str, event: orders.SweepEvent) -> None:
        match event:
            case orders.StageBegun(stage):
                self.stages[name] = stage, time.monotonic()
                self.reporter.stage(self.entries[name], stage)
            case orders.Progress(fraction, text):
                self.reporter.progress(self.entries[name], fraction, text)
            case orders.Warned(message):
                self._warn(f"{name}: {message}" if name else message)
            case orders.Failed(error):
                self.errors[name] = error
            case orders.StageEnded():
                self._end_stage(name)
                if not self._refresh(name)[1]:
                    self._change(name, status="done")
                self._report(name)
            case orders.Exited(code):
                self._end_run(name, code)
            case orders.Signalled(number):
                self._stop(number)

    def _end_stage(self, name: str) -> str:
        """Adds the time that a stage took, now or until its process died; returns the stage."""
        stage, began = self.stages.pop(name, ("start", 0.0))
        if stage in STAGES:
            seconds = dict(self.entries[name].seconds)
            seconds[stage] = round(seconds[stage] + time.monotonic() - began, 3)
            self._change(name, seconds=seconds)
        return stage

    def _end_run(self, name: str, code: int) -> None:
        stage, was_done = self._end_stage(name), self.entries[name].done
        _, left = self._refresh(name)
        error = self.errors.pop(name, None)
        if not left:
            self._change(name, status="done", error=None)
        elif error is None and self.stopped_by is not None:
            self._change(name, status="pending", error=None)
        elif error is None and code == 0:
            reason = f"its files do not show that {left[0]} was done; delete {name} to start over"
            self._change(name, status="failed", error=reason)
        else:
            reason = f"{stage}: {error or describe_exit(code, LOG)}"
            self._change(name, status="failed", error=reason)
        if not was_done:
            self._report(name)

    def _stop(self, number: int) -> None:
        if self.stopped_by is not None:  # asked for twice
            self.engine.kill()
            return
        self.stopped_by = number
        self.engine.stop()
        self.reporter.note(
            "Stopping: the runs save what they have; a second signal ends them at once."
        )

    def _warn(self, line: str) -> None:
        """Reports a line once: every stage warns of the training."""
        if line not in self.warnings:
            self.warnings.add(line)
            self.reporter.warn(line)

    def _refresh(self, name: str) -> tuple[Entry, list[str]]:
        """Reads the results of a run; returns its entry and the stages that are left."""
        self.entries[name], left = refresh(self.entries[name], self.sweep_dir, self.config)
        return self.entries[name], left

    def _change(self, name: str, **fields: object) -> None:
        self.entries[name] = self.entries[name].changed(**fields)

    def _report(self, name: str) -> None:
        """Saves the summary and reports the change of a run."""
        self._save()
        self.reporter.update(self.entries[name])

    def _save(self) -> None:
        """Writes the summary, with the environment that the runs have recorded by now."""
        runs = tuple(self.entries.values())
        environment = read_environment(self.sweep_dir, runs)
        self.summary = dataclasses.replace(self.summary, runs=runs, environment=environment)
        write_summary(self.sweep_dir, self.summary)
