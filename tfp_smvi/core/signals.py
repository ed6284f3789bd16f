"""The signals that ask a process to stop, and whether one still runs."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

__all__ = ["STOP_SIGNALS", "handle_stop_signals", "is_running"]

# An interrupt from the keyboard, a request to end, and the end of the terminal or the connection.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def handle_stop_signals(handler: Callable[[int], object], *, once: bool = False) -> Iterator[None]:
    """Calls a handler at SIGINT, SIGTERM and SIGHUP, and restores the old handlers at the end.

    A signal that is ignored stays ignored: a shell ignores SIGINT for what it starts with `&`, and
    `nohup` ignores SIGHUP. Within the block a second SIGHUP does nothing: when a terminal closes,
    the shell and the system may both send one, and nobody asks for more haste by it. In another
    thread than the main one, where no handlers can be set, the signals act as before.

    Args:
        handler: is called with the signal's number, at any moment.
        once: restores the old handlers at the first signal, so that a second one acts as before.
    """
    previous: dict[int, Any] = {}
    hung_up = False

    def restore(*, at_end: bool) -> None:
        for number, old in previous.items():
            if at_end or number != signal.SIGHUP or not hung_up:
                signal.signal(number, old)

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal hung_up
        if number == signal.SIGHUP:
            hung_up = True
            signal.signal(number, signal.SIG_IGN)
        handler(number)
        if once:
            restore(at_end=False)

    try:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    previous[number] = signal.signal(number, handle)
        yield
    finally:
        restore(at_end=True)


def is_running(pid: int) -> bool:
    """Whether a process of this number, of any user, runs on this host."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # that of another user
        return True
    return True
