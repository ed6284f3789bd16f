"""Damaged files and odd words for the commands. `make soak` tries thousands.

Each mutation is drawn from a `random.Random`, so that its seed gives it again.
"""

import io
import json
import math
import random
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tests.support import counts

__all__ = [
    "ODD_WORDS",
    "OPTION",
    "PROPERTY",
    "SEED_OPTION",
    "add_timeouts",
    "mutate_array",
    "mutate_arrays",
    "mutate_bytes",
    "mutate_json",
    "summary",
]

OPTION, SEED_OPTION = "--fuzz", "--fuzz-seed"
PROPERTY = "fuzz"
# Values of options and paths; "fifo", "folder" and "file" are those of the working directory. Words
# with a lone surrogate stand for bytes that are no UTF-8. None leads out of the tests' folder.
ODD_WORDS = (
    *("", " ", "nan", "inf", "-inf", "1e400", "-1", "0", "-0.0", "1.5", "1_0", "0x10", "1e3"),
    *("9" * 5000, "-" + "9" * 5000, "0." + "1" * 5000, "1e" + "9" * 400, "\u0663", "\u00bd"),
    *("\ufeff1", "\udcff", "a\udce9.npz", "\x1b[31m", "a\nb", "\t", "a" * 5000, "NaN", "Infinity"),
    *(",", "1,", ",1", "1,,2", "1,nan", "0,0", "1," * 40 + "1", "[1]", "{}", "null", "true"),
    *("fifo", "folder", "file", ".", "~nobody-here/x.npz", "~", "file/x", "/proc/self/x"),
    *("tfds:", "tfds:x/", "tfds:/", "x.npz", ".npz", "-", "--", "--help", "%s", "{x}", "{lam}"),
    *("grpc://", "http://[", "http://[::1", "grpc://localhost:99999/m", "http://a b/m"),
    *("0/0", "1/0", "2/1", "-1/2", "1/" + "9" * 5000, str(2**63), str(2**64), "-" + str(2**63)),
)
_BIG = "@big@"
_NUMBERS = (0, -1, 1, 2, 10**30, -(2**63), 2**63, 0.5, -0.0, 1e308, math.nan, math.inf, -math.inf)
_STRINGS = ("", "\u0000", "\ud800", "nan", "..", "/", "\x1b[2J", "a" * 5000, "\ufeff", "digits")
_DEPTHS = (50, 900, 2000, 100_000)
_BYTES = (b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b"\xff", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"{")


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """Flips, cuts, inserts, repeats or clears bytes."""
    start = rng.randrange(len(data) + 1)
    stop = min(len(data), start + rng.choice([1, 2, 8, 64, 1000]))
    part = data[start:stop]
    garbled = bytes(byte ^ (1 << rng.randrange(8)) for byte in part)
    return rng.choice(
        [
            b"",
            data[:start],
            data[start:],
            data[:start] + data[stop:],
            data[:start] + garbled + data[stop:],
            data[:start] + bytes(len(part)) + data[stop:],
            data[:start] + part + part + data[stop:],
            data[:start] + rng.choice(_BYTES) + data[start:],
            rng.choice(_BYTES) + data,
            rng.randbytes(100),
        ]
    )


def mutate_json(rng: random.Random, data: bytes) -> bytes:
    """Replaces, removes, renames or nests a value of a JSON text, or changes its bytes."""
    if rng.random() < 0.15:
        return mutate_bytes(rng, data)
    values = json.loads(data)
    for _ in range(rng.choice([1, 1, 1, 3])):
        values = _mutate_value(rng, values)
    text = json.dumps(values).replace(f'"{_BIG}"', "9" * 5000)
    if rng.random() < 0.05:
        depth = rng.choice(_DEPTHS)
        text = re.sub(r": ?[0-9.]+", f": {'[' * depth}{']' * depth}", text, count=1)
    return text.encode()


def _mutate_value(rng: random.Random, values: Any) -> Any:
    """Changes one value somewhere in a JSON value."""
    parent, key = _pick(rng, values)
    if parent is None:
        return _odd_value(rng, values)
    action = rng.randrange(5)
    if action == 0:
        del parent[key]
    elif action == 1 and isinstance(parent, dict):
        parent[rng.choice([*_STRINGS, f"{key}x"])] = parent.pop(key)
    elif action == 2 and isinstance(parent, list):
        parent.extend([parent[key]] * rng.choice([1, 2, 50]))
    else:
        parent[key] = _odd_value(rng, parent[key])
    return values


def _pick(rng: random.Random, values: Any) -> tuple[Any, Any]:
    """Goes down at random and returns a container and a key of it; None for the root."""
    parent, key, value = None, None, values
    while isinstance(value, dict | list) and value and (parent is None or rng.random() < 0.75):
        parent = value
        key = rng.choice([*value]) if isinstance(value, dict) else rng.randrange(len(value))
        value = parent[key]
    return (None, None) if rng.random() < 0.02 else (parent, key)


def _odd_value(rng: random.Random, value: Any) -> Any:
    return rng.choice(
        [
            rng.choice(_NUMBERS),
            rng.choice(_STRINGS),
            rng.choice([None, True, False, [], {}, [[]], {"": 0}, _BIG]),
            [value],
            {"x": value},
            str(value),
            [value, value],
        ]
    )


def mutate_arrays(rng: random.Random, data: bytes) -> bytes:
    """Changes an array of an .npz file, its name or header, or the bytes of the file."""
    if rng.random() < 0.3:
        return mutate_bytes(rng, data)
    with np.load(io.BytesIO(data), allow_pickle=False) as members:
        names = members.files
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        contents = {name: archive.read(f"{name}.npy") for name in names}
    name = rng.choice(names)
    action = rng.randrange(6)
    if action == 0:
        del contents[name]
    elif action == 1:
        contents[rng.choice(["", "x", "../x", "\u00e9", f"{name}x"])] = contents.pop(name)
    else:
        contents[name] = mutate_array(rng, contents[name])
    file = io.BytesIO()
    method = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(f"{name}.npy", content)
            if rng.random() < 0.02:
                with warnings.catch_warnings(action="ignore"):  # of a name that is there twice
                    archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def mutate_array(rng: random.Random, data: bytes) -> bytes:
    """Changes the values, dtype or shape of a .npy file, its header, or its bytes."""
    if rng.random() < 0.3:
        return mutate_bytes(rng, data)
    if rng.random() < 0.3:
        return _mutate_header(rng, data)
    array = np.load(io.BytesIO(data), allow_pickle=False)
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        changed = rng.choice(_ARRAY_CHANGES)(rng, array)
    file = io.BytesIO()
    np.save(file, changed, allow_pickle=True)
    return file.getvalue()


def _mutate_header(rng: random.Random, data: bytes) -> bytes:
    """Replaces the shape or the dtype in the header, which keeps its length if it can."""
    new: bytes = rng.choice(
        [
            *(b"(0,)", b"(-1,)", b"(1000000000000,)", b"()", b"(9999999999, 9999999999)"),
            *(b"(1.5,)", b"None", b"(" + b"9" * 60 + b",)", b"[1]", b"("),
        ]
    )
    if rng.random() < 0.5:
        return re.sub(rb"'shape': \([^)]*\)", b"'shape': " + new, data, count=1)
    dtype = rng.choice(
        [b"'O'", b"'|S0'", b"'<f2'", b"'<U9'", b"'V0'", b"'<M8[s]'", b"None", b"'x'"]
    )
    return re.sub(rb"'descr': '[^']*'", b"'descr': " + dtype, data, count=1)


def _set_value(rng: random.Random, array: np.ndarray) -> np.ndarray:
    changed = np.array(array)
    if changed.size and changed.dtype.kind in "fiu":
        value = rng.choice([math.nan, math.inf, -1.0, 1e30, 255.0, 1.000001])
        changed.reshape(-1)[rng.randrange(changed.size)] = np.array(value).astype(changed.dtype)
    return changed


def _cast(rng: random.Random, array: np.ndarray) -> np.ndarray:
    kinds = ["O", "U5", "S3", "c8", "f2", "f8", "i1", "u8", "?", "M8[s]", "V4"]
    try:
        return array.astype(rng.choice(kinds))
    except (TypeError, ValueError):
        return array.astype(object)


_ARRAY_CHANGES: Sequence[Callable[[random.Random, np.ndarray], Any]] = (
    _set_value,
    _set_value,
    _cast,
    _cast,
    lambda rng, array: array[..., None],
    lambda rng, array: array[None],
    lambda rng, array: array.reshape(-1),
    lambda rng, array: array[:0],
    lambda rng, array: array[:1],
    lambda rng, array: array.reshape(-1)[:1].reshape(()) if array.size else array,
    lambda rng, array: array.T,
    lambda rng, array: np.zeros((3, 0)),
    lambda rng, array: np.full_like(array, np.nan) if array.dtype.kind == "f" else array,
    lambda rng, array: np.array([{"a": 1}], dtype=object),
)


def add_timeouts(items: Sequence[pytest.Item], number: int) -> None:
    """Gives the tests with odd inputs the time that their number takes: no second each."""
    counts.add_timeouts(items, "fuzz", number)


def summary(reports: Sequence[pytest.TestReport]) -> str | None:
    """The number of mutations and of failures in one line, or None if no test had any."""
    inputs = counts.counted(reports, PROPERTY)
    if not inputs:
        return None
    tried, failed = (sum(count[index] for count in inputs) for index in (0, 1))
    return f"fuzz: {tried} inputs, {failed} with a traceback or without a clear line"
