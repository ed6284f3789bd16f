"""A user's own examples in NumPy's files, .npz and .npy."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.core.files import open_regular
from tfp_smvi.data.assembly import Given
from tfp_smvi.data.rows import ArrayRows, FileRows, MaskedRows, Rows
from tfp_smvi.storage.array_files import ArrayFile, list_arrays, open_array

__all__ = ["give", "read_array_file"]

ArrayLike = ArrayFile | npt.NDArray[Any]

# The arrays of training data, of test data, and of data that are not split: values, classes, mask.
_KEYS = {
    "x_train": ("y_train", "train_mask"),
    "x_test": ("y_test", "test_mask"),
    "x": ("y", "mask"),
}


def read_array_file(path: Path) -> dict[str, Given]:
    """Reads the headers, labels and names of a file, and what values cannot be read later.

    A .npy file has one array. An .npz file has x_train and x_test, or x; beside them it may have
    classes (y_train, y_test or y), masks (train_mask, test_mask or mask, bool, True where a value
    is observed) and the names of entries (names, texts [d]).

    Returns:
        The examples by the name of their array; of a .npy file it is "x".

    Raises:
        SMVIError: the file or an array in it is not of this kind.
    """
    try:
        if path.suffix == ".npy":
            file = open_array(path)
            _check_shape(path.name, file.shape)
            return {"x": Given("x", _rows(path, file))}
        return _read_npz(path)
    except (SMVIError, MemoryError):
        raise
    except Exception as error:  # garbled bytes make zipfile and NumPy raise nearly anything
        save = "save" if path.suffix == ".npy" else "savez"
        raise SMVIError(
            f"cannot be read as {path.suffix} of plain arrays ({plain_reason(error)})",
            remedy=f"write it with numpy.{save} and without object arrays",
        ) from error


def give(
    part: str,
    x: npt.ArrayLike,
    y: npt.ArrayLike | None,
    mask: npt.ArrayLike | None,
    names: Sequence[str] | None,
) -> Given:
    """Checks the arrays of a split that is in memory.

    Args:
        part: "train" or "test".
        x: the values.
        y: the classes, or None.
        mask: bool, True where a value is observed, or None.
        names: the names of the entries, or None.

    Raises:
        SMVIError: they do not fit together.
    """
    values, classes = np.asarray(x), None
    _check_shape(f"x_{part}", values.shape)
    rows: Rows = ArrayRows(values)
    if mask is not None:
        observed = np.asarray(mask)
        _check_mask(f"{part}_mask", observed, values.shape)
        rows = MaskedRows(rows, ArrayRows(observed))
    if y is not None:
        labels = np.asarray(y)
        _check_labels(f"y_{part}", labels.shape, labels.dtype, len(values))
        classes = _to_classes(f"y_{part}", labels)
    if names is not None:
        _check_names(np.asarray(names), values.shape)
        names = tuple(names)
    return Given(f"x_{part}", rows, classes, names)


def _check_shape(name: str, shape: Sequence[int]) -> None:
    """Raises an SMVIError unless examples may have this shape, [n, ...]."""
    if len(shape) not in (2, 3, 4) or 0 in shape:
        raise SMVIError(
            f"{name} has shape {tuple(shape)}",
            remedy="give [n, height, width], [n, height, width, channels] or [n, d], not empty",
        )


def _check_labels(name: str, shape: Sequence[int], dtype: np.dtype[Any], num_examples: int) -> None:
    """Raises an SMVIError unless labels of this shape and dtype may be classes of examples."""
    if tuple(shape) != (num_examples,):
        raise SMVIError(
            f"{name} has shape {tuple(shape)} for {num_examples} examples",
            remedy=f"give [{num_examples}]",
        )
    if dtype.kind not in "ui":
        raise _no_classes(name, dtype)


def _check_mask(name: str, mask: ArrayLike, x_shape: Sequence[int]) -> None:
    """Raises an SMVIError unless a mask is one of examples of this shape."""
    if tuple(mask.shape) != tuple(x_shape) or mask.dtype != bool:
        raise SMVIError(
            f"{name} is {mask.dtype} of shape {mask.shape}",
            remedy=f"give bool of shape {tuple(x_shape)}, True where a value is observed",
        )


def _check_names(names: ArrayLike, x_shape: Sequence[int]) -> None:
    """Raises an SMVIError unless names are texts, one for each entry of vectors."""
    if names.dtype.kind != "U" or len(x_shape) != 2 or tuple(names.shape) != tuple(x_shape[1:]):
        raise SMVIError(
            f"names is {names.dtype} of shape {names.shape} for examples of shape "
            f"{tuple(x_shape[1:])}",
            remedy="give one text for each of the d entries of vectors [n, d]",
        )


def _to_classes(name: str, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Returns labels as int64.

    Raises:
        SMVIError: one is negative.
    """
    if labels.min(initial=0) < 0:
        raise _no_classes(name, labels.dtype)
    return labels.astype(np.int64)


def _read_npz(path: Path) -> dict[str, Given]:
    present = list_arrays(path)
    wanted = [key for key in ("x", "x_train", "x_test") if key in present]
    if wanted not in (["x"], ["x_train", "x_test"]):
        missing = "x_test" if "x_train" in wanted else "x_train"
        raise SMVIError(
            f"has {'' if wanted[1:] else f'no array {missing}, but '}"
            f"{', '.join(present) or 'nothing'}",
            remedy="write x_train and x_test, or x alone for {test_fraction} or {test_dataset}",
        )
    keys = [*wanted, *(key for name in wanted for key in _KEYS[name]), "names"]
    files = {key: open_array(path, key) for key in keys if key in present}
    # The headers first: values of another shape may fill the memory.
    for key in wanted:
        _check_headers(key, files)
    return {key: _given(path, key, files) for key in wanted}


def read_described_array(path: Path, key: str, present: Collection[str]) -> Given | None:
    """Reads an array of an .npz file with its mask and the names of its entries.

    Args:
        path: the file.
        key: the array.
        present: the arrays that the file has.

    Returns:
        The examples, without classes; None if the array has neither.

    Raises:
        SMVIError: the mask or the names do not suit it.
    """
    _, mask = _KEYS.get(key, ("", ""))
    described = [name for name in (mask, "names") if mask and name in present]
    if not described:
        return None
    files = {name: open_array(path, name) for name in (key, *described)}
    _check_headers(key, files)
    return _given(path, key, files)


def _check_headers(key: str, files: Mapping[str, ArrayFile]) -> None:
    shape = files[key].shape
    _check_shape(key, shape)
    labels, mask = _KEYS[key]
    if labels in files:
        _check_labels(labels, files[labels].shape, files[labels].dtype, shape[0])
    if mask in files:
        _check_mask(mask, files[mask], shape)
    if "names" in files:
        _check_names(files["names"], shape)


def _given(path: Path, key: str, files: Mapping[str, ArrayFile]) -> Given:
    labels, mask = _KEYS[key]
    rows = _rows(path, files[key])
    if mask in files:
        rows = MaskedRows(rows, _rows(path, files[mask]))
    classes = _to_classes(labels, files[labels].load()) if labels in files else None
    names = tuple(map(str, files["names"].load())) if "names" in files else None
    return Given(key, rows, classes, names)


def _rows(path: Path, array: ArrayFile) -> Rows:
    if not array.in_rows:
        return ArrayRows(np.array(array.load()))
    with open_regular(path) as file:
        return FileRows(file, path, array.place(file), array.shape, array.dtype)


def _no_classes(name: str, dtype: np.dtype[Any]) -> SMVIError:
    return SMVIError(
        f"{name} ({dtype}) must be integers from 0", remedy="number the classes from 0"
    )
