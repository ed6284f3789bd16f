"""The progress of an extraction of features."""

from rich.console import Console
from rich.progress import MofNCompleteColumn

from .base import WorkReporter

__all__ = ["FeaturesProgress"]


class FeaturesProgress(WorkReporter):
    """A reporter of `extract_features` that shows the number of finished examples and the speed."""

    def __init__(self, console: Console) -> None:
        """Shows it on a console."""
        super().__init__(console, "features", MofNCompleteColumn())

    def begin(self, num_images: int, num_done: int) -> None:
        """Shows the bar, and reports what was done before."""
        self._begin(num_images, num_done)
        if num_done:
            self.note(f"Going on after {num_done} of {num_images} examples.")
        self._task = self._bar.add_task("", total=num_images, completed=num_done, details="")

    def advance(self, num_images: int) -> None:
        """Moves the bar, or prints a line if the last one is old enough."""
        self._done += num_images
        rate = f"{self._speed():.0f} examples/s"
        self._bar.update(self._task, completed=self._done, details=rate)
        if self._line_is_due():
            self.note(f"{self._done} of {self._total} examples, {rate}")
