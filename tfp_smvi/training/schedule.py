"""When a training saves, reports and stops."""

from contextlib import AbstractContextManager
from typing import NamedTuple

from tfp_smvi.core.signals import handle_stop_signals

__all__ = ["Schedule", "next_call"]

# The duration of one call of the compiled function: short enough to answer a signal, long enough
# to cost nothing.
CALL_SECONDS = 0.5


class Schedule(NamedTuple):
    """The settings of `fit`, and the signals that it has received.

    Attributes:
        signals: the numbers of those received so far; others may follow.
        checkpoint_minutes: the age of a checkpoint after which another one is written.
        keep_every: the checkpoint of every N-th epoch is kept; None for none.
    """

    signals: list[int]
    checkpoint_minutes: float
    keep_every: int | None

    def receiving_signals(self) -> AbstractContextManager[None]:
        """Within it stop signals go into `signals`; a second one has its usual effect."""
        return handle_stop_signals(self.signals.append, once=True)

    @property
    def signum(self) -> int:
        """The last signal; 0 for none."""
        return self.signals[-1] if self.signals else 0

    def is_due(self, seconds: float) -> bool:
        """Whether a checkpoint of that age is followed by another one."""
        return seconds > 60.0 * self.checkpoint_minutes

    def keeps(self, epoch: int) -> bool:
        """Whether the checkpoint after a number of epochs is kept."""
        return self.keep_every is not None and epoch % self.keep_every == 0


def next_call(count: int, seconds: float) -> int:
    """The number of steps that take about CALL_SECONDS; at most ten times that of the last call."""
    return max(1, min(10 * count, int(count * CALL_SECONDS / max(seconds, 1e-6))))
