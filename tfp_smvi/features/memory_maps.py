"""Arrays of .npy and .npz files, mapped into memory instead of read where that is possible."""

import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import SMVIError

__all__ = ["MappedArray", "map_array"]


class MappedArray(NamedTuple):
    """An array of a file.

    Attributes:
        array: the array, mapped into memory unless it is compressed.
        key: its name in an .npz file; None for a .npy file.
    """

    array: npt.NDArray[Any]
    key: str | None


def map_array(path: Path, key: str | None) -> MappedArray:
    """Maps the array of a .npy or .npz file into memory.

    Args:
        path: the file.
        key: the array in an .npz file; None if there is only one.

    Raises:
        SMVIError: an .npz file has no array of this name, or several and `key` is None.
        Exception: the file cannot be read, or holds objects or another format.
    """
    if path.suffix == ".npz":
        return _map_npz(path, key)
    # Pickles are code: a data file must not be able to run any.
    return MappedArray(np.load(path, mmap_mode="r", allow_pickle=False), None)


def _map_npz(path: Path, key: str | None) -> MappedArray:
    """Maps an array of an .npz file into memory, or reads it if it is compressed."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        keys = list(archive.files)
        if key is None and len(keys) != 1:
            raise SMVIError(
                f"is needed: {path} has the arrays {', '.join(keys) or 'none'}",
                field="key",
                remedy="give one of them",
            )
        key = keys[0] if key is None else key
        if key not in keys:
            raise SMVIError(
                f"is not an array of {path}",
                field="key",
                value=key,
                remedy=f"give one of: {', '.join(keys) or 'none'}",
            )
        member = archive.zip.getinfo(f"{key}.npy")
        if member.compress_type != zipfile.ZIP_STORED:
            return MappedArray(archive[key], key)
        return MappedArray(_map_member(path, member), key)


def _map_member(path: Path, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Maps an uncompressed .npy file in an archive."""
    with path.open("rb") as file:
        # The local header has 30 bytes, then the name, then an extra field whose length may differ
        # from that in the directory.
        file.seek(member.header_offset + 26)
        lengths = file.read(4)
        file.seek(
            int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"),
            os.SEEK_CUR,
        )
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in read_header:
            raise ValueError(f"version {version} of the .npy format")
        shape, fortran_order, dtype = read_header[version](file)
        if dtype.hasobject:
            raise ValueError("object arrays")
        order: Any = "F" if fortran_order else "C"
        return np.memmap(path, dtype, "r", file.tell(), shape, order)
