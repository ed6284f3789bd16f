"""The PNG and JPEG files of a folder, as bytes for an encoder that decodes them."""

import contextlib
import hashlib
import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.core.files import read_regular
from tfp_smvi.engines.recipes import Recipe
from tfp_smvi.features.sources import ImagesRead
from tfp_smvi.serving.encoders import Identity

__all__ = ["ImageFiles"]

_SUFFIXES = (".png", ".jpg", ".jpeg")
_JPEG = b"\xff\xd8\xff"
# The EXIF tag that says how an image is to be turned; 1 is as it is.
_ORIENTATION, _UPRIGHT = 0x0112, 1
# More than a file has of an image that a model takes.
_MAX_BYTES = 64_000_000
# Larger images are not decoded here: the model refuses them by their size.
_MAX_PIXELS = 1 << 25
# Images that are examined for pixels of 0 and 1 only; one that is brighter ends it.
_SAMPLE = 1000
_FILTERS = threading.Lock()


class ImageFiles:
    """The PNG and JPEG files of a folder and its subfolders; ids are their paths in it, sorted.

    Only the names are held in memory, and the files that are being read. An image is turned as its
    EXIF data say. Only regular files are read: a pipe would keep the work waiting.

    Args:
        folder: the folder.
        note: receives a line for each kind of other files, with their number.

    Raises:
        SMVIError: there are no such files, or the pixels of all are 0 and 1 of 255.
    """

    signature, image_shape = "encoded_image", None
    recipe: Recipe | None = None

    def __init__(self, folder: Path, note: Callable[[str], None] = lambda line: None) -> None:
        """Lists the files."""
        listing = _list(folder)
        files = sorted(listing.images)
        for count, what in (
            (listing.num_others, f"that do not end in {', '.join(_SUFFIXES)}"),
            (listing.num_doubles, "that begin with ._ (macOS's, which hold no image)"),
            (listing.num_special, "that are no regular files (pipes, devices, sockets)"),
        ):
            if count and files:
                note(f"Files in {_as_utf_8(str(folder))} {what} are left out: {count}.")
        if not files:
            raise SMVIError(
                f"has no files that end in {', '.join(_SUFFIXES)}",
                field="images",
                value=str(folder),
                remedy="give a folder of images",
            )
        digest = hashlib.sha256()
        for name, status in files:
            digest.update(os.fsencode(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0"))
        self._folder, self._names = folder, [name for name, _ in files]
        self.num_images = len(files)
        self.identity: Identity = {
            "folder": str(folder.resolve()),
            "names, sizes and times": digest.hexdigest(),
        }
        self.id_dtype = np.dtype(f"U{max(len(_as_utf_8(name)) for name in self._names)}")
        self._require_levels()

    def read(self, start: int, stop: int) -> ImagesRead:
        """Reads the images from index `start` up to `stop`, exclusive."""
        indices, images, errors = [], [], {}
        for index, name in enumerate(self._names[start:stop], start):
            try:
                images.append(_turned(read_regular(self._folder / name, _MAX_BYTES)))
                indices.append(index)
            except (OSError, _UnusableImageError) as error:
                errors[index] = plain_reason(error)
        return ImagesRead(np.array(indices, np.int64), images, errors)

    def ids(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Returns the ids of images: [n]."""
        return np.array([_as_utf_8(self._names[index]) for index in indices], self.id_dtype)

    def _require_levels(self) -> None:
        """Refuses images of 0 and 1 only, which a model would see as black."""
        highest = 0
        for name in self._names[:_SAMPLE]:
            highest = max(highest, _largest_level(self._folder / name))
            if highest > 1:
                return
        if highest == 1:
            raise SMVIError(
                "has images whose pixels are 0 and 1 of 255 only, and nearly black",
                field="images",
                value=str(self._folder),
                remedy="save white as 255, or give an array of dtype bool",
            )


class _UnusableImageError(Exception):
    """An image that no model takes; the message is one line."""


class _Listing(NamedTuple):
    """The files of a folder and its subfolders, without linked folders.

    Attributes:
        images: files that may be images, by their path in the folder, with their stat.
        num_others: the number of regular files with other names.
        num_doubles: the number of macOS's AppleDouble files.
        num_special: the number of pipes, devices and sockets.
    """

    images: list[tuple[str, os.stat_result]]
    num_others: int
    num_doubles: int
    num_special: int


def _list(folder: Path) -> _Listing:
    images, others, doubles, special = [], 0, 0, 0
    for entry in _walk(folder):
        # A broken link is a file that cannot be read.
        if not entry.is_file() and not (entry.is_symlink() and not Path(entry.path).exists()):
            special += 1
        elif not entry.name.lower().endswith(_SUFFIXES):
            others += 1
        elif entry.name.startswith("._"):
            doubles += 1
        else:
            status = entry.stat(follow_symlinks=False)
            images.append((os.path.relpath(entry.path, folder), status))
    return _Listing(images, others, doubles, special)


def _walk(folder: Path) -> Sequence[os.DirEntry[str]]:
    files, folders = [], [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif not entry.is_dir():
                        files.append(entry)
        except OSError as error:
            raise SMVIError(
                f"cannot be listed: {error.filename} ({error.strerror})",
                field="images",
                value=str(folder),
                remedy="give permission to read it",
            ) from error
    return files


def _turned(data: bytes) -> bytes:
    """Returns an image as it is to be seen: turned as its EXIF data say, which models ignore.

    Raises:
        _UnusableImageError: its colours are those of print.
    """
    if not data.startswith(_JPEG) and b"eXIf" not in data:
        return data
    try:
        with _opened(data) as image:
            if image.mode == "CMYK":
                raise _UnusableImageError(
                    "it is a CMYK image, for print; convert it to RGB or to grey levels"
                )
            # To find the EXIF data of a PNG, Pillow may decode it.
            if (
                image.width * image.height > _MAX_PIXELS
                or image.getexif().get(_ORIENTATION, _UPRIGHT) == _UPRIGHT
            ):
                return data
            turned = io.BytesIO()
            ImageOps.exif_transpose(image).save(turned, "PNG")
            return turned.getvalue()
    except _UnusableImageError:
        raise
    except Exception:  # what cannot be decoded here is for the model to refuse
        return data


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Opens a PNG or a JPEG without Pillow's warnings: the model accepts an image or refuses it."""
    # The filters are those of the process: one thread at a time changes them and puts them back.
    with _FILTERS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            yield image


def _largest_level(path: Path) -> int:
    """The largest pixel of a PNG; 255 for what is none, or cannot be decoded here."""
    with contextlib.suppress(Exception), _opened(read_regular(path, _MAX_BYTES)) as image:
        if image.format == "PNG" and image.width * image.height <= _MAX_PIXELS:
            in_bands = image.mode in ("1", "L", "RGB", "I", "I;16")
            return int(np.max((image if in_bands else image.convert("RGB")).getextrema()))
    return 255


def _as_utf_8(name: str) -> str:
    """Replaces bytes of a file's name that are not UTF-8, which no file format takes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
