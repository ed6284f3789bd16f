"""Examples as they were given, from arrays or large files, read some at a time."""

import math
import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import SMVIError, plain_reason

__all__ = [
    "ArrayRows",
    "FileRows",
    "MaskedRows",
    "Rows",
    "SomeRows",
    "blocks_of",
    "rows_at_a_time",
    "spans",
]

# Numbers that are read at a time.
BLOCK_NUMBERS = 1 << 20

Indices = npt.NDArray[np.int64]


class Rows(Protocol):
    """Values [n, ...] that are read by index.

    Attributes:
        shape: their shape.
        dtype: the dtype that they were given in.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, indices: Indices) -> npt.NDArray[Any]:
        """Reads the rows at indices [m] in any order: [m, ...]."""


class ArrayRows:
    """Rows of an array in memory."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        """Takes the array, [n, ...]."""
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def read(self, indices: Indices) -> npt.NDArray[Any]:
        """Reads the rows at indices [m] in any order: [m, ...]."""
        return self._array[indices]


class FileRows:
    """Rows in a file, one after the other.

    It reads the file instead of mapping it: a mapped file that is cut short kills the process. A
    file that is deleted can be read as before; one that is written to is refused from then on.
    """

    def __init__(
        self, file: BinaryIO, path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        """Takes the file.

        Args:
            file: the file, which may be closed afterwards.
            path: its name for messages.
            offset: where the first row begins.
            shape: [n, ...].
            dtype: of the values.
        """
        self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self._path, self._offset, self._state = path, offset, self._find_state()
        self.shape, self.dtype = shape, dtype
        self._row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))

    def read(self, indices: Indices) -> npt.NDArray[Any]:
        """Reads the rows at indices [m] in any order: [m, ...].

        Raises:
            SMVIError: the file can no longer be read, or has changed.
        """
        values = np.empty((len(indices), *self.shape[1:]), self.dtype)
        buffer = memoryview(values.reshape(-1).view(np.uint8).data)
        # Rows that follow one another are read at once.
        starts = np.flatnonzero(np.diff(indices, prepend=-2) != 1)
        try:
            for start, stop in zip(starts, [*starts[1:], len(indices)], strict=True):
                part = buffer[start * self._row_bytes : stop * self._row_bytes]
                self._read_into(part, self._offset + int(indices[start]) * self._row_bytes)
            if self._find_state() != self._state:
                raise OSError("it has changed since it was opened")
        except OSError as error:
            raise SMVIError(
                f"{self._path} can no longer be read ({plain_reason(error)})",
                remedy="restore it and run again",
            ) from error
        return values

    def _read_into(self, buffer: memoryview, offset: int) -> None:
        while buffer:
            count = os.preadv(self._descriptor, [buffer], offset)
            if count == 0:
                raise OSError("it is shorter than it was")
            buffer, offset = buffer[count:], offset + count

    def _find_state(self) -> tuple[int, int]:
        """What changes when the file is written to: its size and its time."""
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns


class SomeRows:
    """Some of the rows of others."""

    def __init__(self, rows: Rows, indices: Indices) -> None:
        """Takes the rows and the indices of those that are meant."""
        self._rows, self._indices = rows, indices
        self.shape, self.dtype = (len(indices), *rows.shape[1:]), rows.dtype

    def read(self, indices: Indices) -> npt.NDArray[Any]:
        """Reads the rows at indices [m] in any order: [m, ...]."""
        return self._rows.read(self._indices[indices])


class MaskedRows:
    """Rows of which some values are missing: they are read as floats with NaN."""

    def __init__(self, rows: Rows, observed: Rows) -> None:
        """Takes the rows and a mask of the same shape, True where a value is observed."""
        self._rows, self._observed = rows, observed
        self.shape, self.dtype = rows.shape, rows.dtype
        exact = rows.dtype.kind == "f" or rows.dtype.itemsize <= 2
        self._floats = np.result_type(rows.dtype, np.float32 if exact else np.float64)

    def read(self, indices: Indices) -> npt.NDArray[Any]:
        """Reads the rows at indices [m] in any order: [m, ...]."""
        values = self._rows.read(indices).astype(self._floats)
        values[~self._observed.read(indices).astype(bool)] = np.nan
        return values


def blocks_of(rows: Rows) -> Iterator[npt.NDArray[Any]]:
    """Reads rows in order, about a million numbers at a time."""
    return (rows.read(np.arange(start, stop)) for start, stop in spans(rows.shape))


def spans(shape: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cuts the rows of [n, ...] into spans from a start up to a stop, exclusive."""
    num_rows, size = shape[0], rows_at_a_time(shape[1:])
    return ((start, min(start + size, num_rows)) for start in range(0, num_rows, size))


def rows_at_a_time(row_shape: Sequence[int]) -> int:
    """The number of rows of a shape that hold about a million numbers, at least 1."""
    return max(1, BLOCK_NUMBERS // max(math.prod(row_shape), 1))
