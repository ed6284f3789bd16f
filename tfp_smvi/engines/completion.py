"""Runs tasks that must all succeed: the first failure is an error."""

from collections.abc import Callable, Iterable
from typing import Protocol

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.engines.base import Engine, Event, Task, run_all
from tfp_smvi.engines.processes import describe_exit

__all__ = ["Messages", "complete_all"]


class Messages(Protocol):
    """Receives lines for the user."""

    def note(self, message: str) -> None:
        """Something that may interest."""

    def warn(self, message: str) -> None:
        """Something went wrong without stopping the work."""


def complete_all(
    engine: Engine,
    tasks: Iterable[Task],
    handle: Callable[[Event], None],
    *,
    messages: Messages,
) -> None:
    """Runs tasks until all have ended well.

    Args:
        engine: the engine.
        tasks: the tasks; each is taken when there is room for it.
        handle: is called with each event but messages and those of a failure.
        messages: receives the notes and the warnings.

    Raises:
        SMVIError: a task failed; others may still run, and whoever made the engine ends them.
    """

    def check(event: Event) -> None:
        if event.kind in ("warn", "note"):
            report = messages.warn if event.kind == "warn" else messages.note
            report(f"{event.task}: {event.values['message']}".removeprefix(": "))
            return
        if event.kind == "failed":
            raise SMVIError(str(event.values["error"]))
        if event.kind == "exit" and (code := event.values["code"]):
            raise SMVIError(f"{event.task}: {describe_exit(code, 'its log')}")
        handle(event)

    run_all(engine, tasks, check)
