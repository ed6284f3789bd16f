"""Ending a command at SIGINT and SIGTERM."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from tfp_smvi.core.signals import handle_stop_signals

__all__ = ["Stopped", "raise_stopped", "stop_at_once"]


class Stopped(BaseException):
    """A signal came where the library does not mind it, such as while TensorFlow loads."""

    def __init__(self, signum: int) -> None:
        """Stores the signal's number."""
        super().__init__(signum)
        self.signum = signum


def raise_stopped(signum: int) -> NoReturn:
    """Raises Stopped: a handler for signals."""
    raise Stopped(signum)


@contextlib.contextmanager
def stop_at_once(say_so: Callable[[], None]) -> Iterator[None]:
    """Ends the process at SIGINT and SIGTERM, in the midst of work that is saved piece by piece."""
    with handle_stop_signals(raise_stopped):
        try:
            yield
        except Stopped as stopped:
            say_so()
            sys.stdout.flush()
            # TensorFlow's threads are at work and are not to be waited for.
            os._exit(128 + stopped.signum)
