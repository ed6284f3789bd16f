"""Sources of images, read by index: an array, a folder of image files, a split of a data set."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.data import Split
from tfp_smvi.serving.encoders import Identity, Images

__all__ = ["ArrayImages", "ImageFiles", "ImageSource", "ImagesRead", "SplitImages"]

_SUFFIXES = (".png", ".jpg", ".jpeg")
# The number of images that are examined to tell binary images in integers from grey levels.
_SAMPLE = 1000


class ImagesRead(NamedTuple):
    """Some images of a source.

    Attributes:
        indices: int64 [n], the images that could be read.
        images: what an encoder takes: an array [n, *image_shape], or the bytes of n files.
        errors: why the others could not be read, by index.
    """

    indices: npt.NDArray[np.int64]
    images: Images
    errors: dict[int, str]


class ImageSource(Protocol):
    """Images that are read by index; `read` may be called from several threads."""

    @property
    def num_images(self) -> int:
        """The number of images."""

    @property
    def signature(self) -> str:
        """The encoder's signature for them: "uint8", "serving_default" or "encoded_image"."""

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """The shape of one image; None if each file has its own."""

    @property
    def identity(self) -> Identity:
        """JSON values that differ wherever the images may differ."""

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
    """Images in an array, which may be mapped from a file.

    Args:
        array: [n, ...]: bool, integers that are grey levels of 0 to 255, or floats as the model
            takes them.
        identity: JSON values that identify the contents.
        name: the name of the array in messages.

    Raises:
        SMVIError: the array does not hold images.
    """

    def __init__(self, array: npt.NDArray[Any], identity: Identity, name: str) -> None:
        """Checks the dtype, the shape and the first images."""
        _require_images(array, name)
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
            with np.errstate(over="ignore"):  # the model refuses values that are not finite
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

    def __init__(self, split: Split, identity: Identity) -> None:
        """Stores the split."""
        self._split, self.identity = split, identity
        self.num_images, self.image_shape = split.num_examples, split.image_shape

    def read(self, start: int, stop: int) -> ImagesRead:
        """Reads the images from index `start` up to `stop`, exclusive."""
        indices = np.arange(start, min(stop, self.num_images))
        # images are grey levels divided by 255: the product differs from a whole number by rounding
        # only.
        return ImagesRead(indices, np.rint(self._split.images(indices) * 255).astype(np.uint8), {})


class ImageFiles:
    """The PNG and JPEG files of a folder and its subfolders; ids are their paths in it, sorted.

    Only the names are held in memory, and the files that are being read.

    Args:
        folder: the folder.
        note: receives a line with the number of other files, if there are any.

    Raises:
        SMVIError: there are no such files.
    """

    signature, image_shape = "encoded_image", None

    def __init__(self, folder: Path, note: Callable[[str], None] = lambda line: None) -> None:
        """Lists the files."""
        listed = [(os.path.relpath(path, folder), stat) for path, stat in _files(folder)]
        files = sorted(file for file in listed if file[0].lower().endswith(_SUFFIXES))
        if not files:
            raise SMVIError(
                f"has no files that end in {', '.join(_SUFFIXES)}",
                field="images",
                value=str(folder),
                remedy="give a folder of images",
            )
        if len(files) < len(listed):
            others = len(listed) - len(files)
            note(
                f"Files in {folder} that do not end in {', '.join(_SUFFIXES)} are left out: "
                f"{others}."
            )
        digest = hashlib.sha256()
        for name, stat in files:
            digest.update(os.fsencode(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\0"))
        self._folder, self._names = folder, [name for name, _ in files]
        self.num_images = len(files)
        self.identity: Identity = {
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


def _require_images(array: npt.NDArray[Any], name: str) -> None:
    """Raises an SMVIError unless an array may hold images."""
    problem = None
    if array.dtype.kind not in "buif":
        problem, allowed = f"has dtype {array.dtype}", "bool, integers of 0 to 255, or floats"
    elif array.ndim < 2 or array.size == 0:
        problem = f"has shape {list(array.shape)}"
        allowed = "a non-empty array [n, *image_shape]"
    elif array.dtype.kind in "ui" and array[:_SAMPLE].max() <= 1:
        # As grey levels these images would be almost black.
        problem, allowed = "begins with integers of 0 and 1 only", "dtype bool for binary images"
    if problem:
        raise SMVIError(problem, field="images", value=name, remedy=f"give {allowed}")


def _files(folder: Path) -> Sequence[tuple[str, os.stat_result]]:
    """Lists the files of a folder and its subfolders with their stat, without linked folders."""
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
                f"cannot be listed: {error.filename} ({error.strerror})",
                field="images",
                value=str(folder),
                remedy="give permission to read it",
            ) from error
    return files


def _printable(name: str) -> str:
    """Replaces bytes of a file's name that are not UTF-8, which no file format takes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
