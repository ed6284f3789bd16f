"""Results that do not depend on a model's weights, kept for all the runs of a sweep."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from tfp_smvi.storage.atomic import write_json

__all__ = ["BaselineStore"]


class BaselineStore:
    """A folder with a file for each result, whose name follows from all that the result depends on.

    Args:
        path: the folder, which is made.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        """Makes the folder."""
        self._path = path
        path.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lets one process at a time compute, so that the others find its results."""
        with filelock.FileLock(self._path / ".lock"):
            for partial in self._path.glob(".*.partial"):  # what a kill left half-written
                partial.unlink(missing_ok=True)
            yield

    def load(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Reads the result of a key, JSON values; None where there is none, or a damaged one."""
        try:
            values = json.loads(self._file(key).read_text(encoding="utf-8"))
            return values["result"] if values["key"] == key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, key: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Writes the result of a key.

        Raises:
            OSError: it cannot be written.
        """
        write_json(self._file(key), {"key": key, "result": result})

    def _file(self, key: Mapping[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self._path / f"{digest[:32]}.json"
