"""Where images come from: a .npy or .npz file, a folder of image files, or a split of a data set."""

import hashlib
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.data import ArraySplit, Split, load_dataset

__all__ = ["ArrayImages", "ImageFiles", "ImageSource", "ImagesRead", "SplitImages", "open_images"]

_SUFFIXES = (".png", ".jpg", ".jpeg")
# Images that are looked at to tell binary images in integers from grey levels.
_SAMPLE = 1000


class ImagesRead(NamedTuple):
    """Some images of a source.

    Attributes:
        indices: int64 [n], the images that could be read.
        images: what an encoder takes: an array [n, *image_shape], or a list of n files' bytes.
        errors: why the others could not be read, by index.
    """

    indices: npt.NDArray[np.int64]
    images: Any
    errors: dict[int, str]


class ImageSource(Protocol):
    """Images that are read by index; `read` may be called from several threads."""

    @property
    def num_images(self) -> int:
        """The number of images."""

    @property
    def signature(self) -> str:
        """How an encoder is asked: "uint8", "serving_default" or "encoded_image"."""

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """The shape of one image; None where each file has its own."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """JSON values that differ where the images may differ."""

    @property
    def id_dtype(self) -> np.dtype[Any]:
        """The dtype of the ids."""

    def read(self, start: int, stop: int) -> ImagesRead:
        """Reads the images from index `start` up to `stop`, exclusive."""

    def ids(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Returns the ids of images: [n]."""


class _Numbered:
    """Images whose ids are their indices."""

    id_dtype: np.dtype[Any] = np.dtype(np.int64)

    def ids(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Returns the ids of images: [n]."""
        return indices


class ArrayImages(_Numbered):
    """Images in an array, which may lie on disk.

    Args:
        array: [n, ...]: bool, integers that are grey levels of 0 to 255, or floats as the model
            takes them.
        identity: JSON values that stand for the contents.
        where: the name of the array in messages.

    Raises:
        SMVIError: it holds no images.
    """

    def __init__(self, array: npt.NDArray[Any], identity: Mapping[str, Any], where: str) -> None:
        """Looks at the dtype, the shape and the first images."""
        if array.dtype.kind not in "buif":
            raise SMVIError(
                f"{where} has dtype {array.dtype}; give bool, integers of 0 to 255, or floats."
            )
        if array.ndim < 2 or array.size == 0:
            raise SMVIError(
                f"{where} has shape {list(array.shape)}; give a non-empty array [n, *image_shape]."
            )
        if array.dtype.kind in "ui" and array[:_SAMPLE].max() <= 1:
            # As grey levels these images would be all but black.
            raise SMVIError(
                f"{where} has no integer above 1 at its start; for binary images give dtype bool."
            )
        self._array, self.identity = array, identity
        self.num_images, self.image_shape = len(array), array.shape[1:]
        self.signature = "serving_default" if array.dtype.kind == "f" else "uint8"

    def read(self, start: int, stop: int) -> ImagesRead:
        """Reads the images from index `start` up to `stop`, exclusive."""
        images = np.asarray(self._array[start:stop])
        indices = np.arange(start, start + len(images))
        if images.dtype.kind == "b":
            return ImagesRead(indices, images.astype(np.uint8) * np.uint8(255), {})
        if images.dtype.kind == "f":
            with np.errstate(over="ignore"):  # the model refuses what is not finite
                return ImagesRead(indices, images.astype(np.float32, order="C"), {})
        axes = tuple(range(1, images.ndim))
        lowest, highest = images.min(axis=axes), images.max(axis=axes)
        inside = (lowest >= 0) & (highest <= 255)
        errors = {
            int(i): f"it has values from {low} to {high}; integers must be grey levels of 0 to 255"
            for i, low, high in zip(
                indices[~inside], lowest[~inside], highest[~inside], strict=True
            )
        }
        return ImagesRead(indices[inside], images[inside].astype(np.uint8, order="C"), errors)


class SplitImages(_Numbered):
    """A split of a data set that is read from disk by index, with 8 bits a channel."""

    signature = "uint8"

    def __init__(self, split: Split, identity: Mapping[str, Any]) -> None:
        """Keeps the split."""
        self._split, self.identity = split, identity
        self.num_images, self.image_shape = split.num_examples, split.image_shape

    def read(self, start: int, stop: int) -> ImagesRead:
        """Reads the images from index `start` up to `stop`, exclusive."""
        indices = np.arange(start, min(stop, self.num_images))
        # images are grey levels divided by 255: the product is off a whole number by rounding
        # alone.
        return ImagesRead(indices, np.rint(self._split.images(indices) * 255).astype(np.uint8), {})


class ImageFiles:
    """The PNG and JPEG files of a folder and of those below it; ids are the paths in it, in their order.

    The names are held in memory, and nothing else of the files that are not being read.

    Args:
        folder: the folder.
        note: is told how many other files there are.

    Raises:
        SMVIError: there are no such files.
    """

    signature, image_shape = "encoded_image", None

    def __init__(self, folder: Path, note: Callable[[str], None] = lambda line: None) -> None:
        """Lists the files."""
        found = [(os.path.relpath(path, folder), stat) for path, stat in _files(folder)]
        files = sorted(file for file in found if file[0].lower().endswith(_SUFFIXES))
        if not files:
            raise SMVIError(
                f"{folder} has no files that end in {', '.join(_SUFFIXES)}; give a folder of images."
            )
        if len(files) < len(found):
            others = len(found) - len(files)
            note(
                f"Files in {folder} that do not end in {', '.join(_SUFFIXES)} are left out: {others}."
            )
        digest = hashlib.sha256()
        for name, stat in files:
            digest.update(os.fsencode(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\0"))
        self._folder, self._names = folder, [name for name, _ in files]
        self.num_images = len(files)
        self.identity = {
            "folder": str(folder.resolve()),
            "names, sizes and times": digest.hexdigest(),
        }
        self.id_dtype = np.dtype(f"U{max(len(_printable(name)) for name in self._names)}")

    def read(self, start: int, stop: int) -> ImagesRead:
        """Reads the images from index `start` up to `stop`, exclusive."""
        indices, images, errors = [], [], {}
        for index, name in enumerate(self._names[start:stop], start):
            try:
                images.append((self._folder / name).read_bytes())
                indices.append(index)
            except OSError as error:
                errors[index] = plain_reason(error)
        return ImagesRead(np.array(indices, np.int64), images, errors)

    def ids(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Returns the ids of images: [n]."""
        return np.array([_printable(self._names[index]) for index in indices], self.id_dtype)


def open_images(
    name: str | Path,
    key: str | None = None,
    data_dir: Path | None = None,
    *,
    note: Callable[[str], None] = lambda line: None,
) -> ImageSource:
    """Opens images by the name that a user gives.

    Args:
        name: a .npy or .npz file, a folder of PNG and JPEG files, or "tfds:NAME/SPLIT" with the
            name of a data set and train or test.
        key: the array in an .npz file; may be None where there is only one.
        data_dir: where prepared data sets live; None for the default.
        note: receives lines for a person.

    Raises:
        SMVIError: there is nothing of this kind, or it cannot be read.
    """
    path, name = Path(name).expanduser(), os.fspath(name)
    if key is not None and path.suffix != ".npz":
        raise SMVIError(f"--key chooses an array of an .npz file; {name} is none.")
    if name.startswith("tfds:"):
        return _open_split(name, data_dir, note)
    if path.is_dir():
        return ImageFiles(path, note)
    if path.suffix not in (".npy", ".npz"):
        raise SMVIError(f"{name} is no folder, .npy or .npz file; give one, or tfds:NAME/SPLIT.")
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
        array, key = _load_npz(path, key) if path.suffix == ".npz" else (_load_npy(path), None)
    except (OSError, EOFError, ValueError, TypeError, SyntaxError, zipfile.BadZipFile) as error:
        raise SMVIError(
            f"{name} cannot be read ({plain_reason(error)}); write it with numpy.save or numpy.savez."
        ) from error
    identity = {"file": str(path.resolve()), "size": stat.st_size, "modified_ns": stat.st_mtime_ns}
    where = f"{name}: {key}" if key else name
    return ArrayImages(array, identity | ({"key": key} if key else {}), where)


def _open_split(name: str, data_dir: Path | None, note: Callable[[str], None]) -> ImageSource:
    dataset_name, _, split_name = name.removeprefix("tfds:").rpartition("/")
    if not dataset_name or split_name not in ("train", "test"):
        raise SMVIError(
            f"{name} is not of the form tfds:NAME/SPLIT, such as tfds:mnist/test; splits: train, test."
        )
    dataset = load_dataset(dataset_name, data_dir, progress=note)
    split: Split = getattr(dataset, split_name)
    identity = {"dataset": dataset_name, "split": split_name, "fingerprint": dataset.fingerprint}
    if isinstance(split, ArraySplit):
        return ArrayImages(split.pixels, identity, name)
    return SplitImages(split, identity)


def _files(folder: Path) -> Sequence[tuple[str, os.stat_result]]:
    """Lists the files in a folder and below, with their size and time; links to folders are not followed."""
    files, folders = [], [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif not entry.is_dir():  # a broken link is a file that cannot be read
                        files.append((entry.path, entry.stat(follow_symlinks=False)))
        except OSError as error:
            raise SMVIError(
                f"cannot list {error.filename} ({error.strerror}); give permission to read it."
            ) from error
    return files


def _printable(name: str) -> str:
    """Replaces bytes of a file's name that are not UTF-8, which no file format takes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _load_npy(path: Path) -> npt.NDArray[Any]:
    # Pickles are code: a data file must not be able to run any.
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _load_npz(path: Path, key: str | None) -> tuple[npt.NDArray[Any], str]:
    """Maps an array of an .npz file into memory, or reads it where it is compressed."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        keys = list(archive.files)
        if key is None and len(keys) != 1:
            raise SMVIError(
                f"{path} has the arrays {', '.join(keys) or 'none'}; choose one with --key."
            )
        key = keys[0] if key is None else key
        if key not in keys:
            raise SMVIError(f"{path} has no array {key!r}; it has {', '.join(keys) or 'none'}.")
        member = archive.zip.getinfo(f"{key}.npy")
        if member.compress_type != zipfile.ZIP_STORED:
            return archive[key], key
        return _map_member(path, member), key


def _map_member(path: Path, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Maps an uncompressed .npy file within an archive."""
    with path.open("rb") as file:
        # The local header has 30 bytes, a name and an extra field whose length may differ from the
        # directory's.
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
