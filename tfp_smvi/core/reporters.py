"""What hears of the progress of long work: protocols for who wants to know, and one that wants to know nothing."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

__all__ = ["EvaluationReporter", "Silent", "SweepReporter"]


class EvaluationReporter(Protocol):
    """What hears of the progress of an evaluation or of a classification."""

    def begin(self, num_units: int, cost: float, cost_done: float) -> None:
        """The work begins: so many units of work, of which some may be done already."""

    def advance(self, cost: float) -> None:
        """A unit of work is done and saved."""

    def note(self, message: str) -> None:
        """Something worth a line."""

    def warn(self, message: str) -> None:
        """Something needs the user's attention."""


class SweepReporter(Protocol):
    """What hears of a sweep's progress; an entry is one of the summary's "runs", and changes with time."""

    def begin(self, entries: Sequence[Mapping[str, Any]], stages: Sequence[str], jobs: int) -> None:
        """The work begins, on these runs, so many at once; some may be done already."""

    def stage(self, entry: Mapping[str, Any], stage: str) -> None:
        """A stage of a run begins."""

    def progress(self, entry: Mapping[str, Any], fraction: float, text: str) -> None:
        """So much of the stage is done."""

    def update(self, entry: Mapping[str, Any]) -> None:
        """A stage has ended, or the run has: its results or its status changed."""

    def note(self, message: str) -> None:
        """Something worth a line."""

    def warn(self, message: str) -> None:
        """Something needs the user's attention."""


class Silent:
    """Each of the three, and reports nothing."""

    def begin(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing, as the others."""

    advance = epoch = note = progress = stage = update = warn = begin
