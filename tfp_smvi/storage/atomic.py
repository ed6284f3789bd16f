"""Files that appear whole or not at all, also when the machine fails.

A file is written under another name beside its place, `.<name>.<host>.<pid>.<random>.partial`,
synced, and renamed. What a kill leaves half-written is removed by `sweep_partials`, which knows by
host and process that nobody writes it any more.
"""

import contextlib
import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from tfp_smvi.core.records import Record

__all__ = ["append_line", "sweep_partials", "sync_folder", "write_atomically", "write_json"]

_SUFFIX = ".partial"
# What threads of this process are writing.
_BEING_WRITTEN: set[Path] = set()
# The host, the process and the random part of a name; version 0.1 wrote the process alone.
_WRITER = re.compile(
    r"\.(?P<host>[\w-]+)\.(?P<pid>\d+)\.[0-9a-f]{8}\.partial$|\.(?P<old_pid>\d+)\.partial$"
)


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file that appears whole or not at all.

    Args:
        path: the file; one that exists is replaced.
        write: is called with a binary file object and writes the contents.

    Raises:
        OSError: the file cannot be written; `path` is as it was and nothing is left beside it.
    """
    aside = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.{secrets.token_hex(4)}{_SUFFIX}")
    _BEING_WRITTEN.add(aside)
    try:
        with aside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
        _BEING_WRITTEN.discard(aside)
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
        OSError: it cannot be written.
    """
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Makes what was created, renamed or deleted in a folder survive a power cut.

    Raises:
        OSError: it cannot be opened or synced.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_partials(folder: Path, name: str = "*") -> None:
    """Deletes what killed processes of this host have left half-written in a folder.

    Args:
        folder: the folder, which need not exist.
        name: the pattern of the names of the files that were to be written.
    """
    for partial in folder.glob(f".{name}{_SUFFIX}"):
        writer = _WRITER.search(partial.name)
        if writer is None or writer["host"] not in (None, _host()):
            continue
        if not _is_written(partial, int(writer["pid"] or writer["old_pid"])):
            with contextlib.suppress(OSError):
                partial.unlink()


def _host() -> str:
    """The name of this host, in letters that a file name may have."""
    return re.sub(r"[^\w-]", "-", socket.gethostname())[:40] or "host"


def _is_written(partial: Path, pid: int) -> bool:
    """Whether the process of this number, on this host, may still write a file."""
    if pid == os.getpid():
        return partial in _BEING_WRITTEN
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
