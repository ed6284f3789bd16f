"""The progress of a sweep: the protocol for what receives it."""

from collections.abc import Sequence
from typing import Protocol

from tfp_smvi.sweeps.entries import Entry

__all__ = ["SweepReporter"]


class SweepReporter(Protocol):
    """Receives the progress of a sweep; entries are those of sweep.json at that moment."""

    def begin(self, entries: Sequence[Entry], stages: Sequence[str], jobs: int) -> None:
        """The work begins: these runs, `jobs` at once; some may be done already."""

    def stage(self, entry: Entry, stage: str) -> None:
        """A stage of a run begins."""

    def progress(self, entry: Entry, fraction: float, text: str) -> None:
        """A fraction of the stage is done, from 0 to 1."""

    def update(self, entry: Entry) -> None:
        """The results or the status of a run changed."""

    def note(self, message: str) -> None:
        """Something worth a line."""

    def warn(self, message: str) -> None:
        """Something needs the user's attention."""
