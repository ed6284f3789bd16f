"""What a sweep orders from the task of a run, and what that task reports."""

import os
from dataclasses import dataclass
from pathlib import Path

from tfp_smvi.config import ClassifyConfig, EvaluateConfig, RunConfig, SweepConfig
from tfp_smvi.core.records import Record
from tfp_smvi.engines.base import Context, Event, StoppableEngine, require_jobs

__all__ = [
    "Exited",
    "Failed",
    "Loaded",
    "Noted",
    "Order",
    "Progress",
    "Refused",
    "Signalled",
    "StageBegun",
    "StageEnded",
    "SweepEvent",
    "Timed",
    "Warned",
    "emit",
    "read_event",
    "shared_order",
]


@dataclass(frozen=True)
class Order(Record):
    """What to do with one run.

    Attributes:
        run_dir: the run directory.
        stages: the stages to do, in their order.
        train: the configuration of the run.
        evaluate: how it is evaluated.
        classify: how it is classified; None for no classification.
        classify_epochs: the epochs to classify; None for the last.
        data_dir: the folder of prepared data sets; None for the default.
        threads: CPU threads; None for one per core.
        checkpoint_minutes: as for `fit`.
        keep_every: as for `fit`.
    """

    run_dir: str
    stages: tuple[str, ...]
    train: RunConfig
    evaluate: EvaluateConfig
    classify: ClassifyConfig | None
    classify_epochs: tuple[int | None, ...]
    data_dir: str | None
    threads: int | None
    checkpoint_minutes: float
    keep_every: int | None


@dataclass(frozen=True)
class StageBegun(Record):
    """A stage begins."""

    stage: str


@dataclass(frozen=True)
class Progress(Record):
    """A fraction of the stage is done, from 0 to 1; the text is such as "epoch 3/10"."""

    fraction: float
    text: str


@dataclass(frozen=True)
class Warned(Record):
    """Something needs the user's attention."""

    message: str


@dataclass(frozen=True)
class Noted(Record):
    """Something worth a line, which all runs of the sweep report."""

    message: str


@dataclass(frozen=True)
class StageEnded(Record):
    """The results of the stage are on disk."""


@dataclass(frozen=True)
class Failed(Record):
    """No stage follows."""

    error: str


@dataclass(frozen=True)
class Refused(Record):
    """The data do not allow a setting, or do not exist; the text names settings in braces."""

    text: str
    field: str | None
    not_found: bool


@dataclass(frozen=True)
class Loaded(Record):
    """The data are loaded, and allow the settings."""

    fingerprint: str


@dataclass(frozen=True)
class Timed(Record):
    """Steps of a training were timed on a host."""

    epoch_seconds: float
    steps: int
    hostname: str


@dataclass(frozen=True)
class Exited(Record):
    """The task has ended; the code is negative if a signal ended its process."""

    code: int


@dataclass(frozen=True)
class Signalled(Record):
    """A signal came to the process of the sweep."""

    number: int


SweepEvent = (
    StageBegun
    | Progress
    | Warned
    | Noted
    | StageEnded
    | Failed
    | Refused
    | Loaded
    | Timed
    | Exited
    | Signalled
)

_KINDS: dict[str, type[SweepEvent]] = {
    "begin": StageBegun,
    "progress": Progress,
    "warn": Warned,
    "note": Noted,
    "end": StageEnded,
    "failed": Failed,
    "refused": Refused,
    "loaded": Loaded,
    "timed": Timed,
    "exit": Exited,
    "signal": Signalled,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def emit(context: Context, event: SweepEvent) -> None:
    """Reports an event from the task of a run."""
    context.emit(_NAMES[type(event)], **event.to_json())


def read_event(event: Event) -> SweepEvent:
    """Returns the event of an engine as one of a sweep."""
    return _KINDS[event.kind].from_json(event.values)


def shared_order(
    sweep_dir: Path,
    config: SweepConfig,
    jobs: int,
    threads: int | None,
    engine: StoppableEngine | None,
    data_dir: Path | None,
    checkpoint_minutes: float = 10.0,
) -> Order:
    """Makes the order of no stage that holds what all runs share; arguments are those of `sweep`.

    Raises:
        SMVIError: jobs is less than 1.
    """
    require_jobs(jobs)
    if engine is None and threads is None and jobs > 1:
        threads = max(1, _num_cores() // jobs)
    return Order(
        run_dir=str(sweep_dir.absolute()),
        stages=(),
        train=config.run(config.levels[0], config.seeds[0]),
        evaluate=config.evaluate,
        classify=config.classify,
        classify_epochs=(),
        data_dir=str(data_dir.absolute()) if data_dir is not None else None,
        threads=threads,
        checkpoint_minutes=checkpoint_minutes,
        keep_every=config.classify_every,
    )


def _num_cores() -> int:
    """The cores that this process may use, if the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
