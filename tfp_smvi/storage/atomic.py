"""Files that appear whole or not at all, also when the machine fails.

A file is written under another name beside its place, `.<name>.<host>.<random>.partial`, synced,
and renamed. The other file is new: no process of this host or another has it, and no link has its
name. Its writer holds a lock on it, by which `sweep_partials` knows what a kill has left
half-written: names of hosts and numbers of processes do not tell, as containers that share a folder
may have the same. A lock may be one of its host alone, so what another host has left is deleted
when it is a day old, far longer than any file takes to write.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from tfp_smvi.core.files import append_to
from tfp_smvi.core.records import Record
from tfp_smvi.core.signals import is_running

__all__ = ["append_line", "sweep_partials", "sync_folder", "write_atomically", "write_json"]

_SUFFIX = ".partial"
_DAY = 86400.0
# The host and the random part of a name; version 0.1 wrote the number of the process instead.
_WRITER = re.compile(r"\.(?P<host>[\w-]+)\.[0-9a-f]{16}\.partial$|\.(?P<pid>\d+)\.partial$")
# Answers of file systems that do not sync folders, such as CIFS and some of FUSE.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EROFS)


def write_atomically(
    path: Path, write: Callable[[BinaryIO], object], *, beside: str | None = None
) -> None:
    """Writes a file that appears whole or not at all.

    Args:
        path: the file; one that exists is replaced, and so is a link, not what it leads to.
        write: is called with a binary file object and writes the contents.
        beside: the name that the file beside it begins with; None for the name of the file.

    Raises:
        OSError: the file cannot be written; `path` is as it was and nothing is left beside it.
    """
    aside, file = _create(path.parent, beside or path.name)
    try:
        with file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            # While the lock is held, so that nobody deletes it before it has its name.
            aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_json(path: Path, values: Mapping[str, object] | Record) -> None:
    """Writes a JSON file whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    given = values.to_json() if isinstance(values, Record) else values
    text = json.dumps(given, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def append_line(path: Path, line: str) -> None:
    """Appends a line to a text file; when this returns, the line survives a power cut.

    A kill may leave a torn line at the end, without its line feed.

    Raises:
        OSError: it cannot be written, or is a link or not a regular file.
    """
    with append_to(path) as file:
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Makes what was created, renamed or deleted in a folder survive a power cut.

    Some file systems cannot sync a folder, or let nobody open one. What was done is done there.

    Raises:
        OSError: the disk fails.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def sweep_partials(folder: Path, name: str = "*") -> None:
    """Deletes what killed processes have left half-written in a folder.

    Those of this host, as soon as they are dead; those of other hosts, after a day.

    Args:
        folder: the folder, which need not exist.
        name: the pattern of the names of the files that were to be written.
    """
    for partial in folder.glob(f".{name}{_SUFFIX}"):
        writer = _WRITER.search(partial.name)
        if writer is None:
            continue
        pid, is_here = writer["pid"], writer["host"] in (None, _host())
        with contextlib.suppress(OSError):
            if not is_here:
                _delete_old(partial)
            elif pid is None or int(pid) == os.getpid() or not is_running(int(pid)):
                _delete_unlocked(partial)


def _create(folder: Path, name: str) -> tuple[Path, BinaryIO]:
    """Makes a new file under a name that nobody can foresee, and locks it."""
    while True:
        aside = folder / f".{name}.{_host()}.{secrets.token_hex(8)}{_SUFFIX}"
        file = aside.open("xb")
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return aside, file
        file.close()  # it was deleted before it was locked


def _delete_unlocked(partial: Path) -> None:
    """Deletes a file that nobody writes.

    Raises:
        OSError: somebody does, or it is a link or cannot be opened.
    """
    descriptor = os.open(partial, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        partial.unlink()
    finally:
        os.close(descriptor)


def _delete_old(partial: Path) -> None:
    """Deletes a file that was written to a day ago or earlier; clocks may differ by hours."""
    status = partial.lstat()
    if stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime > _DAY:
        partial.unlink()


def _host() -> str:
    """The name of this host, in letters that a file name may have."""
    return re.sub(r"[^\w-]", "-", socket.gethostname())[:40] or "host"
