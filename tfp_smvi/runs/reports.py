"""Reading the report of a run, if it is of the run's present state."""

from pathlib import Path
from typing import Protocol, Self, TypeVar

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.records import JSONObject
from tfp_smvi.storage.json_files import read_json

__all__ = ["read_report"]


class _ReportedRun(Protocol):
    @property
    def step(self) -> int: ...

    @property
    def data_fingerprint(self) -> str: ...


class _Report(Protocol):
    @property
    def run(self) -> _ReportedRun | None: ...

    @classmethod
    def from_json(cls, values: JSONObject) -> Self: ...


Report = TypeVar("Report", bound=_Report)


def read_report(kind: type[Report], path: Path, step: int, data_fingerprint: str) -> Report | None:
    """Reads an evaluation or a classification of a run.

    Args:
        kind: the class of the report.
        path: its file.
        step: the training step that it has to be of.
        data_fingerprint: the fingerprint of the data that it has to be of.

    Returns:
        The report; None if there is none, it cannot be read, or it is of another step or of other
        data.
    """
    try:
        report = kind.from_json(read_json(path))
    except (OSError, ValueError, SMVIError):
        return None
    run = report.run
    same = run is not None and (run.step, run.data_fingerprint) == (step, data_fingerprint)
    return report if same else None
