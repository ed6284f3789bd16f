"""An engine for tests: another one than this process to its callers, and as cheap."""

from pathlib import Path

from tfp_smvi.engines.base import Event, Task
from tfp_smvi.engines.local import ThisProcess

__all__ = ["OtherEngine"]


class OtherEngine:
    """Runs tasks one after the other and keeps their names; it is killed after some of them.

    Args:
        killed_after: the number of tasks whose end comes just before a KeyboardInterrupt.
    """

    def __init__(self, killed_after: int | None = None) -> None:
        self.tasks: list[Task] = []
        self._engine, self._left = ThisProcess(), killed_after

    def __len__(self) -> int:
        return len(self._engine)

    @property
    def full(self) -> bool:
        return self._engine.full

    def require(self, folder: Path) -> None:
        self._engine.require(folder)

    def start(self, task: Task) -> None:
        self.tasks.append(task)
        self._engine.start(task)

    def next_event(self) -> Event:
        event = self._engine.next_event()
        if event.kind == "exit" and self._left is not None:
            self._left -= 1
            if self._left == 0:
                raise KeyboardInterrupt
        return event
