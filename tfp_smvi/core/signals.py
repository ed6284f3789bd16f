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
    """Calls a handler at SIGINT and SIGTERM, and restores the old handlers at the end.

    A signal that is ignored stays ignored: a shell ignores SIGINT for what it starts with `&`, so
    that an interrupt of another program does not stop it. In another thread than the main one,
    where no handlers can be set, the signals act as before.

    Args:
        handler: is called with the signal's number, at any moment.
        once: restores the old handlers at the first signal, so that a second one acts as before.
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
                if signal.getsignal(number) is not signal.SIG_IGN:
                    previous[number] = signal.signal(number, handle)
        yield
    finally:
        restore()
