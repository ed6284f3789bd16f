"""Files that appear whole or not at all, also when the machine fails."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["write_atomically", "write_json"]


def write_atomically(path: Path, write: Callable[[Any], None]) -> None:
    """Writes a file that appears whole or not at all, also when the machine fails.

    Args:
        path: the file; one that is there is replaced.
        write: is called with a binary file object and writes the contents.

    Raises:
        OSError: the file cannot be written; `path` is as it was and nothing is left beside it.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with aside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # makes the rename itself last
    finally:
        os.close(directory)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a JSON file whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps(values, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))
