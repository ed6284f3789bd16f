"""Splits of a data set: examples that are read by index."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tfp_smvi.config import Kind
from tfp_smvi.data.rows import spans
from tfp_smvi.data.values import parts_of, store_values, to_float

__all__ = [
    "ArraySplit",
    "PartSplit",
    "Split",
    "blocks",
    "content_fingerprint",
    "hash_array",
    "hash_blocks",
    "hold_out",
]


class Split(Protocol):
    """Examples that are read by index; the index of an example never changes."""

    @property
    def num_examples(self) -> int:
        """The number of examples."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one example."""

    @property
    def kind(self) -> Kind:
        """What the values are: intensities in [0, 1], any real numbers, or counts."""

    @property
    def has_missing(self) -> bool:
        """Whether some values are missing, which are NaN."""

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """The class of each example: int64 [num_examples], or None if the data have no labels."""

    def images(self, indices: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Reads examples, float32 [n, *image_shape], at indices [n] in any order."""


@dataclass(frozen=True, eq=False, repr=False)
class ArraySplit:
    """A split held in memory.

    Attributes:
        pixels: [num_examples, *image_shape], as in `tfp_smvi.data.values`; NaN is missing. A
            `Dataset` has them as they are stored.
        labels: int64 [num_examples] or None.
        kind: what the values are.
    """

    pixels: npt.NDArray[Any]
    labels: npt.NDArray[np.int64] | None
    kind: Kind = "intensities"

    def __repr__(self) -> str:
        """Such as "ArraySplit(1437 examples of shape (8, 8, 1), intensities, with labels)"."""
        labels = "no labels" if self.labels is None else "with labels"
        shape = f"{self.num_examples} examples of shape {self.image_shape}"
        return f"{type(self).__name__}({shape}, {self.kind}, {labels})"

    @property
    def num_examples(self) -> int:
        """The number of examples."""
        return len(self.pixels)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.pixels.shape[1:]

    @cached_property
    def stored(self) -> npt.NDArray[Any]:
        """The pixels as they are stored; what integers mean is decided on all of them."""
        if self.pixels.dtype.kind == "f":
            return self.pixels
        (stored,), _ = store_values({"pixels": self.pixels}, self.kind)
        return stored

    @cached_property
    def has_missing(self) -> bool:
        """Whether some values are missing, which are NaN."""
        return self.pixels.dtype.kind == "f" and any(
            np.isnan(part).any() for part in parts_of(self.pixels)
        )

    def images(self, indices: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Reads examples, float32 [n, *image_shape], at indices [n] in any order."""
        return to_float(self.stored[np.asarray(indices)])


@dataclass(frozen=True, eq=False)
class PartSplit:
    """Some examples of a split.

    Attributes:
        whole: the split.
        indices: those of the examples: int64 [num_examples].
    """

    whole: Split
    indices: npt.NDArray[np.int64]

    @property
    def num_examples(self) -> int:
        """The number of images."""
        return len(self.indices)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one image."""
        return self.whole.image_shape

    @property
    def kind(self) -> Kind:
        """What the values are."""
        return self.whole.kind

    @property
    def has_missing(self) -> bool:
        """Whether some values of the whole split are missing."""
        return self.whole.has_missing

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """The class of each image: int64 [num_examples], or None if the data have no labels."""
        return None if self.whole.labels is None else self.whole.labels[self.indices]

    def images(self, indices: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Reads images, float32 [n, *image_shape], at indices [n] in any order."""
        return self.whole.images(self.indices[np.asarray(indices)])


def hold_out(split: Split, number: int) -> tuple[PartSplit, PartSplit]:
    """Divides a split at random, always in the same way: the rest, and `number` examples."""
    # The legacy generator: its numbers stay the same in all versions of NumPy.
    order = np.random.RandomState(0).permutation(split.num_examples)
    rest, held_out = np.sort(order[number:]), np.sort(order[:number])
    return PartSplit(split, rest), PartSplit(split, held_out)


def blocks(split: Split) -> Iterator[npt.NDArray[np.float32]]:
    """Reads a split in order, some examples at a time: float32 [n, *image_shape]."""
    shape = (split.num_examples, *split.image_shape)
    return (split.images(np.arange(start, stop)) for start, stop in spans(shape))


def content_fingerprint(train: ArraySplit, test: ArraySplit) -> str:
    """Hashes pixels and labels of both splits, with shapes and dtypes: SHA-256 in hex."""
    digest = hashlib.sha256()
    for array in (train.pixels, train.labels, test.pixels, test.labels):
        hash_array(digest, array)
    return digest.hexdigest()


def hash_array(digest: "hashlib._Hash", array: npt.NDArray[Any] | None) -> None:
    """Adds an array to a fingerprint, or that there is none."""
    if array is None:
        digest.update(b"none")
    else:
        hash_blocks(digest, array.shape, [array])


def hash_blocks(
    digest: "hashlib._Hash", shape: tuple[int, ...], blocks: Iterable[npt.NDArray[Any]]
) -> None:
    """Adds an array of a shape, which comes in blocks of one dtype, to a fingerprint."""
    for number, block in enumerate(blocks):
        if number == 0:
            digest.update(f"{block.dtype.str}{shape}".encode())
        digest.update(np.ascontiguousarray(block).data)
