"""Arrays in .npz files: written whole or not at all, and read with every kind of damage found."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from tfp_smvi.core.errors import plain_reason
from tfp_smvi.storage.array_files import read_all
from tfp_smvi.storage.atomic import write_atomically

__all__ = ["DamagedFileError", "read_arrays", "write_arrays"]


class DamagedFileError(Exception):
    """A file that exists and cannot be read as what it should be; the message is one line."""


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], *, compress: bool = False) -> None:
    """Writes arrays to an .npz file, whole or not at all.

    Args:
        path: the file; one that exists is replaced.
        arrays: plain arrays by name.
        compress: whether to compress them.

    Raises:
        OSError: it cannot be written.
    """
    save = np.savez_compressed if compress else np.savez
    write_atomically(path, lambda file: save(file, allow_pickle=False, **arrays))


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Reads arrays of an .npz file; the CRC-32 of each is checked.

    Args:
        path: the file.
        names: the arrays to read; None for all.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFileError: it is damaged, lacks one of the names, or cannot be read.
    """
    try:
        return read_all(path, names)
    except (FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # garbled bytes make zipfile and NumPy raise nearly anything
        raise DamagedFileError(plain_reason(error)) from error
