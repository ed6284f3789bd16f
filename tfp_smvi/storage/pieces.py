"""Pieces of work on disk, each as a whole or not at all, found again by all that they depend on.

A store is a folder whose name ends in a hash of everything that its pieces depend on. So a piece is
found again after a kill, by other processes that share the work, and by later work that needs it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfp_smvi.core.errors import RUN_AGAIN, SMVIError, explain_write_errors
from tfp_smvi.core.records import JSONObject
from tfp_smvi.storage.arrays import DamagedFileError, read_arrays, write_arrays
from tfp_smvi.storage.atomic import sweep_partials, write_json
from tfp_smvi.storage.json_files import read_json

__all__ = ["ArrayStore", "JSONStore", "digest"]


def digest(key: Mapping[str, object], length: int) -> str:
    """A hash of JSON values: `length` hexadecimal digits, whatever the order of the names."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:length]


class ArrayStore:
    """Arrays by the name of their piece, for one kind of work at one setting.

    Args:
        root: the folder of all stores.
        kind: the kind of work, the first part of the folder's name.
        key: JSON values, everything that the pieces depend on; kept beside them in settings.json.
    """

    def __init__(self, root: Path, kind: str, key: Mapping[str, object]) -> None:
        """Touches no file."""
        self._key = dict(key)
        self.path = root / f"{kind}-{digest(self._key, 16)}"

    def __contains__(self, name: str) -> bool:
        """Whether a piece is done."""
        return self._file(name).exists()

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Saves a piece.

        Raises:
            SMVIError: it cannot be written; what was there still is.
        """
        with explain_write_errors(f"to {self.path}", f"what is done is kept: {RUN_AGAIN}"):
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / "settings.json").exists():
                write_json(self.path / "settings.json", self._key)
            write_arrays(self._file(name), arrays)

    def load(self, name: str) -> dict[str, np.ndarray]:
        """Reads a piece.

        Raises:
            SMVIError: it is missing or damaged.
        """
        path = self._file(name)
        try:
            return read_arrays(path)
        except (OSError, DamagedFileError) as error:
            remedy = "delete it and run the same command again"
            raise SMVIError(f"{path} cannot be read ({error})", remedy=remedy) from error

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.npz"


class JSONStore:
    """JSON values by everything that they depend on.

    Args:
        path: the folder, which exists when something is saved.
    """

    def __init__(self, path: Path) -> None:
        """Touches no file."""
        self._path = path

    def sweep(self) -> None:
        """Deletes what killed processes have left half-written."""
        sweep_partials(self._path)

    def load(self, key: Mapping[str, object]) -> JSONObject | None:
        """Reads the values of a key; None if there are none, or damaged ones."""
        try:
            values = read_json(self._file(key))
            return values["result"] if values["key"] == key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, key: Mapping[str, object], values: Mapping[str, object]) -> None:
        """Writes the values of a key.

        Raises:
            OSError: they cannot be written.
        """
        write_json(self._file(key), {"key": dict(key), "result": dict(values)})

    def _file(self, key: Mapping[str, object]) -> Path:
        return self._path / f"{digest(key, 32)}.json"
