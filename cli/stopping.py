"""Stopping commands that save their work piece by piece."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

__all__ = ["stop_at_once"]


class _Stopped(BaseException):
    """SIGINT or SIGTERM came."""


@contextlib.contextmanager
def stop_at_once(say_so: Callable[[], None]) -> Iterator[None]:
    """Ends the process at SIGINT and SIGTERM, in the midst of its work."""

    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        raise _Stopped(signum)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except _Stopped as stopped:
        say_so()
        sys.stdout.flush()
        # TensorFlow's threads are at work and are not to be waited for.
        os._exit(128 + stopped.args[0])
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
