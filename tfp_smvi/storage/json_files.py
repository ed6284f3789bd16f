"""JSON that a person, an editor or a damaged disk may have written."""

import json
from pathlib import Path
from typing import Any

from tfp_smvi.core.files import read_regular
from tfp_smvi.core.text import parse_real

__all__ = ["parse_json", "read_json"]

# Far more than any file of this package has; values in memory take up to 30 times as many bytes.
_MAX_BYTES = 64_000_000
# Levels of objects and lists in each other: far more than any file of this package has, and far
# fewer than Python's recursion, through which values go later, can follow.
_MAX_DEPTH = 100
# Digits of a whole number; Python converts no more than 4300.
_MAX_DIGITS = 1000


def read_json(path: Path) -> Any:
    """Reads a JSON file, in UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Raises:
        OSError: it cannot be read, is a pipe or a device, or has more than 64 MB.
        ValueError: it is not JSON, or nested too deeply; the message is one line.
    """
    return parse_json(read_regular(path, _MAX_BYTES))


def parse_json(content: bytes | str) -> Any:
    """Parses JSON, in any of the encodings of `read_json`.

    Raises:
        ValueError: it is not JSON, or nested too deeply; the message is one line.
    """
    try:
        values = json.loads(content, parse_int=_whole, parse_float=parse_real)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_depth(values)
    return values


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"it has a number of {len(text)} digits: {text[:10]}...")
    return int(text)


def _check_depth(values: object) -> None:
    """Raises ValueError if values are nested too deeply."""
    level, depth = [values], 0
    while level:
        depth += 1
        if depth > _MAX_DEPTH:
            raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")
        inner: list[object] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(value.values())
            elif isinstance(value, list):
                inner.extend(value)
        level = inner
