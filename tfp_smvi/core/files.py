"""Files that are opened where they are: a link in their place never leads elsewhere."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["append_to", "create_anew"]


def create_anew(path: Path) -> BinaryIO:
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
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file")
    return os.fdopen(descriptor, "ab")
