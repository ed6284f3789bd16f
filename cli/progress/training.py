"""What a user sees of a training: a bar on a terminal, and a line per epoch; on stderr."""

import math

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from tfp_smvi.runs.records import EpochRecord, Metrics
from tfp_smvi.training.reporter import TrainingProgress

from ..options import option_name
from .base import BarReporter, stderr_console

__all__ = ["TrainingReporter", "make_reporter"]


def make_reporter() -> "TrainingReporter":
    """Makes the reporter for this process's stderr."""
    return TrainingReporter(stderr_console())


class TrainingReporter(BarReporter):
    """A `tfp_smvi.training.reporter.TrainingReporter`: a bar, and a line per epoch elsewhere."""

    def __init__(self, console: Console) -> None:
        """Shows the progress on a console."""
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
        """Prints where the training starts, unless it is new."""
        self._epochs = num_epochs
        total = self._epochs * steps_per_epoch
        if step >= total:
            self.note(
                f"This run already has its {self._epochs} epochs; to train it further, raise "
                f"{option_name('epochs')}."
            )
        elif step:
            self.note(f"Continuing after step {step} of {total}.")
        epoch = min(step // steps_per_epoch + 1, self._epochs)
        self._task = self._bar.add_task(
            "train",
            total=total,
            completed=step,
            epoch=epoch,
            epochs=self._epochs,
            rate="",
            metrics="",
        )

    def progress(self, progress: TrainingProgress) -> None:
        """Moves the bar."""
        self._bar.update(
            self._task,
            completed=progress.step,
            epoch=progress.epoch + 1,
            rate=f"{progress.steps_per_second:.1f} steps/s",
            metrics=_values(progress.metrics),
        )

    def epoch(self, record: EpochRecord) -> None:
        """Prints a line with the epoch's metrics."""
        self.note(
            f"epoch {record.epoch}/{self._epochs}  train: {_values(record.train)}  "
            f"test: {_values(record.test)}  {record.seconds:.1f} s"
        )


def _values(metrics: Metrics) -> str:
    """Such as "ELBO -119.38, D_SM 18.02, objective -128.39"."""
    labelled = (
        ("ELBO", metrics.elbo),
        ("D_SM", metrics.divergence),
        ("objective", metrics.objective),
    )
    return ", ".join(f"{label} {value:.2f}" for label, value in labelled if not math.isnan(value))
