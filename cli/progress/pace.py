"""How long a sweep still takes, from its stages that are done or under way."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tfp_smvi.sweeps.entries import Entry

__all__ = ["Pace"]


class Pace:
    """Estimates the time that is left from the stages that are done or under way."""

    def __init__(self, stages: Sequence[str], jobs: int) -> None:
        """Knows nothing yet."""
        self._stages, self._jobs = stages, jobs
        self._current: dict[str, _Current] = {}  # by run
        self._seconds: dict[tuple[str, str], float] = {}  # of a whole stage, by run and stage

    def begin(self, run: str, stage: str) -> None:
        """A stage of a run begins."""
        self._current[run] = _Current(stage, time.monotonic())

    def progress(self, run: str, fraction: float) -> str:
        """A fraction of a run's stage is done; returns the stage."""
        current, now = self._current[run], time.monotonic()
        if current.first is None:  # what an earlier process did took no time of this one
            current.first, current.since = fraction, now
        current.fraction = fraction
        if fraction > current.first:
            self._seconds[run, current.stage] = (now - current.since) / (fraction - current.first)
        return current.stage

    def update(self, entry: Entry) -> None:
        """A run has new results."""
        if entry.status != "running":
            self._current.pop(entry.run_dir, None)
        if entry.done:
            for stage in self._stages:
                self._seconds[entry.run_dir, stage] = entry.seconds[stage]

    def elapsed(self, run: str) -> float:
        """The seconds that the stage of a run has taken so far."""
        current = self._current.get(run)
        return time.monotonic() - current.began if current else 0.0

    def left(self, entries: Sequence[Entry]) -> tuple[float, bool]:
        """The seconds for all runs, and whether the time of every stage is known."""
        stages = [stage for entry in entries for stage in self._rest(entry)]
        means = {stage: self._mean(stage) for stage, _ in stages}
        seconds = sum(share * (means[stage] or 0.0) for stage, share in stages) / self._jobs
        return seconds, None not in means.values()

    def _rest(self, entry: Entry) -> list[tuple[str, float]]:
        """The stages of a run that are not done, each with the fraction that is left."""
        if entry.status in ("done", "failed"):
            return []
        current = self._current.get(entry.run_dir)
        if current is None:
            return [(stage, 1.0) for stage in self._stages]
        later = self._stages[self._stages.index(current.stage) + 1 :]
        return [(current.stage, 1.0 - current.fraction), *((stage, 1.0) for stage in later)]

    def _mean(self, stage: str) -> float | None:
        # A copy: the table is drawn by another thread.
        seconds = [value for (_, name), value in [*self._seconds.items()] if name == stage]
        return sum(seconds) / len(seconds) if seconds else None


@dataclass
class _Current:
    """The stage that a run is in; `since` is when the fraction was `first`."""

    stage: str
    began: float
    fraction: float = 0.0
    first: float | None = None
    since: float = 0.0
