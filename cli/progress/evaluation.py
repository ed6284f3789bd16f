"""The progress of an evaluation or a classification, on stderr: a bar, or lines in a pipe."""

from rich.console import Console
from rich.progress import TextColumn

from .base import WorkReporter, stderr_console

__all__ = ["BlockReporter", "make_block_reporter"]


def make_block_reporter(doing: str = "evaluating") -> "BlockReporter":
    """Makes the reporter for this process's stderr, with the word for what is done."""
    return BlockReporter(stderr_console(), doing)


class BlockReporter(WorkReporter):
    """A `tfp_smvi.core.reporters.EvaluationReporter`: shows the progress through blocks."""

    def __init__(self, console: Console, doing: str) -> None:
        """Shows it on a console, with the word for what is done."""
        super().__init__(
            console,
            doing,
            TextColumn("{task.percentage:3.0f} %"),
            # A block may take minutes: the estimate looks at all of them.
            speed_estimate_period=1e9,
        )

    def begin(self, num_units: int, cost: float, cost_done: float) -> None:
        """Shows the share of the work that is done already."""
        self._begin(cost, cost_done)
        for task in self._bar.task_ids:  # of the part before
            self._bar.remove_task(task)
        if cost_done:
            self.note(f"{100 * cost_done / cost:.0f} % of the work is done already.")
        self._task = self._bar.add_task("", total=cost)
        self._bar.update(self._task, completed=cost_done)

    def advance(self, cost: float) -> None:
        """Moves the bar, or prints a line if the last one was printed long ago."""
        self._done += cost
        self._bar.update(self._task, completed=self._done)
        if self._line_is_due():
            left = round((self._total - self._done) / self._speed())
            self.note(
                f"{100 * self._done / self._total:.0f} %, about {left // 60}:{left % 60:02d} left"
            )
