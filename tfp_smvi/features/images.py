"""Opens examples by the name that a user gives: a file, a folder, or a split of a data set."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tfp_smvi.core.errors import NotFoundError, SMVIError
from tfp_smvi.core.paths import expand_home
from tfp_smvi.data import ArraySplit, Split, load_dataset
from tfp_smvi.data.array_data import read_described_array
from tfp_smvi.data.assembly import Given
from tfp_smvi.data.rows import MaskedRows
from tfp_smvi.data.tables import read_table
from tfp_smvi.engines.recipes import Recipe
from tfp_smvi.features.image_files import ImageFiles
from tfp_smvi.features.sources import ArrayImages, ImageSource, SplitImages, TableRows, unreadable
from tfp_smvi.serving.encoders import Identity
from tfp_smvi.storage.array_files import list_arrays, open_array

__all__ = ["open_images"]

_Source = ArrayImages | ImageFiles | SplitImages | TableRows

_DATA_SET = "tfds:"
_TABLES = (".csv", ".parquet")
_ALLOWED = "give a .npy, .npz, .csv or .parquet file, a folder, or tfds:NAME/SPLIT"


def open_images(
    images: str | Path,
    key: str | None = None,
    data_dir: Path | str | None = None,
    *,
    label_column: str | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> ImageSource:
    """Opens examples by the name that a user gives.

    Args:
        images: a .npy or .npz file, a table in .csv or .parquet, a folder of PNG and JPEG files, or
            "tfds:NAME/SPLIT" with the name of a data set and train or test.
        key: the array in an .npz file; may be None if there is only one.
        data_dir: where prepared data sets are; None for the default.
        label_column: the column of a table that is left out, the class; None for "label" if there
            is one.
        note: receives lines for the user.

    Raises:
        SMVIError: there are no such examples, or they cannot be read.
    """
    name, folder = os.fspath(images), None if data_dir is None else Path(data_dir)
    source = _open(name, key, folder, label_column, note)
    of_data_set = name.startswith(_DATA_SET)
    source.recipe = Recipe(
        f"{__name__}:{open_images.__name__}",
        {
            "images": name if of_data_set else str(expand_home(images, "images").absolute()),
            "key": key,
            "data_dir": None if folder is None else str(folder.absolute()),
            "label_column": label_column,
        },
    )
    return source


def _open(
    name: str,
    key: str | None,
    data_dir: Path | None,
    label_column: str | None,
    note: Callable[[str], None],
) -> _Source:
    path = expand_home(name, "images")
    if key is not None and path.suffix != ".npz":
        raise _needless("key", key, f"chooses an array of an .npz file, and {name} is not one")
    if label_column is not None and path.suffix not in _TABLES:
        problem = f"names a column of a .csv or .parquet file, and {name} is not one"
        raise _needless("label_column", label_column, problem)
    if name.startswith(_DATA_SET):
        return _open_split(name, data_dir, note)
    if path.is_dir():
        return ImageFiles(path, note)
    if not path.exists():
        raise NotFoundError("does not exist", field="images", value=name, remedy=_ALLOWED)
    if path.suffix in _TABLES:
        return _open_table(path, name, label_column)
    if path.suffix not in (".npy", ".npz"):
        raise SMVIError("is not allowed", field="images", value=name, remedy=_ALLOWED)
    return _open_array(path, name, key)


def _needless(field: str, value: str, problem: str) -> SMVIError:
    return SMVIError(problem, field=field, value=value, remedy=f"leave {{{field}}} out")


def _open_table(path: Path, name: str, label_column: str | None) -> TableRows:
    try:
        identity, table = _identify(path, label_column=label_column), read_table(path, label_column)
    except OSError as error:
        raise SMVIError(
            f"cannot be read ({error.strerror})",
            field="images",
            value=name,
            remedy="give a table that you may read",
        ) from error
    except SMVIError as error:
        if error.field is not None:
            raise
        raise SMVIError(error.problem, field="images", value=name, remedy=error.remedy) from error
    return TableRows(table.rows, identity, table.names or ())


def _identify(path: Path, **choice: str | None) -> Identity:
    stat = path.stat()
    chosen = {name: value for name, value in choice.items() if value}
    size = {"size": stat.st_size, "modified_ns": stat.st_mtime_ns}
    return {"file": str(path.resolve()), **size, **chosen}


def _open_array(path: Path, name: str, key: str | None) -> _Source:
    try:
        if path.suffix == ".npz":
            keys = list_arrays(path)
            key = _choose(name, key, keys)
            if (given := read_described_array(path, key, keys)) is not None:
                return _open_described(path, name, key, given)
        array, identity = open_array(path, key), _identify(path, key=key)
    except (SMVIError, MemoryError):
        raise
    except Exception as error:  # garbled bytes make zipfile and NumPy raise nearly anything
        raise unreadable(name, error) from error
    return ArrayImages(array, identity, f"{name}: {key}" if key else name)


def _open_described(path: Path, name: str, key: str, given: Given) -> _Source:
    """Opens an array that has a mask or names, which an encoder's own order may change."""
    masked = isinstance(given.rows, MaskedRows)
    identity = {**_identify(path, key=key), "described": 1 + masked}
    if given.rows.dtype.kind == "f":
        return TableRows(given.rows, identity, given.names)
    if masked:
        return TableRows(given.rows, identity, given.names, grey_levels=f"{name}: {key}")
    array = open_array(path, key)
    return ArrayImages(array, identity, f"{name}: {key}", names=given.names)


def _choose(name: str, key: str | None, keys: Sequence[str]) -> str:
    """Returns the array of an .npz file that is meant."""
    if key is None and len(keys) != 1:
        raise SMVIError(
            f"is needed: {name} has the arrays {', '.join(keys) or 'none'}",
            field="key",
            remedy="give one of them",
        )
    key = keys[0] if key is None else key
    if key not in keys:
        raise SMVIError(
            f"is not an array of {name}",
            field="key",
            value=key,
            remedy=f"give one of: {', '.join(keys) or 'none'}",
        )
    return key


def _open_split(name: str, data_dir: Path | None, note: Callable[[str], None]) -> _Source:
    dataset_name, _, split_name = name.removeprefix(_DATA_SET).rpartition("/")
    if not dataset_name or split_name not in ("train", "test"):
        raise SMVIError(
            "is not allowed",
            field="images",
            value=name,
            remedy="give tfds:NAME/train or tfds:NAME/test, such as tfds:mnist/test",
        )
    dataset = load_dataset(dataset_name, data_dir, progress=note)
    split: Split = getattr(dataset, split_name)
    identity = {"dataset": dataset_name, "split": split_name, "fingerprint": dataset.fingerprint}
    if isinstance(split, ArraySplit):
        return ArrayImages(split.pixels, identity, name)
    return SplitImages(split, identity)
