"""Tasks as data, the events of their work, and what an engine is.

A task names an importable function and JSON arguments, so that it can run in this process, in
another one, or on another machine. It leaves its results in files; an engine only runs tasks and
reports what happens to them.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.records import Record

__all__ = ["Context", "Engine", "Event", "StoppableEngine", "Task", "require_jobs", "run_all"]


class Context(Protocol):
    """What a task's function is given of the process that it runs in."""

    def emit(self, kind: str, **values: object) -> None:
        """Reports an event of a kind, with JSON values."""

    def handling_signals(self) -> AbstractContextManager[None]:
        """While the function handles the stop signals itself, and saves at the first one."""


@dataclass(frozen=True)
class Task(Record):
    """A piece of work.

    Attributes:
        name: its name, which no other task of the same engine has.
        function: "package.module:name" of a function(context, **arguments).
        arguments: JSON values.
        log: the file for what the function's libraries print, if it runs in a separate process.
        reusable: whether its process may stay for a task of the same engine that is reusable, too.
    """

    name: str
    function: str
    arguments: Mapping[str, Any]
    log: str | None = None
    reusable: bool = False

    def run(self, context: Context) -> None:
        """Calls the function."""
        module, _, name = self.function.partition(":")
        getattr(importlib.import_module(module), name)(context, **self.arguments)

    @property
    def log_path(self) -> Path | None:
        """The path of the log."""
        return Path(self.log) if self.log is not None else None


class Event(NamedTuple):
    """Something that happened to a task.

    Attributes:
        task: the name of the task; "" for a signal to this process, and for what concerns no task.
        kind: "exit", the last event of a task, with the exit "code"; "failed", with the "error" in
            one line; "warn" or "note", with a "message" of the engine; "signal", with its
            "number"; or what the task's function emits.
        values: JSON values.
    """

    task: str
    kind: str
    values: Mapping[str, Any]


class Engine(Protocol):
    """What runs tasks."""

    def __len__(self) -> int:
        """The number of tasks that were started and whose exit was not returned yet."""

    @property
    def full(self) -> bool:
        """Whether no more tasks should be started now."""

    def require(self, folder: Path) -> None:
        """Makes sure that tasks can use the files of a folder.

        Args:
            folder: the folder, absolute. If it does not exist, the nearest one above it counts.

        Raises:
            SMVIError: they cannot.
        """

    def start(self, task: Task) -> None:
        """Starts a task.

        Raises:
            OSError: it cannot be started.
        """

    def next_event(self) -> Event:
        """Waits for the next event."""


class StoppableEngine(Engine, Protocol):
    """An engine whose tasks run in other processes; they save and end when its context ends."""

    def __enter__(self) -> Self:
        """Returns the engine."""

    def __exit__(self, *exception: object) -> None:
        """Stops the tasks that still run, and waits for them."""

    @property
    def capacity(self) -> int:
        """How many tasks run at once."""

    def put(self, event: Event) -> None:
        """Puts an event into the queue; may be called from a signal handler."""

    def stop(self) -> None:
        """Lets all tasks save and end; their exits are events."""

    def kill(self) -> None:
        """Ends all tasks at once."""


def require_jobs(jobs: int | None) -> None:
    """Raises an SMVIError unless so many tasks can run at once; None is any number."""
    if jobs is not None and jobs < 1:
        remedy = "give a whole number of at least 1"
        raise SMVIError("is not allowed", field="jobs", value=jobs, remedy=remedy)


def run_all(engine: Engine, tasks: Iterable[Task], handle: Callable[[Event], None]) -> None:
    """Runs tasks until all have ended.

    Args:
        engine: the engine.
        tasks: the tasks; each is taken when there is room for it.
        handle: is called with each event.
    """
    waiting = iter(tasks)
    exhausted = False
    while True:
        while not exhausted and not engine.full:
            task = next(waiting, None)
            if task is None:
                exhausted = True
            else:
                engine.start(task)
        if not len(engine):
            return
        handle(engine.next_event())
