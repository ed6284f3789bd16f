"""A bar that shows a training, in a notebook or a terminal."""

from tqdm.auto import tqdm

from tfp_smvi.core.errors import name_fields
from tfp_smvi.runs.records import EpochRecord
from tfp_smvi.training.reporter import Callback, TrainingProgress

__all__ = ["ProgressBar"]


class ProgressBar(Callback):
    """Shows the steps, the epoch and the ELBO; the bar stays when the training has ended."""

    def __init__(self) -> None:
        """Shows nothing yet."""
        self._bar: tqdm | None = None
        self._epochs = 0

    def begin(self, num_epochs: int, step: int, steps_per_epoch: int) -> None:
        """Shows the bar."""
        self._epochs = num_epochs
        total = num_epochs * steps_per_epoch
        self._bar = tqdm(total=total, initial=step, unit="step", desc="training")

    def progress(self, progress: TrainingProgress) -> None:
        """Moves it."""
        self._show(progress.step, progress.epoch + 1, f"ELBO {progress.metrics.elbo:.2f}")

    def epoch(self, record: EpochRecord) -> None:
        """Shows the test ELBO."""
        self._show(record.step, record.epoch, f"test ELBO {record.test.elbo:.2f}")

    def note(self, message: str) -> None:
        """Prints a line above the bar."""
        tqdm.write(message)

    def warn(self, message: str) -> None:
        """Prints it as a warning."""
        self.note(f"Warning: {name_fields(message)}")

    def end(self) -> None:
        """Completes it where the training has ended: early stopping leaves epochs.

        A notebook marks a bar that is closed before its end as an error.
        """
        if self._bar is None:
            return
        self._bar.total = self._bar.n
        if hasattr(self._bar, "container"):  # of a notebook: text, bar, text
            self._bar.container.children[1].max = self._bar.n

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.close()

    def _show(self, step: int, epoch: int, text: str) -> None:
        if self._bar is None:
            return
        self._bar.set_postfix_str(f"epoch {epoch}/{self._epochs}, {text}", refresh=False)
        self._bar.update(step - self._bar.n)
