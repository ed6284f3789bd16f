"""What a user sees of a training: a bar on a terminal, and a line per epoch; on stderr."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from .base import BarReporter, stderr_console

__all__ = ["TrainingReporter", "make_reporter"]


def make_reporter() -> "TrainingReporter":
    """Makes the reporter for this process's stderr."""
    return TrainingReporter(stderr_console())


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
