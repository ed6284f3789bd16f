"""The lock of a folder, which others can take when its process has ended in any way.

It has two halves. The first is a lock of the operating system, which refuses other processes of
this host at once, and which the system releases. File systems of several hosts, such as NFS, may
have none, or one of each host alone. The second is a lease: a file that is made by an exclusive
create, removed by a rename, and touched every ten seconds by a thread of its holder. So it needs
nothing that NFS lacks. After the death of a holder the processes of its host see that it is gone,
and those of other hosts see, on their own clocks, that nobody has touched the file for half a
minute, and take the lease over. A process that was suspended for longer, and then goes on, may
work beside the one that took over: files appear whole all the same, and the same work has the same
results.
"""

import contextlib
import errno
import fcntl
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

from tfp_smvi.core.errors import SMVIError, explain_write_errors

__all__ = ["LEASE_SECONDS", "hold_folder", "hold_shared"]

# After this time without a touch, a lease of another host is taken over. All versions must agree.
LEASE_SECONDS = 30.0
# The longest time between the creation of a lease and its write.
EMPTY_SECONDS = 2.0
# Answers of file systems that have no locks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


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

    Whether a holder on another host is alive takes half a minute to know, also with timeout=0.

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
    with contextlib.ExitStack() as held:
        with explain_write_errors(f"to {place or path}", remedy):
            path.mkdir(parents=True, exist_ok=True)
            try:
                _acquire(path / name, -1 if busy is None else timeout, held)
            except filelock.Timeout as error:  # it is also an OSError
                assert busy is not None
                raise busy from error
        yield


def _acquire(path: Path, timeout: float, held: contextlib.ExitStack) -> None:
    """Takes both halves of a lock, to be released when the stack is.

    Raises:
        filelock.Timeout: another process holds it.
        OSError: the files cannot be written.
    """
    lock = filelock.FileLock(path, timeout=timeout, fallback_to_soft=False)
    try:
        lock.acquire()
        held.callback(lock.release)
    except filelock.Timeout:
        raise
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    marker = path.with_name(f"{path.name}.lease")
    lease = filelock.SoftFileLease(marker, lease_duration=LEASE_SECONDS)
    end = math.inf if timeout < 0 else time.monotonic() + max(timeout, 1.2 * LEASE_SECONDS)
    while True:
        _delete_empty(marker)
        # Long enough to see that nobody touches it.
        left = min(2.0 * LEASE_SECONDS, max(end - time.monotonic(), 0.0))
        try:
            lease.acquire(timeout=left, poll_interval=0.5)
            break
        except filelock.Timeout:
            if time.monotonic() >= end:
                raise
    held.callback(lease.release)
    # What a kill in the middle of a takeover has left; nobody else of this host takes one over now.
    for litter in marker.parent.glob(f"{marker.name}.break.*"):
        litter.unlink(missing_ok=True)


def _delete_empty(marker: Path) -> None:
    """Deletes a lease that a kill has left between its creation and its only write.

    Nobody owns it, so that nobody would ever take it over.
    """
    before = _inode_if_empty(marker)
    if before is not None:
        time.sleep(EMPTY_SECONDS)
        if _inode_if_empty(marker) == before:
            marker.unlink(missing_ok=True)


def _inode_if_empty(path: Path) -> int | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_ino if status.st_size == 0 else None


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
