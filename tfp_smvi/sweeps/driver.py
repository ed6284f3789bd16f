"""One grid of lam and seed: each run is trained, evaluated and classified, in processes of their own.

References:
    [1] D. Levy and S. Ermon. Trading-off Learning and Inference in Deep Latent Variable Models.
    Section 5.
"""

import os
import signal
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfp_smvi.config import SweepConfig
from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.core.reporters import Silent, SweepReporter
from tfp_smvi.core.signals import handle_stop_signals
from tfp_smvi.engines.base import Event, Task
from tfp_smvi.engines.processes import Processes, describe_exit
from tfp_smvi.storage.locks import hold_folder
from tfp_smvi.sweeps.summary import STAGES, missing_epochs, open_summary, refresh, write_summary

__all__ = ["SweepInterrupted", "sweep"]

JSON = dict[str, Any]
# What the libraries of a run's process print, in the run directory.
LOG = "sweep.log"


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
    data_dir: Path | None = None,
    checkpoint_minutes: float = 10.0,
    command: Sequence[str] = (),
    redo: bool = False,
    reporter: SweepReporter | None = None,
) -> JSON:
    """Trains, evaluates and classifies at each lam and seed, and goes on where it was stopped.

    Each run lives in a run directory under the sweep directory, and each is the work of a process
    of its own, so that one that dies stops no other. After every stage sweep.json and sweep.csv are
    written anew. What is done with the same settings is not done again; runs of a lam or a seed
    that an earlier call asked for are kept.

    Args:
        sweep_dir: the sweep directory.
        config: the grid and the settings of its runs.
        jobs: how many runs to work on at once.
        threads: CPU threads of each; None shares the cores out.
        data_dir: where prepared data sets live; None for the default.
        checkpoint_minutes: as for `fit`.
        command: the command line to record in the summary.
        redo: whether evaluations and classifications that were made with other settings are done
            again.
        reporter: hears of the progress.

    Returns:
        The summary, as in sweep.json; a run that failed has the status "failed" and its reason as
        "error".

    Raises:
        SMVIError: jobs is less than 1, another process works there, the directory holds a sweep
            with other settings, or it cannot be written.
        SweepInterrupted: SIGINT or SIGTERM came; all processes have saved and ended.

    Source: [1].
    """
    sweep_dir, reporter = Path(sweep_dir), reporter or Silent()
    if jobs < 1:
        raise SMVIError(f"jobs = {jobs} is not allowed; give a whole number of at least 1.")
    if threads is None and jobs > 1:
        threads = max(1, _num_cores() // jobs)
    order = {
        "data_dir": str(data_dir) if data_dir is not None else None,
        "threads": threads,
        "checkpoint_minutes": checkpoint_minutes,
        "keep_every": config.classify_every,
        "evaluate": config.evaluate.to_json(),
        "classify": config.classify.to_json() if config.classify else None,
    }
    remedy = "choose another {sweep_dir}"
    busy = SMVIError(f"another sweep works in {sweep_dir}", remedy=f"wait for it or {remedy}")
    with hold_folder(sweep_dir, busy=busy, remedy=remedy):
        summary = open_summary(sweep_dir, config, command, reporter.warn, redo=redo)
        with Processes(jobs) as processes:
            return _Sweep(sweep_dir, config, summary, order, processes, reporter).run(jobs)


class _Sweep:
    """The state of one call of `sweep`."""

    def __init__(
        self,
        sweep_dir: Path,
        config: SweepConfig,
        summary: JSON,
        order: JSON,
        processes: Processes,
        reporter: SweepReporter,
    ) -> None:
        self.sweep_dir, self.config, self.summary, self.order = sweep_dir, config, summary, order
        self.processes, self.reporter = processes, reporter
        self.entries = {entry["run_dir"]: entry for entry in summary["runs"]}
        self.stages: dict[
            str, tuple[str, float]
        ] = {}  # of a run: the stage that goes on, and since when
        self.errors: dict[str, str] = {}
        self.waiting: deque[JSON] = deque()
        self.stopped_by: int | None = None

    def run(self, jobs: int) -> JSON:
        """Does what is left of the runs that are asked for."""
        lams, seeds = self.config.lams, self.config.seeds
        asked = [e for e in self.summary["runs"] if float(e["lam"]) in lams and e["seed"] in seeds]
        self.waiting.extend(entry for entry in asked if entry["status"] != "done")
        self._save()
        self.reporter.begin(asked, self.config.stages, jobs)
        with handle_stop_signals(self._tell_signal):
            while True:
                while self.waiting and not self.processes.full and self.stopped_by is None:
                    self._start(self.waiting.popleft())
                if not len(self.processes):
                    break
                self._handle(self.processes.next_event())
        if self.stopped_by is not None:
            raise SweepInterrupted(self.stopped_by)
        return self.summary

    def _start(self, entry: JSON) -> None:
        name = entry["run_dir"]
        run_dir = self.sweep_dir / name
        order = self.order | {
            "run_dir": str(run_dir),
            "stages": refresh(entry, self.sweep_dir, self.config),
            "train": self.config.run(float(entry["lam"]), entry["seed"]).to_json(),
            "classify_epochs": missing_epochs(entry, self.config),
        }
        try:
            log = str(run_dir / LOG)
            function = "tfp_smvi.sweeps.stage:run_stages"
            self.processes.start(Task(name, function, order, log))
        except OSError as error:
            entry.update(
                status="failed", error=f"cannot write to {run_dir} ({plain_reason(error)})"
            )
        else:
            entry.update(status="running", error=None)
        self._save()
        self.reporter.update(entry)

    def _tell_signal(self, number: int) -> None:
        self.processes.put(Event("", "signal", {"number": number}))

    def _handle(self, event: Event) -> None:
        """Takes note of what a process said."""
        values, entry = event.values, self.entries.get(event.task, {})
        match event.kind:
            case "begin":
                self.stages[event.task] = values["stage"], time.monotonic()
                self.reporter.stage(entry, values["stage"])
            case "progress":
                self.reporter.progress(entry, values["fraction"], values["text"])
            case "warn":
                self.reporter.warn(f"{event.task}: {values['message']}")
            case "failed":
                self.errors[event.task] = values["error"]
                if values.get("common"):
                    self._give_up(f"{self.stages[event.task][0]}: {values['error']}")
            case "end":
                self._end_stage(entry)
                if not refresh(entry, self.sweep_dir, self.config):
                    entry.update(status="done")
                self._save()
                self.reporter.update(entry)
            case "exit":
                self._end_run(entry, values["code"])
            case "signal":
                self._stop(values["number"])

    def _end_stage(self, entry: JSON) -> str:
        """Adds the time that a stage took, now or until its process died; returns its name."""
        stage, began = self.stages.pop(entry["run_dir"], ("start", 0.0))
        if stage in STAGES:
            entry["seconds"][stage] = round(entry["seconds"][stage] + time.monotonic() - began, 3)
        return stage

    def _end_run(self, entry: JSON, code: int) -> None:
        stage, was_done = self._end_stage(entry), entry["status"] == "done"
        left = refresh(entry, self.sweep_dir, self.config)
        error = self.errors.pop(entry["run_dir"], None)
        if not left:
            entry.update(status="done", error=None)
        elif error is None and self.stopped_by is not None:
            entry.update(status="pending", error=None)
        elif error is None and code == 0:
            files = f"its files do not show that {left[0]} was done; delete {entry['run_dir']} to start over"
            entry.update(status="failed", error=files)
        else:
            entry.update(status="failed", error=f"{stage}: {error or describe_exit(code, LOG)}")
        if not was_done:
            self._save()
            self.reporter.update(entry)

    def _give_up(self, error: str) -> None:
        """Fails the runs that have not begun with what they would fail with."""
        for entry in [entry for entry in self.waiting if not entry["history"]]:
            self.waiting.remove(entry)
            entry.update(status="failed", error=error)
            self.reporter.update(entry)

    def _stop(self, number: int) -> None:
        if self.stopped_by is not None:  # asked for twice
            self.processes.kill()
            return
        self.stopped_by = number
        self.processes.stop()
        self.reporter.note(
            "Stopping: the runs save what they have; a second signal ends them at once."
        )

    def _save(self) -> None:
        write_summary(self.sweep_dir, self.summary)


def _num_cores() -> int:
    """The cores that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
