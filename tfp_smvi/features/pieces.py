"""The features of some examples in a row, and the file that holds them until all are done."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.serving.encoders import Features
from tfp_smvi.storage.arrays import DamagedFileError, read_arrays
from tfp_smvi.storage.json_files import parse_json

__all__ = ["Piece", "parse_errors", "read_piece"]

# The arrays of a piece: the kind of their dtype, and the number of axes.
_ARRAYS = {"indices": ("i", 1), "mean": ("f", 2), "stddev": ("f", 2), "errors": ("u", 1)}


class Piece(NamedTuple):
    """The features of some examples.

    Attributes:
        indices: int64 [n], the examples that have features.
        features: their features.
        errors: why the others have none, by index.
    """

    indices: npt.NDArray[np.int64]
    features: Features
    errors: dict[int, str]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays of its file, by name; the errors are JSON, uint8 [bytes]."""
        errors = json.dumps([[index, reason] for index, reason in sorted(self.errors.items())])
        return {
            "indices": self.indices,
            **self.features._asdict(),
            "errors": np.frombuffer(errors.encode(), np.uint8),
        }


def read_piece(path: Path, name: str) -> npt.NDArray[Any]:
    """Reads an array of a piece.

    Raises:
        SMVIError: it cannot be read.
    """
    try:
        array = read_arrays(path, [name])[name]
        if (array.dtype.kind, array.ndim) != _ARRAYS[name]:
            raise DamagedFileError(f"{name} is {array.dtype} of shape {array.shape}")
        return array
    except (OSError, DamagedFileError) as error:
        raise _damaged(path, error) from error


def parse_errors(array: npt.NDArray[np.uint8], path: Path) -> list[tuple[int, str]]:
    """Returns the examples without features and the reasons, from the array of a piece.

    Raises:
        SMVIError: they are not there; the message names the file.
    """
    try:
        return [(int(index), str(reason)) for index, reason in parse_json(array.tobytes())]
    except (ValueError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, reason: Exception) -> SMVIError:
    remedy = "delete it and run the same command again"
    return SMVIError(f"{path} cannot be read ({reason})", remedy=remedy)
