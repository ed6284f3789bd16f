"""A user's own images, from a NumPy .npz file."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.core.paths import absolute
from tfp_smvi.data.dataset import ArraySplit, Dataset, content_fingerprint

__all__ = ["load_npz"]

Arrays = Mapping[str, npt.NDArray[Any]]


def load_npz(path: str | Path) -> Dataset:
    """Loads the arrays x_train and x_test, and y_train and y_test if they are there.

    Images are [n, height, width], [n, height, width, channels] or [n, d]; the first of these gets a
    channel. Integers are grey levels of 0 to 255; booleans are binary; floats are intensities if
    all values of both arrays are in [0, 1], and otherwise real values. Labels are integers from 0,
    [n].

    Args:
        path: the file, written by numpy.savez or numpy.savez_compressed.

    Raises:
        SMVIError: the file or an array in it is not of this kind.
    """
    path = absolute(path, "dataset")
    arrays = _read(path)
    for key in ("x_train", "x_test"):
        _check_images(path, key, arrays[key])
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        raise SMVIError(
            f"{path}: images of x_train have shape {arrays['x_train'].shape[1:]}, "
            f"and those of x_test {arrays['x_test'].shape[1:]}",
            remedy="give both the same shape",
        )
    if arrays["x_train"].dtype != arrays["x_test"].dtype:
        raise SMVIError(
            f"{path}: x_train is {arrays['x_train'].dtype} and x_test {arrays['x_test'].dtype}",
            remedy="give both the same dtype, so that their values mean the same",
        )
    real_valued = any(_outside_unit_interval(arrays[key]) for key in ("x_train", "x_test"))
    train = ArraySplit(
        _pixels(path, "x_train", arrays), _labels(path, "train", arrays), real_valued
    )
    test = ArraySplit(_pixels(path, "x_test", arrays), _labels(path, "test", arrays), real_valued)
    labels = [split.labels.max() for split in (train, test) if split.labels is not None]
    num_classes = int(max(labels)) + 1 if labels else None
    return Dataset(str(path), train, test, num_classes, content_fingerprint(train, test))


def _read(path: Path) -> Arrays:
    """Reads the arrays that are used, all of them into memory."""
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "no such file"
        raise SMVIError(
            f"{path}: {reason}", remedy="give an .npz file with the arrays x_train and x_test"
        )
    wanted = ("x_train", "x_test", "y_train", "y_test")
    try:
        # Pickles are code: a data file must not be able to run any.
        with path.open("rb") as file, _open_archive(file) as archive:
            arrays = {key: archive[key] for key in wanted if key in archive}
            present = ", ".join(archive) or "nothing"
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise SMVIError(
            f"{path}: cannot be read as .npz of plain arrays ({plain_reason(error)})",
            remedy="write it with numpy.savez and without object arrays",
        ) from error
    missing = [key for key in wanted[:2] if key not in arrays]
    if missing:
        raise SMVIError(
            f"{path}: has no array {' and no '.join(missing)}, but {present}",
            remedy="write x_train and x_test",
        )
    return arrays


def _open_archive(file: BinaryIO) -> Any:
    """Opens an archive; given anything else, NumPy would warn of pickles or return an array."""
    if not zipfile.is_zipfile(file):
        raise ValueError("it is not an .npz file, or it is cut short")
    file.seek(0)
    return np.load(file, allow_pickle=False)


def _check_images(path: Path, key: str, images: npt.NDArray[Any]) -> None:
    """Refuses arrays that cannot be images, or that are probably a mistake."""
    if images.dtype.kind not in "buif":
        raise SMVIError(
            f"{path}: {key} has dtype {images.dtype}",
            remedy="give bool, integers of 0 to 255, or floats",
        )
    if images.ndim not in (2, 3, 4) or images.size == 0:
        raise SMVIError(
            f"{path}: {key} has shape {images.shape}",
            remedy="give [n, height, width], [n, height, width, channels] or [n, d], not empty",
        )
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise SMVIError(
            f"{path}: {key} has values that are NaN or infinite", remedy="give finite values"
        )
    if images.dtype.kind in "ui" and (images.min() < 0 or images.max() > 255):
        raise SMVIError(
            f"{path}: {key} has integers from {images.min()} to {images.max()}",
            remedy="give 0 to 255, or floats",
        )
    if images.dtype.kind in "ui" and images.max() <= 1:
        # As grey levels these images would be all but black.
        raise SMVIError(
            f"{path}: {key} has no integer above 1", remedy="for binary images give dtype bool"
        )


def _outside_unit_interval(images: npt.NDArray[Any]) -> bool:
    return images.dtype.kind == "f" and bool(images.min() < 0 or images.max() > 1)


def _pixels(path: Path, key: str, arrays: Arrays) -> npt.NDArray[Any]:
    """Converts images to uint8 or float32, with a channel axis for [n, h, w]."""
    images = arrays[key]
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.dtype.kind == "b":
        return images.astype(np.uint8) * np.uint8(255)
    if images.dtype.kind in "ui":
        return images.astype(np.uint8, copy=False)
    with np.errstate(over="ignore"):
        pixels = images.astype(np.float32, copy=False)
    if not np.isfinite(pixels).all():
        raise SMVIError(f"{path}: {key} has values too large for float32", remedy="scale them down")
    return pixels


def _labels(path: Path, split: str, arrays: Arrays) -> npt.NDArray[np.int64] | None:
    labels, num_examples = arrays.get(f"y_{split}"), len(arrays[f"x_{split}"])
    if labels is None:
        return None
    if labels.shape != (num_examples,):
        raise SMVIError(
            f"{path}: y_{split} has shape {labels.shape} for {num_examples} images",
            remedy=f"give [{num_examples}]",
        )
    if labels.dtype.kind not in "ui" or labels.min() < 0:
        raise SMVIError(
            f"{path}: y_{split} ({labels.dtype}) must be integers from 0",
            remedy="number the classes from 0",
        )
    return labels.astype(np.int64)
