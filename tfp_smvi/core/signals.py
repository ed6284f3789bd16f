"""The signals that ask a process to stop."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

__all__ = ["handle_stop_signals"]


@contextlib.contextmanager
def handle_stop_signals(handler: Callable[[int], object], *, once: bool = False) -> Iterator[None]:
    """Has SIGINT and SIGTERM call a handler, and puts the old handlers back at the end.

    In another thread than the main one, where no handlers can be set, the signals act as they did.

    Args:
        handler: is called with the signal's number, in the midst of anything.
        once: puts the old handlers back at the first signal, so that a second one acts as it did.
    """
    previous: dict[int, Any] = {}

    def restore() -> None:
        for number, old in previous.items():
            signal.signal(number, old)

    def handle(number: int, frame: FrameType | None) -> None:
        handler(number)
        if once:
            restore()

    try:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                previous[number] = signal.signal(number, handle)
        yield
    finally:
        restore()
