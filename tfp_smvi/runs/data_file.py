"""data.json of a run: the names of the entries of x, and how they were standardized."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.records import Record
from tfp_smvi.data import Dataset
from tfp_smvi.data.standardization import Standardization
from tfp_smvi.storage.atomic import write_json
from tfp_smvi.storage.json_files import read_json

__all__ = ["read_data_file", "write_data_file"]


@dataclass(frozen=True)
class _DataFile(Record):
    """The file's fields; None if the data have none.

    Attributes:
        names: the names of the entries of vectors.
        mean: what is subtracted from each entry of x, in the order of memory.
        stddev: what each entry is divided by.
    """

    names: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    stddev: tuple[float, ...] | None = None


def write_data_file(path: Path, dataset: Dataset) -> None:
    """Writes the file if there is something to keep.

    Raises:
        OSError: it cannot be written.
    """
    scale = dataset.standardization
    if scale is None and dataset.names is None:
        return
    mean, stddev = (None, None) if scale is None else (_numbers(scale.mean), _numbers(scale.stddev))
    write_json(path, _DataFile(dataset.names, mean, stddev))


def read_data_file(
    path: Path, image_shape: tuple[int, ...], standardized: bool
) -> tuple[tuple[str, ...] | None, Standardization | None]:
    """Reads the names and the standardization of the data of a run; None where it has none.

    Raises:
        SMVIError: the file is damaged, or missing although the data are standardized.
    """
    try:
        file = _DataFile.from_json(read_json(path)) if path.exists() else _DataFile()
        scale = _standardization(file, image_shape) if standardized else None
    except (OSError, ValueError, SMVIError) as error:
        raise SMVIError(
            f"{path} cannot be read ({str(error).removesuffix('.')})",
            remedy="run the training again, which restores it",
        ) from error
    return file.names, scale


def _standardization(file: _DataFile, image_shape: tuple[int, ...]) -> Standardization:
    size = math.prod(image_shape)
    if file.mean is None or file.stddev is None:
        raise ValueError("it does not say how the data were standardized")
    if not len(file.mean) == len(file.stddev) == size:
        raise ValueError(f"it must have mean and stddev of {size} entries")
    mean = np.array(file.mean, np.float64).reshape(image_shape)
    stddev = np.array(file.stddev, np.float32).reshape(image_shape)
    if not (np.isfinite(mean).all() and np.isfinite(stddev).all() and (stddev > 0).all()):
        raise ValueError("a mean is not finite, or a stddev not a positive number")
    return Standardization(mean, stddev)


def _numbers(array: npt.NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(array.reshape(-1).tolist())
