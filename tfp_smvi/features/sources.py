"""Sources of examples, read by index: what they have in common, arrays, tables and splits."""

import threading
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import SMVIError, brief, plain_reason
from tfp_smvi.data import Split
from tfp_smvi.data.rows import Rows
from tfp_smvi.data.values import are_bits, bits_to_levels
from tfp_smvi.engines.recipes import Recipe
from tfp_smvi.serving.encoders import Identity, Images
from tfp_smvi.storage.array_files import ArrayFile

__all__ = ["ArrayImages", "ImageSource", "ImagesRead", "SplitImages", "TableRows", "unreadable"]

# Examples that are examined at a time to tell bits from grey levels.
_PART = 1000


class ImagesRead(NamedTuple):
    """Some examples of a source.

    Attributes:
        indices: int64 [n], the examples that could be read.
        images: what an encoder takes: an array [n, *image_shape], or the bytes of n files.
        errors: why the others could not be read, by index.
    """

    indices: npt.NDArray[np.int64]
    images: Images
    errors: dict[int, str]


class ImageSource(Protocol):
    """Examples that are read by index; `read` may be called from several threads."""

    @property
    def num_images(self) -> int:
        """The number of examples."""

    @property
    def signature(self) -> str:
        """The encoder's signature for them: "uint8", "serving_default" or "encoded_image"."""

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """The shape of one example; None if each file has its own."""

    @property
    def identity(self) -> Identity:
        """JSON values that differ wherever the examples may differ."""

    @property
    def id_dtype(self) -> np.dtype[Any]:
        """The dtype of the ids."""

    def read(self, start: int, stop: int) -> ImagesRead:
        """Reads the examples from index `start` up to `stop`, exclusive."""

    def ids(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Returns the ids of examples: [n]."""


class _Numbered:
    """Examples whose ids are their indices."""

    id_dtype: np.dtype[Any] = np.dtype(np.int64)
    recipe: Recipe | None = None

    def ids(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Returns the ids of examples: [n]."""
        return indices


class ArrayImages(_Numbered):
    """Examples in an array, which may be in a file of which only the header has been read.

    Integers of 0 and 1 are bits if none of all is larger, as in a data set.

    Args:
        array: [n, ...]: bool, integers that are grey levels of 0 to 255 or bits, or floats as the
            model takes them.
        identity: JSON values that identify the contents.
        name: the name of the array in messages.
        as_values: integers are values as the model takes them, such as counts, and no grey levels.
        names: of the entries of vectors, or None.

    Raises:
        SMVIError: the array does not hold examples; the values of a file are read by `read`.
    """

    def __init__(
        self,
        array: npt.NDArray[Any] | ArrayFile,
        identity: Identity,
        name: str,
        *,
        as_values: bool = False,
        names: Sequence[str] | None = None,
    ) -> None:
        """Checks the dtype and the shape."""
        self.names = names
        _require_images(array.shape, array.dtype, name)
        self._source, self._name, self.identity = array, name, identity
        self._lock, self._loaded = threading.Lock(), False
        self.num_images, self.image_shape = array.shape[0], array.shape[1:]
        as_values = as_values or array.dtype.kind == "f"
        self.signature = "serving_default" if as_values else "uint8"

    def as_values(self) -> "ArrayImages":
        """Returns the same array for a model that takes no grey levels."""
        return ArrayImages(
            self._source, self.identity, self._name, as_values=True, names=self.names
        )

    def require_order(self, names: Sequence[str] | None) -> None:
        """Raises an SMVIError unless the entries have the names of a model's, if both are known."""
        if None not in (names, self.names) and tuple(names or ()) != tuple(self.names or ()):
            raise SMVIError(
                f"has other names or another order of them than the data of the model: "
                f"{_listed(names or ())}",
                field="images",
                value=self._name,
                remedy="give floats, which are put in their order, or integers in this order",
            )

    def read(self, start: int, stop: int) -> ImagesRead:
        """Reads the examples from index `start` up to `stop`, exclusive."""
        images = np.asarray(self._array[start:stop])
        indices = np.arange(start, start + len(images))
        if self.signature == "serving_default":
            return ImagesRead(indices, _to_float32(images), {})
        if self._has_bits:
            return ImagesRead(indices, bits_to_levels(np.ascontiguousarray(images)), {})
        if images.dtype == np.uint8:
            return ImagesRead(indices, np.ascontiguousarray(images), {})
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

    @property
    def _array(self) -> npt.NDArray[Any]:
        """The values, read at the first use."""
        with self._lock:
            if not self._loaded:
                self._values = self._load()
                parts = (self._values[i : i + _PART] for i in range(0, self.num_images, _PART))
                integer = self.signature == "uint8" and self._values.dtype.kind in "ui"
                low = integer and self._values[:_PART].min() < 0
                self._has_bits = not integer or (not low and are_bits(parts))
                self._loaded = True
        return self._values

    def _load(self) -> npt.NDArray[Any]:
        if not isinstance(self._source, ArrayFile):
            return self._source
        try:
            return self._source.load()
        except MemoryError:
            raise
        except Exception as error:  # garbled bytes make zipfile and NumPy raise nearly anything
            raise unreadable(self._name, error) from error


class TableRows(_Numbered):
    """The rows of a table: values as the model takes them, NaN for a missing one."""

    signature = "serving_default"

    def __init__(
        self,
        rows: Rows,
        identity: Identity,
        names: Sequence[str] | None,
        order: Sequence[int] | None = None,
        grey_levels: str | None = None,
    ) -> None:
        """Stores the rows and how to read them.

        Args:
            rows: [n, d], or [n, *image_shape] without names.
            identity: JSON values that identify the contents.
            names: those of the columns; None if they are not known.
            order: another order of the columns.
            grey_levels: the name of integers, which may be grey levels, with a mask.
        """
        self._rows, self.identity, self._names, self._order = rows, identity, names, order
        self._grey_levels = grey_levels
        self.num_images, self.image_shape = rows.shape[0], rows.shape[1:]

    def ordered(self, names: Sequence[str] | None) -> "TableRows":
        """Returns the rows with their columns in the order of a model's, found by name.

        Args:
            names: those that the model was trained on; None if they are not known, and columns are
                taken as they are.

        Raises:
            SMVIError: a column is missing, or is one too many.
        """
        if names is None or self._names is None or tuple(names) == tuple(self._names):
            return self
        places = {name: place for place, name in enumerate(self._names)}
        missing = [name for name in names if name not in places]
        others = [name for name in self._names if name not in set(names)]
        problems = [f"lacks {_listed(missing)}"] * bool(missing)
        problems += [f"has {_listed(others)} in addition"] * bool(others)
        if problems:
            raise SMVIError(
                f"has other columns than the data of the model: it {' and '.join(problems)}",
                field="images",
                remedy="give the columns that the model was trained on, in any order, and name one "
                "of other classes with {label_column}",
            )
        order = [places[name] for name in names]
        identity = {**self.identity, "columns": "by name"}
        return TableRows(self._rows, identity, names, order, self._grey_levels)

    def require_values(self, signatures: Collection[str]) -> None:
        """Raises an SMVIError if integers with a mask may be grey levels for a model."""
        if self._grey_levels is not None and "uint8" in signatures:
            raise SMVIError(
                "has integers with a mask, and the model takes intensities",
                field="images",
                value=self._grey_levels,
                remedy="give floats of 0 to 1, with NaN or the mask for what is missing",
            )

    def read(self, start: int, stop: int) -> ImagesRead:
        """Reads the rows from index `start` up to `stop`, exclusive."""
        indices = np.arange(start, min(stop, self.num_images))
        values = self._rows.read(indices)
        values = values if self._order is None else values[:, self._order]
        return ImagesRead(indices, _to_float32(values), {})


class SplitImages(_Numbered):
    """A split of a data set that is read from disk by index, with 8 bits a channel."""

    signature = "uint8"

    def __init__(self, split: Split, identity: Identity) -> None:
        """Stores the split."""
        self._split, self.identity = split, identity
        self.num_images, self.image_shape = split.num_examples, split.image_shape

    def read(self, start: int, stop: int) -> ImagesRead:
        """Reads the examples from index `start` up to `stop`, exclusive."""
        indices = np.arange(start, min(stop, self.num_images))
        # They are grey levels divided by 255: the product differs from a whole number by rounding
        # only.
        return ImagesRead(indices, np.rint(self._split.images(indices) * 255).astype(np.uint8), {})


def _listed(names: Sequence[str]) -> str:
    """The first of some names."""
    return ", ".join(map(brief, names[:5])) + ", ..." * (len(names) > 5)


def _to_float32(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # the model refuses values that are not finite
        return values.astype(np.float32, order="C")


def unreadable(name: str, reason: Exception) -> SMVIError:
    """The error of an array in a file that cannot be read."""
    return SMVIError(
        f"cannot be read ({plain_reason(reason)})",
        field="images",
        value=name,
        remedy="write it with numpy.save or numpy.savez",
    )


def _require_images(shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    """Raises an SMVIError unless an array may hold examples."""
    problem = None
    if dtype.kind not in "buif":
        problem, allowed = f"has dtype {dtype}", "bool, integers of 0 to 255, or floats"
    elif len(shape) < 2 or 0 in shape:
        problem = f"has shape {list(shape)}"
        allowed = "a non-empty array [n, *image_shape]"
    if problem:
        raise SMVIError(problem, field="images", value=name, remedy=f"give {allowed}")
