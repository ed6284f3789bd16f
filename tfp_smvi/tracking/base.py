"""A tracking service, as the rest of this folder sees it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

__all__ = ["NewRun", "OpenRun", "Point", "Service", "Status"]

Status = Literal["running", "finished", "failed", "stopped"]


class Point(NamedTuple):
    """The metrics of one epoch.

    Attributes:
        epoch: its number, counted from 1.
        seconds: the time that the training had taken by its end.
        values: the finite metrics by name, such as "test/elbo".
    """

    epoch: int
    seconds: float
    values: Mapping[str, float]


class NewRun(NamedTuple):
    """What a service needs to make a run.

    Attributes:
        name: its name.
        folder: the run or sweep directory.
        seconds: the time that the training has taken so far.
        parent: the service's own name of the run of its sweep; None if there is none.
        is_sweep: whether it is a sweep and has no training of its own.
    """

    name: str
    folder: Path
    seconds: float = 0.0
    parent: str | None = None
    is_sweep: bool = False


class OpenRun(NamedTuple):
    """A run of a service.

    Attributes:
        key: the service's own name for it.
        epoch: the last epoch that it has; None if the service cannot say.
        is_new: whether it was made now.
    """

    key: str
    epoch: int | None
    is_new: bool


class Service(Protocol):
    """A tracking service. Its methods raise what its client raises.

    Attributes:
        title: its name for people.
        name: its name in tracking.json, with its address.
    """

    title: str
    name: str

    def open(self, key: str | None, new: NewRun) -> OpenRun:
        """Continues the run of a key, or makes one if there is none or it is gone."""

    def put_settings(self, key: str, settings: Mapping[str, str], facts: Mapping[str, str]) -> None:
        """Stores the settings of a run, and what else is known of it."""

    def put_points(self, key: str, points: Sequence[Point]) -> None:
        """Adds the metrics of epochs."""

    def put_results(self, key: str, epoch: int, results: Mapping[str, float]) -> None:
        """Stores results after an epoch, by name."""

    def put_files(self, key: str, files: Mapping[str, Path]) -> None:
        """Stores files by their names in the run, such as "figures/calibration.png"."""

    def set_status(self, key: str, status: Status) -> None:
        """Says how the run is going; any but "running" ends it."""

    def close(self, key: str) -> None:
        """Nothing more comes for now."""
