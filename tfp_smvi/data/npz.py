"""A user's own images, from a NumPy .npz file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.core.paths import absolute
from tfp_smvi.data.dataset import ArraySplit, Dataset, content_fingerprint
from tfp_smvi.data.values import store_values
from tfp_smvi.storage.array_files import ArrayFile, list_arrays, open_array

__all__ = ["load_npz"]

Arrays = Mapping[str, npt.NDArray[Any]]


def load_npz(path: str | Path) -> Dataset:
    """Loads the arrays x_train and x_test, and y_train and y_test if they are there.

    Images are [n, height, width], [n, height, width, channels] or [n, d]; the first of these gets a
    channel. `tfp_smvi.data.values` says what their values mean. Labels are integers from 0,
    [n].

    Args:
        path: the file, written by numpy.savez or numpy.savez_compressed.

    Raises:
        SMVIError: the file or an array in it is not of this kind.
    """
    path = absolute(path, "dataset")
    arrays = _read(path)
    images = {
        key: arrays[key][..., np.newaxis] if arrays[key].ndim == 3 else arrays[key]
        for key in ("x_train", "x_test")
    }
    if images["x_train"].shape[1:] != images["x_test"].shape[1:]:
        raise SMVIError(
            f"{path}: images of x_train have shape {arrays['x_train'].shape[1:]}, "
            f"and those of x_test {arrays['x_test'].shape[1:]}",
            remedy="give both the same shape",
        )
    try:
        stored, meaning = store_values(images)
    except SMVIError as error:
        raise SMVIError(f"{path}: {error.problem}", remedy=error.remedy) from error
    train, test = (
        ArraySplit(pixels, _labels(path, split, arrays), meaning.kind)
        for split, pixels in zip(("train", "test"), stored, strict=True)
    )
    labels = [split.labels.max() for split in (train, test) if split.labels is not None]
    num_classes = int(max(labels)) + 1 if labels else None
    fingerprint = content_fingerprint(train, test)
    return Dataset(str(path), train, test, num_classes, fingerprint, meaning.notes)


def _read(path: Path) -> Arrays:
    """Reads the arrays that are used, all of them into memory."""
    if not path.is_file():
        reason = "no such file"
        if path.exists():
            reason = "is a folder" if path.is_dir() else "is not a regular file"
        raise SMVIError(
            f"{path}: {reason}", remedy="give an .npz file with the arrays x_train and x_test"
        )
    wanted = ("x_train", "x_test", "y_train", "y_test")
    try:
        present = list_arrays(path)
        files = {key: open_array(path, key) for key in wanted if key in present}
        # The headers first: values of another shape may fill the memory.
        for key in wanted[:2]:
            _check_shape(path, key, files[key].shape if key in files else None, present)
        for images, labels in zip(wanted[:2], wanted[2:], strict=True):
            if labels in files:
                _check_labels(path, labels, files[labels], files[images].shape[0])
        # The file may change or go while the arrays are in use.
        return {key: _in_memory(file.load()) for key, file in files.items()}
    except (SMVIError, MemoryError):
        raise
    except Exception as error:  # garbled bytes make zipfile and NumPy raise nearly anything
        raise SMVIError(
            f"{path}: cannot be read as .npz of plain arrays ({plain_reason(error)})",
            remedy="write it with numpy.savez and without object arrays",
        ) from error


def _check_shape(
    path: Path, key: str, shape: tuple[int, ...] | None, present: Sequence[str]
) -> None:
    if shape is None:
        raise SMVIError(
            f"{path}: has no array {key}, but {', '.join(present) or 'nothing'}",
            remedy="write x_train and x_test",
        )
    if len(shape) not in (2, 3, 4) or 0 in shape:
        raise SMVIError(
            f"{path}: {key} has shape {shape}",
            remedy="give [n, height, width], [n, height, width, channels] or [n, d], not empty",
        )


def _check_labels(path: Path, key: str, labels: ArrayFile, num_examples: int) -> None:
    if labels.shape != (num_examples,):
        raise SMVIError(
            f"{path}: {key} has shape {labels.shape} for {num_examples} images",
            remedy=f"give [{num_examples}]",
        )
    if labels.dtype.kind not in "ui":
        raise _no_classes(path, key, labels.dtype)


def _in_memory(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.array(values) if isinstance(values, np.memmap) else values


def _labels(path: Path, split: str, arrays: Arrays) -> npt.NDArray[np.int64] | None:
    labels = arrays.get(f"y_{split}")
    if labels is None:
        return None
    if labels.min() < 0:
        raise _no_classes(path, f"y_{split}", labels.dtype)
    return labels.astype(np.int64)


def _no_classes(path: Path, key: str, dtype: np.dtype[Any]) -> SMVIError:
    return SMVIError(
        f"{path}: {key} ({dtype}) must be integers from 0", remedy="number the classes from 0"
    )
