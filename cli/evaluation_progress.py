"""What a user sees of an evaluation's progress: a bar on a terminal, a line now and then elsewhere; on stderr."""

import contextlib
import time
from collections.abc import Iterator
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["BlockReporter", "make_block_reporter"]

# Between two lines where stderr is no terminal.
SECONDS_PER_LINE = 10.0


def make_block_reporter() -> "BlockReporter":
    """Makes the reporter for this process's stderr."""
    return BlockReporter(Console(stderr=True, highlight=False, soft_wrap=True))


class BlockReporter:
    """Shows the progress through blocks of examples; a `tfp_smvi.evaluation_session.EvaluationReporter`."""

    def __init__(self, console: Console) -> None:
        """Shows it on a console."""
        self._console = console
        self._bar = Progress(
            TextColumn("evaluating"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:3.0f} %  ETA"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            refresh_per_second=2,
            # A block may take minutes: the estimate looks at all of them.
            speed_estimate_period=1e9,
        )
        self._cost = self._done = 0.0

    def __enter__(self) -> Self:
        """Shows the bar."""
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Removes the bar."""
        self._bar.stop()

    @contextlib.contextmanager
    def starting(self, message: str) -> Iterator[None]:
        """Shows a message on a terminal while something slow begins."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(message):
            yield

    def stop(self, message: str) -> None:
        """Leaves the terminal as it was, with one line, before the process ends."""
        self._bar.stop()
        self._console.show_cursor(True)
        self.note(message)

    def note(self, message: str) -> None:
        """Prints one line."""
        self._console.print(message, markup=False)

    def warn(self, message: str) -> None:
        """Prints one line that needs attention."""
        self.note(f"Warning: {message}")

    def begin(self, num_units: int, cost: float, cost_done: float) -> None:
        """Says what there is to do, and what is done already."""
        self._cost, self._done = cost, cost_done
        self._done_before, self._began = cost_done, time.monotonic()
        self._next_line = self._began + SECONDS_PER_LINE
        if cost_done:
            self.note(f"{100 * cost_done / cost:.0f} % of the work is done already.")
        self._task = self._bar.add_task("evaluate", total=cost)
        self._bar.update(self._task, completed=cost_done)

    def advance(self, cost: float) -> None:
        """Moves the bar, or prints a line if the last one is some time ago."""
        self._done += cost
        self._bar.update(self._task, completed=self._done)
        now = time.monotonic()
        if not self._console.is_terminal and now >= self._next_line:
            self._next_line = now + SECONDS_PER_LINE
            rate = (self._done - self._done_before) / (now - self._began)
            left = round((self._cost - self._done) / rate)
            self.note(f"{100 * self._done / self._cost:.0f} %, about {left // 60}:{left % 60:02d} left")
