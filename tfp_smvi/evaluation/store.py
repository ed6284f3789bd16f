"""Results of an evaluation, block by block on disk: each file is there as a whole or not at all.

A folder's name is a hash of all that its blocks depend on, so that blocks are found again after a
kill, by other processes that share the work, and by a later evaluation that needs them too.
"""

import contextlib
import fcntl
import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from tfp_smvi.core.errors import RUN_AGAIN, SMVIError, explain_write_errors
from tfp_smvi.storage.atomic import write_atomically, write_json

__all__ = ["BlockStore", "shared_folder"]


@contextlib.contextmanager
def shared_folder(root: Path, reports: Sequence[str]) -> Iterator[None]:
    """Writes in the folder of all stores beside other processes that do the same.

    Who comes while nobody else works there first deletes what a kill left half-written.

    Args:
        root: the folder of all stores of a run, made where there is none.
        reports: the names of the reports that are written beside it.

    Raises:
        OSError: it cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    # The operating system lets go of the lock when the process ends in any way.
    with (root / ".lock").open("ab") as lock:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            partial_reports = (root.parent.glob(f".{name}.*.partial") for name in reports)
            for partial in chain(root.glob("*/.*.partial"), *partial_reports):
                partial.unlink(missing_ok=True)
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


class BlockStore:
    """The blocks of one kind of estimate at one setting.

    Args:
        root: the folder of all stores of a run.
        kind: the kind of estimate, the first part of the folder's name.
        settings: JSON values, all that the blocks depend on; kept beside them in settings.json.
    """

    def __init__(self, root: Path, kind: str, settings: Mapping[str, Any]) -> None:
        """Touches no file."""
        self._settings = dict(settings)
        key = hashlib.sha256(json.dumps(self._settings, sort_keys=True).encode()).hexdigest()[:16]
        self.path = root / f"{kind}-{key}"

    def __contains__(self, block: tuple[str, int]) -> bool:
        """Whether a block (data, index) is done."""
        return self._file(*block).exists()

    def save(self, data: str, index: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Saves a block.

        Raises:
            SMVIError: it cannot be written; what was there still is.
        """
        with explain_write_errors(f"to {self.path}", f"what is done is kept: {RUN_AGAIN}"):
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / "settings.json").exists():
                write_json(self.path / "settings.json", self._settings)
            write_atomically(
                self._file(data, index), lambda file: np.savez(file, allow_pickle=False, **arrays)
            )

    def load(self, data: str, num_examples: int, block_size: int) -> dict[str, np.ndarray]:
        """Puts blocks together: the first `num_examples` along the first axis of each array.

        Raises:
            SMVIError: a block is missing or damaged.
        """
        count = -(-num_examples // block_size)
        blocks = [self._read(data, index) for index in range(count)]
        return {
            name: np.concatenate([block[name] for block in blocks])[:num_examples]
            for name in blocks[0]
        }

    def _read(self, data: str, index: int) -> dict[str, np.ndarray]:
        path = self._file(data, index)
        try:
            # np.load leaves a damaged file open where it opened it itself.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as members:
                return {name: members[name] for name in members.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise SMVIError(
                f"{path} cannot be read ({error}); delete it and run the same command again."
            ) from error

    def _file(self, data: str, index: int) -> Path:
        return self.path / f"{data}-{index:05d}.npz"
