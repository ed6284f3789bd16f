"""A loaded data set: two splits of images, their labels and a fingerprint of the contents."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, cast, get_args

import numpy as np
import numpy.typing as npt

from tfp_smvi.config import Kind, LikelihoodName
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data.values import parts_of, store_values, to_float

__all__ = [
    "ArraySplit",
    "Dataset",
    "Progress",
    "Split",
    "blocks",
    "check_contents",
    "content_fingerprint",
    "default_likelihood",
]

# Numbers that are read at a time.
BLOCK_NUMBERS = 1 << 20

# Receives one line for a person when loading has slow work to do.
Progress = Callable[[str], None]


class Split(Protocol):
    """Images that are read by index; the index of an image never changes."""

    @property
    def num_examples(self) -> int:
        """The number of images."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one image."""

    @property
    def kind(self) -> Kind:
        """What the values are: intensities in [0, 1], any real numbers, or counts."""

    @property
    def has_missing(self) -> bool:
        """Whether some values are missing, which are NaN."""

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """The class of each image: int64 [num_examples], or None if the data have no labels."""

    def images(self, indices: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Reads images, float32 [n, *image_shape], at indices [n] in any order."""


@dataclass(frozen=True, eq=False)
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

    @property
    def num_examples(self) -> int:
        """The number of images."""
        return len(self.pixels)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one image."""
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
        """Reads images, float32 [n, *image_shape], at indices [n] in any order."""
        return to_float(self.stored[np.asarray(indices)])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A loaded data set.

    Attributes:
        name: the name or path that it was loaded by.
        train: the images to train on.
        test: the images to evaluate on.
        num_classes: the number of classes of the labels, or None if there are no labels.
        fingerprint: SHA-256, in hex, that changes when the images, the labels or their order
            change.
        notes: what loading has changed in the values, one line each.

    Raises:
        SMVIError: the two splits do not fit together, or values are not of their kind.
    """

    name: str
    train: Split
    test: Split
    num_classes: int | None
    fingerprint: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Stores pixels in memory in the same way, whoever made the splits."""
        if self.train.kind != self.test.kind:
            raise SMVIError(
                f"is {self.train.kind} for training data and {self.test.kind} for test data",
                field="kind",
                remedy="give the same for both",
            )
        both = {"train": self.train, "test": self.test}
        splits = {name: split for name, split in both.items() if isinstance(split, ArraySplit)}
        if not splits:
            return
        arrays = {name: split.pixels for name, split in splits.items()}
        stored, meaning = store_values(arrays, self.kind)
        for (name, split), pixels in zip(splits.items(), stored, strict=True):
            object.__setattr__(self, name, dataclasses.replace(split, pixels=pixels))
        object.__setattr__(self, "notes", (*self.notes, *meaning.notes))

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one image, (height, width, channels), or (d,) for data that are vectors."""
        return self.train.image_shape

    @property
    def kind(self) -> Kind:
        """What the values are: intensities in [0, 1], any real numbers, or counts."""
        return self.train.kind

    @property
    def real_valued(self) -> bool:
        """Whether values may be outside [0, 1]."""
        return self.kind != "intensities"

    @property
    def has_missing(self) -> bool:
        """Whether some values of either split are missing, which are NaN."""
        return self.train.has_missing or self.test.has_missing

    @cached_property
    def num_categories(self) -> int | None:
        """The number of categories if counts are those: the largest of both splits plus 1."""
        if self.kind != "counts":
            return None
        return (
            int(max(np.nanmax(x) for split in (self.train, self.test) for x in blocks(split))) + 1
        )

    @property
    def default_likelihood(self) -> LikelihoodName:
        """The likelihood that suits the values; see `default_likelihood`."""
        return default_likelihood(self.kind, self.image_shape)


def default_likelihood(kind: Kind, image_shape: tuple[int, ...]) -> LikelihoodName:
    """The likelihood that suits values of a kind.

    It is "poisson" for counts, "gaussian" for reals and colours, and "bernoulli" for other
    intensities: drawing each channel to be 0 or 1 loses nearly all of a colour image, with alpha or
    without, and little of a grey one.
    """
    if kind == "counts" and "poisson" in get_args(LikelihoodName):
        return cast(LikelihoodName, "poisson")
    is_colour = len(image_shape) == 3 and image_shape[-1] in (3, 4)
    return "gaussian" if kind != "intensities" or is_colour else "bernoulli"


def blocks(split: Split) -> Iterator[npt.NDArray[np.float32]]:
    """Reads a split in order, some examples at a time: float32 [n, *image_shape]."""
    size = max(1, BLOCK_NUMBERS // max(math.prod(split.image_shape), 1))
    for start in range(0, split.num_examples, size):
        yield split.images(np.arange(start, min(start + size, split.num_examples)))


def content_fingerprint(train: ArraySplit, test: ArraySplit) -> str:
    """Hashes pixels and labels of both splits, with shapes and dtypes: SHA-256 in hex."""
    digest = hashlib.sha256()
    for array in (train.pixels, train.labels, test.pixels, test.labels):
        header = "none" if array is None else f"{array.dtype.str}{array.shape}"
        digest.update(header.encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def check_contents(dataset: Dataset, expected: str, remedy: str) -> Dataset:
    """Returns the data set if its fingerprint is the one on record.

    Raises:
        SMVIError: the contents differ.
    """
    if dataset.fingerprint != expected:
        raise SMVIError(
            f"the contents of data set {dataset.name!r} are not the known ones: "
            f"their fingerprint is {dataset.fingerprint[:12]}, and not {expected[:12]}",
            remedy=remedy,
        )
    return dataset
