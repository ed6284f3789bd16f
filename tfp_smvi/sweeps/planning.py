"""What a sweep would do, and about how long it would take, without doing it."""

import contextlib
import heapq
import math
import socket
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tfp_smvi.config import SweepConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.records import Record
from tfp_smvi.engines.base import Context, StoppableEngine, Task
from tfp_smvi.engines.processes import Processes
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.orders import Failed, Order, Timed, emit, read_event, shared_order
from tfp_smvi.sweeps.results import DamagedSummaryError, read_summary
from tfp_smvi.sweeps.stages import STAGES, refresh
from tfp_smvi.sweeps.summary import open_summary

if TYPE_CHECKING:
    from tfp_smvi.training.reporter import TrainingProgress

__all__ = ["PlannedRun", "SweepPlan", "plan_sweep", "time_steps"]

# How long steps are timed, after the first call, which compiles them.
TIMING_SECONDS = 5.0


@dataclass(frozen=True)
class PlannedRun(Record):
    """What is left to do of a run.

    Attributes:
        run_dir: its directory, in that of the sweep.
        stages: the stages that are left; none if it is done.
        epochs: the epochs that are left to train.
        seconds: about how long that takes; None if nothing was measured.
    """

    run_dir: str
    stages: tuple[str, ...]
    epochs: int
    seconds: float | None


@dataclass(frozen=True)
class SweepPlan(Record):
    """What a sweep would do.

    Attributes:
        runs: those asked for, in the order in which they would begin.
        workers: how many would go on at once.
        seconds: about how long all of it takes; None if nothing was measured.
        epoch_seconds: of an epoch; None if nothing was measured.
        source: where that comes from, in words.
        unknown: stages that are left and that no run has done, which `seconds` does not include.
    """

    runs: tuple[PlannedRun, ...]
    workers: int
    seconds: float | None
    epoch_seconds: float | None
    source: str
    unknown: tuple[str, ...]


class _Pace(NamedTuple):
    """How long an epoch and each later stage take, and where that comes from."""

    epoch: float | None
    stages: dict[str, float]
    source: str


def plan_sweep(
    sweep_dir: Path | str,
    config: SweepConfig = SweepConfig(),  # noqa: B008  # it is frozen
    *,
    jobs: int = 1,
    threads: int | None = None,
    engine: StoppableEngine | None = None,
    data_dir: Path | None = None,
    redo: bool = False,
    warn: Callable[[str], None] = lambda line: None,
) -> SweepPlan:
    """Says what `sweep` would do with the same arguments, and writes nothing.

    The times are those of the runs of the sweep. If they have no epoch yet, some steps are timed by
    a task of the engine, in a folder that is deleted.

    Args:
        sweep_dir: the sweep directory, which need not exist.
        config: as of `sweep`, like the other arguments.
        jobs: the number of runs to work on at once.
        threads: CPU threads of each.
        engine: what would run the work; None for processes of this machine.
        data_dir: the folder of prepared data sets.
        redo: whether evaluations and classifications with other settings would be repeated.
        warn: is called with one line if an existing sweep.json is damaged.

    Raises:
        SMVIError: the directory holds a sweep with other settings, or no step can be timed.
    """
    sweep_dir = Path(sweep_dir)
    order = shared_order(sweep_dir, config, jobs, threads, engine, data_dir)
    summary = open_summary(sweep_dir, config, (), warn, redo=redo)
    config = summary.config.with_grid(config.levels, config.seeds)
    # An engine without tasks is false.
    given = contextlib.nullcontext(engine) if engine is not None else Processes(jobs)
    with given as runner:
        return _plan(summary.runs, sweep_dir, config, order, runner)


def _plan(
    entries: Sequence[Entry],
    sweep_dir: Path,
    config: SweepConfig,
    order: Order,
    engine: StoppableEngine,
) -> SweepPlan:
    asked = [entry for entry in entries if entry.is_in(config)]
    left = [refresh(entry, sweep_dir, config) for entry in asked]
    pace = _measured_pace(entries, sweep_dir)
    if pace.epoch is None and any("train" in stages for _, stages in left):
        pace = _timed_pace(order, engine)
    runs = tuple(_plan_run(entry, stages, config, pace) for entry, stages in left)
    needed = dict.fromkeys(name for run in runs for name in run.stages if name != "train")
    times = [run.seconds for run in runs if run.seconds is not None]
    return SweepPlan(
        runs=runs,
        workers=engine.capacity,
        seconds=_span(times, engine.capacity) if len(times) == len(runs) else None,
        epoch_seconds=pace.epoch,
        source=pace.source,
        unknown=tuple(stage for stage in needed if stage not in pace.stages),
    )


def _plan_run(entry: Entry, stages: Sequence[str], config: SweepConfig, pace: _Pace) -> PlannedRun:
    done = entry.history[-1].epoch if entry.history else 0
    epochs = config.train.train.epochs - done if "train" in stages else 0
    later = sum(pace.stages.get(stage, 0.0) for stage in stages if stage != "train")
    unknown = epochs > 0 and pace.epoch is None
    seconds = epochs * (pace.epoch or 0.0) + later
    # Rounded up to a tenth: work that is left takes some time.
    rounded = None if unknown else math.ceil(10.0 * round(seconds, 3)) / 10.0
    return PlannedRun(entry.run_dir, tuple(stages), epochs, rounded)


def _measured_pace(entries: Sequence[Entry], sweep_dir: Path) -> _Pace:
    """The median times of epochs and stages, of the runs that have done something."""
    epochs = [record.seconds for entry in entries for record in entry.history]
    stages = {}
    for name in STAGES:
        times = [entry.seconds.get(name, 0.0) for entry in _read_entries(sweep_dir)]
        if any(times):
            stages[name] = statistics.median(time for time in times if time)
    epoch = round(statistics.median(epochs), 3) if epochs else None
    return _Pace(epoch, stages, f"the median of the {len(epochs)} epochs of this sweep")


def _read_entries(sweep_dir: Path) -> tuple[Entry, ...]:
    """The entries as sweep.json has them, with the times of what would be done again."""
    try:
        return read_summary(sweep_dir).runs
    except (OSError, DamagedSummaryError):
        return ()


def _timed_pace(order: Order, engine: StoppableEngine) -> _Pace:
    """Times steps in a task of the engine."""
    timed = None
    engine.start(Task("timing", f"{__name__}:{time_steps.__name__}", order.to_json()))
    while len(engine):
        event = read_event(engine.next_event())
        match event:
            case Timed():
                timed = event
            case Failed(error):
                raise SMVIError(f"no step can be timed: {error}")
    if timed is None:
        raise SMVIError("no step can be timed: the process was killed")
    words = f"{timed.steps} steps that were timed now on {timed.hostname}, without tests and logs"
    return _Pace(timed.epoch_seconds, {}, words)


def _span(times: Sequence[float], workers: int) -> float:
    """How long workers take that each take the next run when they are free."""
    ends = [0.0] * workers
    for seconds in times:
        heapq.heapreplace(ends, ends[0] + seconds)
    return round(max(ends), 1)


class _EnoughError(Exception):
    """Enough steps were timed."""


class _Timer:
    """A `tfp_smvi.training.reporter.TrainingReporter` that times steps, and then ends the training.

    The first call compiles, and is left out.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._first: tuple[float, int] | None = None

    def begin(self, num_epochs: int, step: int, steps_per_epoch: int) -> None:
        self._steps_per_epoch = steps_per_epoch

    def progress(self, progress: "TrainingProgress") -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now, progress.step
        elif now - self._first[0] >= TIMING_SECONDS:
            steps = progress.step - self._first[1]
            seconds = (now - self._first[0]) / steps * self._steps_per_epoch
            self.report(seconds, steps)
            raise _EnoughError

    def report(self, epoch_seconds: float, steps: int) -> None:
        """Emits what was found."""
        emit(self._context, Timed(round(epoch_seconds, 3), steps, socket.gethostname()))

    def epoch(self, record: object) -> None:
        """Does nothing, like the other methods."""

    note = warn = epoch


def time_steps(context: Context, **arguments: object) -> None:
    """The task that times steps of an order, which is given as its JSON object."""
    from tfp_smvi.core.runtime import set_threads
    from tfp_smvi.core.startup import quiet_tensorflow
    from tfp_smvi.data import load_dataset
    from tfp_smvi.training.loop import fit

    order = Order.from_json(arguments)
    quiet_tensorflow()
    set_threads(order.threads)
    data_dir = Path(order.data_dir) if order.data_dir is not None else None
    dataset = load_dataset(order.train.data, data_dir)
    timer = _Timer(context)
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.suppress(_EnoughError),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        history = fit(order.train, dataset, Path(folder) / "run", reporter=timer).history
        # A training shorter than the timing. The first epoch compiles.
        times = [record.seconds for record in history[1:] or history]
        timer.report(statistics.median(times), history[-1].step)
