"""Files that are opened where they are, without a wait; written ones are never behind a link."""

import errno
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["append_to", "create_new", "open_regular", "read_regular"]


def create_new(path: Path) -> BinaryIO:
    """Makes an empty file to write; a file or a link of this name is deleted first.

    Raises:
        OSError: it cannot be made, or another process makes it at the same time.
    """
    path.unlink(missing_ok=True)
    return path.open("xb")


def append_to(path: Path) -> BinaryIO:
    """Opens a file to write at its end, and makes it if it does not exist.

    Raises:
        OSError: it cannot be written, is a link, or is not a regular file.
    """
    # A pipe without a reader is an error instead of a wait.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    return os.fdopen(_open(path, flags), "ab")


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a file to read, or the one that a link leads to.

    Raises:
        OSError: it cannot be read, or is a folder, a pipe or a device, which might never end.
    """
    return os.fdopen(_open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Reads a whole file, or the one that a link leads to.

    Raises:
        OSError: it cannot be read, is no regular file, or has more than `max_bytes` bytes.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(max_bytes + 1) if size <= max_bytes else b""
    if max(size, len(content)) > max_bytes:
        raise OSError(
            f"{path.name} has more than the {max_bytes / 1e6:,.0f} MB that are read: "
            f"{max(size, len(content)) / 1e6:,.0f} MB"
        )
    return content


def _open(path: Path, flags: int) -> int:
    """Opens a regular file and returns its descriptor."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise OSError(f"{path.name} is not a regular file")
