"""What a user sees of long work: a bar on a terminal, lines elsewhere; all of it on stderr."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

__all__ = ["TrainingReporter", "WorkReporter", "make_reporter"]

# Between two lines on the progress of work where stderr is no terminal.
SECONDS_PER_LINE = 10.0


def make_reporter() -> "TrainingReporter":
    """Makes the reporter for this process's stderr."""
    return TrainingReporter(Console(stderr=True, highlight=False, soft_wrap=True))


class BarReporter:
    """A bar on a terminal, and single lines: what the reporters of all commands share."""

    def __init__(self, console: Console, *columns: ProgressColumn, **options: Any) -> None:
        """Makes the bar of some columns; options are rich's."""
        self._console = console
        self._bar = Progress(
            *columns,
            console=console,
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
        """Leaves the terminal as it was, with one line, before the process ends."""
        self._bar.stop()
        self._console.show_cursor(True)
        self.note(message)

    @contextlib.contextmanager
    def starting(self, message: str) -> Iterator[None]:
        """Shows a message on a terminal while something slow begins."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(message):
            yield

    @contextlib.contextmanager
    def loading_tensorflow(self, threads: int | None = None) -> Iterator[None]:
        """Shows that TensorFlow is loaded by what is imported meanwhile; it is quiet and has so many threads."""
        with self.starting("Loading TensorFlow"):
            from tfp_smvi.core.runtime import quiet_tensorflow, set_threads

            quiet_tensorflow()
            set_threads(threads)
            yield

    def note(self, message: str) -> None:
        """Prints one line."""
        self._console.print(message, markup=False)

    def warn(self, message: str) -> None:
        """Prints one line that needs attention."""
        self.note(f"Warning: {message}")


class WorkReporter(BarReporter):
    """A bar on a terminal and a line now and then elsewhere, of work whose amount is known."""

    def _begin(self, total: float, done: float) -> None:
        """Begins to measure; so much of the total is done already."""
        self._total, self._done, self._done_before = total, done, done
        self._began = time.monotonic()
        self._next_line = self._began + SECONDS_PER_LINE

    def _speed(self) -> float:
        """The work done per second, since it began."""
        return (self._done - self._done_before) / (time.monotonic() - self._began)

    def _line_is_due(self) -> bool:
        """Whether to print a line now: there is no terminal, and the last line is some time ago."""
        now = time.monotonic()
        if self._console.is_terminal or now < self._next_line:
            return False
        self._next_line = now + SECONDS_PER_LINE
        return True


class TrainingReporter(BarReporter):
    """A `tfp_smvi.core.reporters.TrainingReporter`: a bar on a terminal, and a line per epoch elsewhere."""

    def __init__(self, console: Console) -> None:
        """Shows it on a console."""
        super().__init__(
            console,
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
        )
        self._epochs = 0

    def begin(self, num_epochs: int, step: int, steps_per_epoch: int) -> None:
        """Says what is trained, and from where."""
        self._epochs = num_epochs
        total = self._epochs * steps_per_epoch
        if step >= total:
            self.note(
                f"This run has its {self._epochs} epochs already; a larger --epochs goes on with it."
            )
        elif step:
            self.note(f"Going on after step {step} of {total}.")
        epoch = min(step // steps_per_epoch + 1, self._epochs)
        fields: dict[str, Any] = {"epoch": epoch, "epochs": self._epochs, "rate": "", "metrics": ""}
        self._task = self._bar.add_task("train", total=total, completed=step, **fields)

    def progress(self, progress: Any) -> None:
        """Moves the bar."""
        self._bar.update(
            self._task,
            completed=progress.step,
            epoch=progress.epoch + 1,
            rate=f"{progress.steps_per_second:.1f} steps/s",
            metrics=_values(progress.metrics),
        )

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Prints a line with the epoch's metrics."""
        self.note(
            f"epoch {record['epoch']}/{self._epochs}  train: {_values(record['train'])}  "
            f"test: {_values(record['test'])}  {record['seconds']:.1f} s"
        )


def _values(metrics: Mapping[str, float | None]) -> str:
    """Such as "ELBO -119.38, D_SM 18.02, objective -128.39"."""
    labels = {"elbo": "ELBO", "divergence": "D_SM", "objective": "objective"}
    return ", ".join(
        f"{label} {metrics[name]:.2f}"
        for name, label in labels.items()
        if metrics[name] is not None
    )
