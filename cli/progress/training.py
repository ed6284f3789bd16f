"""What a user sees of a training: a bar on a terminal, and a line per epoch; on stderr."""

import math

from rich.console import Console
from rich.progress import MofNCompleteColumn

from tfp_smvi.config import DivergenceName
from tfp_smvi.core.quantities import OF_DIVERGENCE
from tfp_smvi.runs.constraints import format_constraint
from tfp_smvi.runs.records import EpochRecord, Metrics
from tfp_smvi.training.reporter import TrainingProgress

from ..options import option_name
from .base import BarReporter, stderr_console

__all__ = ["TrainingReporter", "make_reporter", "make_silent_reporter"]


def make_reporter(divergence: DivergenceName = "fisher") -> "TrainingReporter":
    """Makes the reporter for this process's stderr, of a training with a divergence."""
    return TrainingReporter(stderr_console(), divergence)


def make_silent_reporter() -> "TrainingReporter":
    """Makes the reporter of a process that shares the training of another one, which reports."""
    return TrainingReporter(Console(stderr=True, quiet=True))


class TrainingReporter(BarReporter):
    """A `tfp_smvi.training.reporter.TrainingReporter`: a bar, and a line per epoch elsewhere."""

    def __init__(self, console: Console, divergence: DivergenceName = "fisher") -> None:
        """Shows the progress on a console."""
        super().__init__(console, "training", MofNCompleteColumn())
        self._divergence = OF_DIVERGENCE[divergence].short
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
        details = f"epoch {epoch}/{self._epochs}"
        self._task = self._bar.add_task("", total=total, completed=step, details=details)

    def progress(self, progress: TrainingProgress) -> None:
        """Moves the bar."""
        details = (
            f"epoch {progress.epoch + 1}/{self._epochs}, "
            f"{progress.steps_per_second:.1f} steps/s, lam {progress.lam:.3g}, "
            f"{self._values(progress.metrics)}"
        )
        self._bar.update(self._task, completed=progress.step, details=details)

    def epoch(self, record: EpochRecord) -> None:
        """Prints a line with the epoch's metrics, or some if a terminal is too narrow for it."""
        parts = [
            f"epoch {record.epoch}/{self._epochs}",
            ", ".join([f"lam {record.lam:.3g}", *_constraint(record)]),
            f"train: {self._values(record.train)}",
            f"test: {self._values(record.test)}",
            f"{record.seconds:.1f} s",
        ]
        line = "  ".join(parts)
        if self._console.is_terminal and len(line) > self._console.width:
            first, lam, *metrics, seconds = parts
            line = "\n  ".join([f"{first}  {lam}  {seconds}", *metrics])
        self.note(line)

    def _values(self, metrics: Metrics) -> str:
        """Such as "ELBO -119.38, D_SM 18.02, objective -128.39"."""
        labelled = (
            ("ELBO", metrics.elbo),
            (self._divergence, metrics.divergence),
            ("objective", metrics.objective),
        )
        return ", ".join(f"{name} {value:.2f}" for name, value in labelled if not math.isnan(value))


def _constraint(record: EpochRecord) -> list[str]:
    """Such as "gap 1.04 of 1", if lam follows it."""
    return [format_constraint(record.constraint)] if record.constraint else []
