"""A loaded data set: two splits of images, their labels and a fingerprint of the contents."""

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tfp_smvi.config import LikelihoodName
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data.intensities import store_pixels, to_float

__all__ = [
    "ArraySplit",
    "Dataset",
    "Progress",
    "Split",
    "check_contents",
    "content_fingerprint",
    "prefers_gaussian",
]

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
    def real_valued(self) -> bool:
        """Whether values are any real numbers; otherwise they are intensities in [0, 1]."""

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """The class of each image: int64 [num_examples], or None if the data have no labels."""

    def images(self, indices: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Reads images, float32 [n, *image_shape], at indices [n] in any order."""


@dataclass(frozen=True, eq=False)
class ArraySplit:
    """A split held in memory.

    Attributes:
        pixels: [num_examples, *image_shape], of a kind in `tfp_smvi.data.intensities`. A `Dataset`
            has them as they are stored.
        labels: int64 [num_examples] or None.
        real_valued: whether float32 pixels are any real numbers rather than intensities in [0, 1].
    """

    pixels: npt.NDArray[Any]
    labels: npt.NDArray[np.int64] | None
    real_valued: bool = False

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
        return store_pixels({"pixels": self.pixels}).arrays[0]

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
        SMVIError: the two splits do not fit together, or floats that are not `real_valued` are
            outside [0, 1].
    """

    name: str
    train: Split
    test: Split
    num_classes: int | None
    fingerprint: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Stores pixels in memory in the same way, whoever made the splits."""
        both = {"train": self.train, "test": self.test}
        splits = {name: split for name, split in both.items() if isinstance(split, ArraySplit)}
        if not splits:
            return
        stored = store_pixels({name: split.pixels for name, split in splits.items()})
        for (name, split), pixels in zip(splits.items(), stored.arrays, strict=True):
            if stored.real_valued and not split.real_valued:
                raise SMVIError(
                    f"{name} has values outside [0, 1]",
                    field="real_valued",
                    value=False,
                    remedy="give True, or intensities in [0, 1]",
                )
            object.__setattr__(self, name, dataclasses.replace(split, pixels=pixels))
        object.__setattr__(self, "notes", (*self.notes, *stored.notes))

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one image, (height, width, channels), or (d,) for data that are vectors."""
        return self.train.image_shape

    @property
    def real_valued(self) -> bool:
        """Whether values are any real numbers; otherwise they are intensities in [0, 1]."""
        return self.train.real_valued

    @property
    def default_likelihood(self) -> LikelihoodName:
        """The likelihood that suits the values: "gaussian" if real or colour, else "bernoulli"."""
        return "gaussian" if prefers_gaussian(self.image_shape, self.real_valued) else "bernoulli"


def prefers_gaussian(image_shape: tuple[int, ...], real_valued: bool) -> bool:
    """Whether a Gaussian likelihood suits the values better than binarized intensities.

    Drawing each channel to be 0 or 1 loses nearly all of a colour image, with alpha or without, and
    little of a grey one.
    """
    return real_valued or (len(image_shape) == 3 and image_shape[-1] in (3, 4))


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
