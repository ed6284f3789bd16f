"""Output to a terminal, which may be narrow, or close while a command works.

If it closes, the work ends by its signal alone.
"""

import contextlib
import errno
import os
import sys
import textwrap
from shutil import get_terminal_size
from typing import Any, TextIO, cast

import click

__all__ = ["Stderr", "at_words", "echo", "leave_closed_terminal"]


def at_words(text: str, width: int) -> str:
    """Breaks lines at words; a word that is longer than a line, such as a path, stays whole."""
    return "\n".join(
        textwrap.fill(
            line,
            max(width, 1),
            replace_whitespace=False,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in text.split("\n")
    )


def echo(text: str, *, err: bool = False) -> None:
    """Prints a line as click does, broken at words on a terminal."""
    stream = sys.stderr if err else sys.stdout
    if stream is not None and stream.isatty():
        text = at_words(text, get_terminal_size().columns)
    click.echo(text, err=err)


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
