"""Locks on folders, which the operating system releases when a process ends in any way."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from tfp_smvi.core.errors import SMVIError, explain_write_errors

__all__ = ["hold_folder"]

_LOCK = ".lock"


@contextlib.contextmanager
def hold_folder(path: Path, busy: str, advice: str, place: Path | None = None) -> Iterator[None]:
    """Makes a folder and holds its lock, which the operating system lets go when the process ends in any way.

    Args:
        path: the folder.
        busy: what to say where another process holds it.
        advice: what to do where it cannot be written.
        place: the place to name there; None for the folder.

    Raises:
        SMVIError: either is the case.
    """
    with explain_write_errors(f"to {place or path}", advice):
        path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path / _LOCK, timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout as error:  # an OSError, too
            raise SMVIError(busy) from error
    try:
        yield
    finally:
        lock.release()
