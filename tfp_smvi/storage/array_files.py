"""Arrays in files of any origin, .npy and .npz: the headers first, then the values.

Damaged or made-up files raise nearly anything: callers turn it into one line.
"""

import contextlib
import io
import math
import os
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import plain_reason
from tfp_smvi.core.files import open_regular

__all__ = ["ArrayFile", "list_arrays", "open_array", "read_all"]

# An archive whose arrays grow beyond both is made to fill the memory, or better written unpacked.
# MNIST as float64 pixels of 0 and 1 is 376 MB, and grows 50-fold.
_LARGE, _LARGE_RATIO = 1 << 28, 100
_CHUNK = 1 << 20
# The bytes of a header that NumPy accepts. It looks at their number when it has read them, and a
# header of version 2.0 may have 4 GB.
_MAX_HEADER = 10_000
# By version: the bytes that hold a header's length, and NumPy's function.
_HEADERS = {
    (1, 0): (2, np.lib.format.read_array_header_1_0),
    (2, 0): (4, np.lib.format.read_array_header_2_0),
}


class ArrayFile(NamedTuple):
    """An array of a file, of which the header has been read.

    Attributes:
        path: the file.
        shape: its shape.
        dtype: its dtype.
        fortran_order: whether the first axis is the one whose neighbours are adjacent.
        offset: where its values begin, in the file or in the member of the archive.
        member: its member of an .npz file; None for a .npy file.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    offset: int
    member: zipfile.ZipInfo | None

    def load(self) -> npt.NDArray[Any]:
        """Maps the values into memory, or reads them if they are compressed; checks their CRC-32.

        Raises:
            Exception: they are damaged.
        """
        if self.member is None:
            return self._map(self.offset)
        if self.member.compress_type == zipfile.ZIP_STORED:
            with open_regular(self.path) as raw:
                return self._map(self.place(raw))
        with (
            open_regular(self.path) as raw,
            zipfile.ZipFile(raw) as archive,
            archive.open(self.member) as file,
        ):
            return _read_values(file)

    @property
    def in_rows(self) -> bool:
        """Whether the file has the values as they are, one row after the other."""
        stored = self.member is None or self.member.compress_type == zipfile.ZIP_STORED
        return stored and (not self.fortran_order or len(self.shape) <= 1)

    def place(self, file: BinaryIO) -> int:
        """Finds where the values begin in the file, opened, if it has them as they are.

        Raises:
            Exception: their CRC-32 is wrong.
        """
        if self.member is None:
            return self.offset
        with zipfile.ZipFile(file) as archive, archive.open(self.member) as content:
            while content.read(_CHUNK):  # zipfile checks the CRC at the end
                pass
        return _data_offset(file, self.member) + self.offset

    def _map(self, offset: int) -> npt.NDArray[Any]:
        order: Any = "F" if self.fortran_order else "C"
        with open_regular(self.path) as file:
            return np.memmap(file, self.dtype, "r", offset, self.shape, order)


def list_arrays(path: Path) -> list[str]:
    """Returns the names of the arrays in an .npz file.

    Raises:
        Exception: the file cannot be read.
    """
    with _open_archive(path) as archive:
        return _names(archive)


def open_array(path: Path, key: str | None = None) -> ArrayFile:
    """Reads the header of an array of a .npy or .npz file.

    Args:
        path: the file.
        key: one of `list_arrays` for an .npz file; None for a .npy file.

    Raises:
        Exception: the file cannot be read, or holds objects or another format, or more than an
            array that somebody wants to be read.
    """
    with open_regular(path) as file:
        if key is None:
            return _read_header(path, file, os.fstat(file.fileno()).st_size, None)
        with zipfile.ZipFile(file) as archive:
            return _open_member(path, archive, key)


def read_all(path: Path, keys: Collection[str] | None = None) -> dict[str, npt.NDArray[Any]]:
    """Reads arrays of an .npz file into memory and checks their CRC-32; it is opened once.

    Args:
        path: the file.
        keys: some of `list_arrays`; None for all.

    Raises:
        Exception: the file cannot be read or lacks one of the keys, or as in `open_array`.
    """
    arrays = {}
    with _open_archive(path) as archive:
        for key in _names(archive) if keys is None else keys:
            member = _open_member(path, archive, key).member
            assert member is not None
            with archive.open(member) as content:
                arrays[key] = _read_values(content)
    return arrays


@contextlib.contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    with open_regular(path) as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is not an .npz file, or it is cut short")
        with zipfile.ZipFile(file) as archive:
            yield archive


def _names(archive: zipfile.ZipFile) -> list[str]:
    names = archive.namelist()
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def _open_member(path: Path, archive: zipfile.ZipFile, key: str) -> ArrayFile:
    member = archive.getinfo(f"{key}.npy")
    _require_bounded(member)
    with archive.open(member) as content:
        return _read_header(path, content, member.file_size, member)


def _read_values(file: IO[bytes]) -> npt.NDArray[Any]:
    """Reads an array whose header was found good, to the end, where zipfile checks the CRC."""
    values: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    if file.read(1):
        raise ValueError("it holds more than an array")
    return values


def _require_bounded(member: zipfile.ZipInfo) -> None:
    """Raises ValueError for a member that takes much more memory than its file has bytes."""
    # Of other methods zipfile unpacks far more at a time than it is asked for.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("it is compressed by another method than NumPy's")
    if member.file_size > max(_LARGE, _LARGE_RATIO * member.compress_size):
        raise ValueError(
            f"{member.compress_size / 1e6:.1f} MB unpack to {member.file_size / 1e9:.1f} GB; "
            "written by numpy.savez it would be mapped into memory"
        )


def _read_header(
    path: Path, file: IO[bytes], num_bytes: int, member: zipfile.ZipInfo | None
) -> ArrayFile:
    """Reads the header of a .npy file, which must promise as many bytes as there are."""
    try:
        version = np.lib.format.read_magic(file)
    except ValueError as error:
        raise ValueError("it is no array in the .npy format") from error
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the .npy format")
    num_digits, read_header = _HEADERS[version]
    digits = file.read(num_digits)
    length = int.from_bytes(digits, "little")
    if length > _MAX_HEADER:
        raise ValueError(f"its header has {length} bytes")
    header = file.read(length)
    try:
        shape, fortran_order, dtype = read_header(io.BytesIO(digits + header))
    except Exception as error:  # NumPy reads it as Python, whose tokenizer has errors of its own
        raise ValueError(f"its header is damaged: {plain_reason(error)}") from error
    # Pickles are code: a data file must not be able to run any.
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    offset = np.lib.format.MAGIC_LEN + num_digits + length
    promised = offset + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or promised != num_bytes:
        raise ValueError(
            f"its header promises {promised} bytes, and it has {num_bytes}: it is damaged"
        )
    return ArrayFile(path, shape, dtype, fortran_order, offset, member)


def _data_offset(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Where the content of an uncompressed member begins in its archive."""
    # The local header has 30 bytes, then the name, then an extra field whose length may differ from
    # that in the directory.
    file.seek(member.header_offset + 26)
    lengths = file.read(4)
    name, extra = (int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
    return member.header_offset + 30 + name + extra
