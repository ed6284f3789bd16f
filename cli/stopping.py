"""Ending a command at the signals that ask for it."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from tfp_smvi.core.signals import handle_stop_signals

from .terminal import leave_closed_terminal

__all__ = ["Stopped", "raise_stopped", "stop_at_once"]


class Stopped(BaseException):
    """A signal came while the library does not handle it, such as while TensorFlow loads."""

    def __init__(self, signum: int) -> None:
        """Stores the signal's number."""
        super().__init__(signum)
        self.signum = signum


def raise_stopped(signum: int) -> NoReturn:
    """Raises Stopped; it is a handler for signals."""
    raise Stopped(signum)


@contextlib.contextmanager
def stop_at_once(report: Callable[[], None]) -> Iterator[None]:
    """Ends the process at SIGINT, SIGTERM and SIGHUP, during work that is saved piece by piece.

    Args:
        report: prints what the user should know, before the end.
    """
    with handle_stop_signals(raise_stopped):
        try:
            yield
        except Stopped as stopped:
            leave_closed_terminal()
            report()
            sys.stdout.flush()
            # Do not wait for TensorFlow's threads, which are at work.
            os._exit(128 + stopped.signum)
