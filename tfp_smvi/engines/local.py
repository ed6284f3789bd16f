"""The engine that runs tasks in this process, one after the other."""

import contextlib
import threading
from collections import deque
from concurrent.futures import Future
from pathlib import Path

from tfp_smvi.engines.base import Event, Task

__all__ = ["ThisProcess"]


class ThisProcess:
    """Runs one task at a time in this process; an error of a task is raised by `next_event`."""

    def __init__(self) -> None:
        """Starts nothing."""
        self._tasks: deque[Task] = deque()
        self._events: deque[Event] = deque()

    def __len__(self) -> int:
        """The number of tasks whose exit was not returned yet."""
        return len(self._tasks)

    @property
    def full(self) -> bool:
        """Whether a task is waiting or at work."""
        return bool(self._tasks)

    def require(self, folder: Path) -> None:
        """Does nothing: a task meets what this process would."""

    def start(self, task: Task) -> None:
        """Lets `next_event` run a task."""
        self._tasks.append(task)

    def next_event(self) -> Event:
        """Runs the oldest task to its end, and then returns its events one by one."""
        task = self._tasks[0]
        if not self._events:
            _call_in_thread(task, _LocalContext(task.name, self._events))
            self._events.append(Event(task.name, "exit", {"code": 0}))
        event = self._events.popleft()
        if event.kind == "exit":
            self._tasks.popleft()
        return event


class _LocalContext:
    """A `tfp_smvi.engines.base.Context` that keeps events for the engine."""

    def __init__(self, task: str, events: deque[Event]) -> None:
        self._task, self._events = task, events

    def emit(self, kind: str, **values: object) -> None:
        self._events.append(Event(self._task, kind, values))

    def handling_signals(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def _call_in_thread(task: Task, context: _LocalContext) -> None:
    """Runs a task in another thread, so that a signal is answered now and not at its end."""
    outcome: Future[None] = Future()

    def work() -> None:
        try:
            task.run(context)
            outcome.set_result(None)
        except BaseException as error:  # it is raised in the thread that waits
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    outcome.result()
