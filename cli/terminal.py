"""Output to a terminal that may close while a command works: the work ends by its signal alone."""

import contextlib
import errno
import os
import sys
from typing import Any, TextIO, cast

__all__ = ["Stderr", "leave_closed_terminal"]


class Stderr:
    """The standard error of this process, as a file that does not fail when its terminal closes.

    Lines are lost then. Without it, a bar that cannot be drawn would end a training before SIGHUP,
    which comes a moment later, lets it save.
    """

    def __init__(self) -> None:
        """Takes what is stderr now; a bar puts a file of its own in its place."""
        self._stream = sys.stderr

    def write(self, text: str) -> int:
        """Writes a text."""
        try:
            return self._stream.write(text)
        except OSError:
            if not _lead_nowhere(self._stream):
                raise
            return len(text)

    def flush(self) -> None:
        """Writes what is buffered."""
        try:
            self._stream.flush()
        except OSError:
            if not _lead_nowhere(self._stream):
                raise

    def __getattr__(self, name: str) -> Any:
        """The other attributes are those of stderr."""
        return getattr(self._stream, name)


def leave_closed_terminal() -> None:
    """Leads stdout and stderr nowhere if they go to a terminal that has closed."""
    for stream in (sys.__stdout__, sys.__stderr__):
        _lead_nowhere(stream)


def _lead_nowhere(stream: TextIO | None) -> bool:
    """Leads a stream nowhere if it goes to a terminal that has closed; returns whether it does."""
    # A stream may be closed, or be none of the system's, as in tests.
    with contextlib.suppress(AttributeError, ValueError):
        try:
            os.write(cast(TextIO, stream).fileno(), b"")
        except OSError as error:
            if error.errno == errno.EIO:
                with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
                    os.dup2(nowhere.fileno(), cast(TextIO, stream).fileno())
                return True
    return False
