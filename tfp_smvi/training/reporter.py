"""What receives the progress of a training."""

from typing import NamedTuple, Protocol

from tfp_smvi.runs.records import EpochRecord, TrainMetrics

__all__ = ["Callback", "TrainingProgress", "TrainingReporter"]


class TrainingProgress(NamedTuple):
    """Where a training is.

    Attributes:
        step: the steps taken.
        epoch: the current epoch, counted from 0.
        steps_per_second: the speed in the current epoch.
        metrics: means over the current epoch so far.
        lam: the weight of the divergence by now.
    """

    step: int
    epoch: int
    steps_per_second: float
    metrics: TrainMetrics
    lam: float


class TrainingReporter(Protocol):
    """Receives the progress of a training."""

    def begin(self, num_epochs: int, step: int, steps_per_epoch: int) -> None:
        """The training starts or continues, after `step` steps."""

    def progress(self, progress: TrainingProgress) -> None:
        """Some steps are done."""

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done, logged and saved."""

    def note(self, message: str) -> None:
        """Something worth a line."""

    def warn(self, message: str) -> None:
        """Something needs the user's attention; settings in it are named in braces."""


class Callback:
    """A `TrainingReporter` that does nothing: override what you need.

    An exception that a method raises ends the training and leaves `fit` as it is. The state is
    saved before: the same call of `fit` continues after the last step.
    """

    def begin(self, num_epochs: int, step: int, steps_per_epoch: int) -> None:
        """The training starts or continues, after `step` steps."""

    def progress(self, progress: TrainingProgress) -> None:
        """Some steps are done: about twice a second."""

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done, logged and saved."""

    def note(self, message: str) -> None:
        """Something worth a line."""

    def warn(self, message: str) -> None:
        """Something needs the user's attention; settings in it are named in braces.

        If no callback overrides this, such lines are Python warnings, as without callbacks.
        """
