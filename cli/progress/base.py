"""What the reporters of all commands share: a bar on a terminal, and single lines; on stderr."""

import contextlib
import time
from collections.abc import Iterator
from typing import IO, Any, Self, cast

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from tfp_smvi.core.errors import name_fields
from tfp_smvi.core.text import printable

from ..options import option_name
from ..terminal import Stderr, at_words

__all__ = ["BarReporter", "WorkReporter", "print_note", "stderr_console"]

# The time between two lines about the progress of work if stderr is no terminal.
SECONDS_PER_LINE = 10.0


def stderr_console() -> Console:
    """Makes the console of this process's stderr."""
    return Console(file=cast(IO[str], Stderr()), highlight=False, soft_wrap=True)


def print_note(console: Console, message: str) -> None:
    """Prints one line, which is broken at words on a terminal."""
    if console.is_terminal:
        message = at_words(message, console.width)
    console.print(message, markup=False)


class _Bar(Progress):
    """A bar with its amount and the time left on one line, at any width; details are below it."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yields the line of each task and, if it has "details", these, wrapped at words."""
        for task in self.tasks:
            yield self.make_tasks_table([task])
            if details := task.fields.get("details"):
                # Stated, because a console with soft wrap would cut the text off.
                yield Text(details, overflow="fold", no_wrap=False)


class BarReporter:
    """A bar on a terminal, and single lines.

    Args:
        console: where to show it.
        doing: the word for what is done, before the bar.
        amount: the column between the bar and the time that is left.
        options: of rich's `Progress`.
    """

    def __init__(
        self, console: Console, doing: str, amount: ProgressColumn, **options: Any
    ) -> None:
        """Makes the bar."""
        self._console = console
        self._bar = _Bar(
            TextColumn(doing),
            # It has what the others leave: their columns are never cut off for it.
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            amount,
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            expand=True,
            transient=True,
            disable=not console.is_terminal,
            refresh_per_second=2,
            **options,
        )

    def __enter__(self) -> Self:
        """Shows the bar."""
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Removes the bar."""
        self._bar.stop()

    def stop(self, message: str) -> None:
        """Leaves the terminal as it was, and prints one line, before the process ends."""
        self._bar.stop()
        self._console.show_cursor(True)
        self.note(message)

    @contextlib.contextmanager
    def starting(self, message: str) -> Iterator[None]:
        """Shows a message on a terminal while something slow starts."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(message):
            yield

    @contextlib.contextmanager
    def loading_tensorflow(self, threads: int | None = None) -> Iterator[None]:
        """Shows that TensorFlow loads, quietly, while the block imports what needs it.

        Args:
            threads: the CPU threads of TensorFlow; None for one per core.
        """
        from tfp_smvi.core.runtime import set_threads
        from tfp_smvi.core.startup import quiet_tensorflow, uncollected

        with self.starting("Loading TensorFlow"), uncollected():
            quiet_tensorflow()
            set_threads(threads)
            yield

    def note(self, message: str) -> None:
        """Prints one line."""
        print_note(self._console, printable(message))

    def warn(self, message: str) -> None:
        """Prints one line that needs attention; settings in braces are shown as options."""
        self.note(f"Warning: {name_fields(message, option_name)}")


class WorkReporter(BarReporter):
    """A reporter of work whose amount is known: a bar on a terminal, else a line now and then."""

    def _begin(self, total: float, done: float) -> None:
        """Starts the clock; part of the total is done already."""
        self._total, self._done, self._done_before = total, done, done
        self._began = time.monotonic()
        self._next_line = self._began + SECONDS_PER_LINE

    def _speed(self) -> float:
        """The work done per second, since it began."""
        return (self._done - self._done_before) / (time.monotonic() - self._began)

    def _line_is_due(self) -> bool:
        """Whether to print a line now: there is no terminal, and the last line is old enough."""
        now = time.monotonic()
        if self._console.is_terminal or now < self._next_line:
            return False
        self._next_line = now + SECONDS_PER_LINE
        return True
