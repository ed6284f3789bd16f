"""A protocol for the progress of long work, and a reporter that reports nothing."""

from typing import Any, Protocol

__all__ = ["EvaluationReporter", "Silent"]


class EvaluationReporter(Protocol):
    """Receives the progress of an evaluation or of a classification."""

    def begin(self, num_units: int, cost: float, cost_done: float) -> None:
        """The work begins: the number of units, their cost, and the cost of those already done."""

    def advance(self, cost: float) -> None:
        """A unit of work is done and saved."""

    def note(self, message: str) -> None:
        """Something worth a line."""

    def warn(self, message: str) -> None:
        """Something needs the user's attention."""


class Silent:
    """A reporter of any kind that reports nothing."""

    def begin(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing, like the other methods."""

    advance = epoch = note = progress = stage = update = warn = begin
