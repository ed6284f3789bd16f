"""Early stopping: whether a training has ended, from the epochs that it has logged alone.

The decision is a function of the settings and of metrics.jsonl, and so is the same however often a
training was stopped and resumed.
"""

import dataclasses
import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass

from tfp_smvi.config import TrainConfig
from tfp_smvi.core.early_stopping import LARGER_IS_BETTER, StoppingMetric
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.runs.records import EpochRecord
from tfp_smvi.runs.warnings import weight_of

__all__ = ["EarlyStopping", "early_stop", "has_ended"]


@dataclass(frozen=True)
class EarlyStopping:
    """Ends a training when a metric has not improved for some epochs.

    Attributes:
        metric: its name in metrics.jsonl, such as "test.elbo".
        patience: the epochs without an improvement after which the training ends.
        min_delta: what counts as an improvement: more than this.
        first_step: epochs that end before this step do not count.
    """

    metric: StoppingMetric
    patience: int = 10
    min_delta: float = 0.0
    first_step: int = 0

    def __post_init__(self) -> None:
        """Raises SMVIError if the metric is unknown."""
        if self.metric not in typing.get_args(StoppingMetric):
            names = ", ".join(typing.get_args(StoppingMetric))
            raise SMVIError(
                "is not allowed", field="metric", value=self.metric, remedy=f"give one of: {names}"
            )

    def stop(self, history: Sequence[EpochRecord]) -> str | None:
        """Returns one line on why a training ends by the last of its epochs; None if it does not.

        Args:
            history: the epochs, from the first on.
        """
        best, best_epoch, waited = -math.inf, 0, 0
        for record in history:
            if record.step < self.first_step:
                continue
            score = self._score(record)
            if not best_epoch or score > best + self.min_delta:
                best, best_epoch, waited = score, record.epoch, 0
                value = self._value(record)
            else:
                waited += 1
            if waited >= self.patience:
                epochs = f"{self.patience} epoch{'s' * (self.patience != 1)}"
                return (
                    f"Early stopping after epoch {history[-1].epoch}: {self.metric} has not "
                    f"improved on the {value:.6g} of epoch {best_epoch} for {epochs}."
                )
        return None

    def _value(self, record: EpochRecord) -> float:
        value: object = record
        for name in self.metric.split("."):
            value = getattr(value, name, None)
        return math.nan if value is None else float(typing.cast(float, value))

    def _score(self, record: EpochRecord) -> float:
        """The value, turned so that larger is better; -inf for one that was not computed."""
        value, name = self._value(record), self.metric.rpartition(".")[2]
        if math.isnan(value):
            return -math.inf
        value = abs(value) if name == "error" else value
        return value if LARGER_IS_BETTER[name] else -value


def early_stop(train: TrainConfig, history: Sequence[EpochRecord]) -> str | None:
    """Returns one line if early stopping ends a training; None if it goes on or has all epochs.

    Args:
        train: its settings, complete: while lam grows, or does not follow its target yet, no epoch
            counts.
        history: its epochs so far.
    """
    if train.early_stopping is None or (history and history[-1].epoch >= train.epochs):
        return None
    weight = weight_of(dataclasses.replace(train, lam_warmup_steps=train.lam_warmup_steps or 0))
    steps = [record.step for record in history if weight.unfinished(record.step) is None]
    if not steps:
        return None
    rule = EarlyStopping(train.early_stopping, train.patience, train.min_delta, first_step=steps[0])
    return rule.stop(history)


def has_ended(train: TrainConfig, history: Sequence[EpochRecord]) -> bool:
    """Whether a training has had its epochs, or early stopping has ended it."""
    if not history:
        return False
    return history[-1].epoch == train.epochs or early_stop(train, history) is not None
