"""The lock of a folder, which the operating system releases when its process ends in any way."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from tfp_smvi.core.errors import SMVIError, explain_write_errors

__all__ = ["hold_folder", "hold_shared"]


@contextlib.contextmanager
def hold_folder(
    path: Path,
    *,
    busy: SMVIError | None = None,
    remedy: str,
    timeout: float = 0.0,
    place: Path | None = None,
    name: str = ".lock",
) -> Iterator[None]:
    """Makes a folder and holds its lock.

    Args:
        path: the folder.
        busy: the error if another process holds the lock for longer than `timeout`; None waits
            until the lock is free.
        remedy: what to do if the folder cannot be written, as in `SMVIError`.
        timeout: seconds to wait for the lock.
        place: the folder to name in that error; None for `path`.
        name: the lock's file in the folder.

    Raises:
        SMVIError: the folder is in use, or it cannot be written.
    """
    with explain_write_errors(f"to {place or path}", remedy):
        path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path / name, timeout=-1 if busy is None else timeout)
        try:
            lock.acquire()
        except filelock.Timeout as error:  # it is also an OSError
            assert busy is not None
            raise busy from error
    try:
        yield
    finally:
        lock.release()


def hold_shared(path: Path) -> int | None:
    """Takes a lock that processes which inherit its descriptor hold as well, until the last ends.

    Args:
        path: the lock's file, which is made if it does not exist.

    Returns:
        The descriptor, to be closed; None if others hold the lock.

    Raises:
        OSError: the file cannot be opened, or is a link.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor
