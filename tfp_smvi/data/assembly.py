"""A data set from examples as they were given: what they mean, and where they are kept."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfp_smvi.config import DataConfig, Kind
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data.rows import Rows, SomeRows, blocks_of
from tfp_smvi.data.splits import ArraySplit, Split, hash_array, hash_blocks
from tfp_smvi.data.standardization import Standardization
from tfp_smvi.data.values import Meaning, Range, find_meaning, measure, to_float

__all__ = ["Contents", "DiskSplit", "Given", "assemble", "split_at_random"]

# Both splits together; larger sets are read from disk as they are needed.
MAX_BYTES_IN_MEMORY = 1 << 30


class Given(NamedTuple):
    """Examples as they were given.

    Attributes:
        name: what they are called in messages, such as "x_train".
        rows: their values, [n, d], [n, height, width] or [n, height, width, channels].
        labels: the classes, integers or texts, [n], or None.
        names: the names of the d entries, or None.
    """

    name: str
    rows: Rows
    labels: npt.NDArray[Any] | None = None
    names: tuple[str, ...] | None = None


class Contents(NamedTuple):
    """What a `Dataset` is made of, with the same names."""

    train: Split
    test: Split
    num_classes: int | None
    fingerprint: str
    notes: tuple[str, ...]
    names: tuple[str, ...] | None
    standardization: Standardization | None


class DiskSplit:
    """A split that is read from disk by index; see `tfp_smvi.data.Split`."""

    def __init__(
        self,
        given: Given,
        meaning: Meaning,
        values: Range,
        standardization: Standardization | None,
    ) -> None:
        """Takes the examples, what their values are, and how they are standardized."""
        self._rows, self.meaning, self._standardization = given.rows, meaning, standardization
        self.values = values
        if standardization is not None:
            standardized = map(standardization.apply, map(self._shaped, blocks_of(given.rows)))
            self.values = measure(standardized, given.name)
        self.kind: Kind = meaning.kind
        self.has_missing = values.num_missing > 0
        self.num_examples, self.labels = given.rows.shape[0], given.labels
        self.image_shape = _image_shape(given.rows)

    def images(self, indices: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Reads examples, float32 [n, *image_shape], at indices [n] in any order."""
        values = self._shaped(self._rows.read(np.asarray(indices, np.int64)))
        return to_float(_stored(values, self.meaning, self._standardization))

    def _shaped(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return values.reshape(-1, *_image_shape(self._rows))


def assemble(config: DataConfig, train: Given, test: Given) -> Contents:
    """Makes the data set of two splits.

    Raises:
        SMVIError: they do not fit together, or not what the configuration says of them.
    """
    _check_together(train, test)
    train, test, class_notes = _number_classes(train, test)
    both = {train.name: train, test.name: test}
    ranges = {name: measure(blocks_of(g.rows), name, g.rows.dtype) for name, g in both.items()}
    is_table = len(train.rows.shape) == 2
    meaning = find_meaning(ranges, is_table=is_table, kind=config.kind)
    scale = _standardize(train, meaning) if config.standardize else None
    num_bytes = sum(math.prod(given.rows.shape) for given in both.values())
    num_bytes *= 1 if meaning.storage in ("levels", "bits") else 4
    in_memory = num_bytes <= MAX_BYTES_IN_MEMORY
    train_split, test_split = (
        _to_memory(given, meaning, scale)
        if in_memory
        else DiskSplit(given, meaning, ranges[given.name], scale)
        for given in (train, test)
    )
    labels = [int(g.labels.max()) for g in (train, test) if g.labels is not None]
    return Contents(
        train_split,
        test_split,
        num_classes=max(labels) + 1 if labels else None,
        fingerprint=_fingerprint(both.values(), meaning),
        notes=(*meaning.notes, *class_notes, *_notes(ranges, both)),
        names=train.names,
        standardization=scale,
    )


def split_at_random(given: Given, config: DataConfig) -> tuple[Given, Given]:
    """Draws the test data of a set that is given as one, the same for the same seed.

    Both parts keep the order of the whole.

    Raises:
        SMVIError: one of them is empty.
    """
    assert config.test_fraction is not None
    num_examples = given.rows.shape[0]
    num_test = round(num_examples * config.test_fraction)
    if not 0 < num_test < num_examples:
        raise SMVIError(
            f"leaves {num_test} of {num_examples} examples to test on",
            field="test_fraction",
            value=config.test_fraction,
            remedy="give one that leaves some to test on and some to train on",
        )
    # The legacy generator: its numbers stay the same in all versions of NumPy.
    order = np.random.RandomState(config.split_seed).permutation(num_examples)
    parts = (np.sort(order[num_test:]), np.sort(order[:num_test]))
    train, test = (
        given._replace(
            name=f"{name} part of {given.name}",
            rows=SomeRows(given.rows, indices),
            labels=None if given.labels is None else given.labels[indices],
        )
        for name, indices in zip(("training", "test"), parts, strict=True)
    )
    return train, test


def _check_together(train: Given, test: Given) -> None:
    train_shape, test_shape = train.rows.shape[1:], test.rows.shape[1:]
    if train_shape != test_shape:
        raise SMVIError(
            f"examples of {train.name} have shape {train_shape}, and those of {test.name} "
            f"{test_shape}",
            remedy="give both the same shape",
        )
    if train.names != test.names:
        pairs = zip(train.names or (), test.names or (), strict=False)
        first = next(((a, b) for a, b in pairs if a != b), ("named", "not named"))
        raise SMVIError(
            f"columns of {train.name} and {test.name} differ: {first[0]} and {first[1]}",
            remedy="give both the same columns in the same order",
        )


def _number_classes(train: Given, test: Given) -> tuple[Given, Given, tuple[str, ...]]:
    """Turns classes that are texts into integers from 0, in the order of the texts."""
    labels = [given.labels for given in (train, test) if given.labels is not None]
    if all(part.dtype.kind in "ui" and part.min(initial=0) >= 0 for part in labels):
        return train, test, ()
    texts = [part.astype(str) for part in labels]
    try:  # a .csv file has all classes as texts
        numbers = [part.astype(np.int64) for part in texts]
    except ValueError:
        numbers = []
    if numbers and all((part >= 0).all() for part in numbers):
        coded, notes = numbers, tuple[str, ...]()
    else:
        names = np.unique(np.concatenate(texts))
        coded = [np.searchsorted(names, part).astype(np.int64) for part in texts]
        shown = ", ".join(f"{i} = {name}" for i, name in enumerate(names[:10]))
        more = ", ..." if len(names) > 10 else ""
        notes = (f"The classes are numbered in the order of their names: {shown}{more}.",)
    train, test = (
        given if given.labels is None else given._replace(labels=coded.pop(0))
        for given in (train, test)
    )
    return train, test, notes


def _standardize(train: Given, meaning: Meaning) -> Standardization:
    if meaning.kind != "real":
        raise SMVIError(
            f"is for real values, and these are taken for {meaning.kind}",
            field="standardize",
            remedy="leave it out, or give real as {kind}",
        )
    image_shape = _image_shape(train.rows)
    return Standardization.of(b.reshape(-1, *image_shape) for b in blocks_of(train.rows))


def _image_shape(rows: Rows) -> tuple[int, ...]:
    """The shape of one example; an image without channels gets one."""
    shape = rows.shape[1:]
    return (*shape, 1) if len(shape) == 2 else shape


def _stored(
    values: npt.NDArray[Any], meaning: Meaning, standardization: Standardization | None
) -> npt.NDArray[Any]:
    return standardization.apply(values) if standardization else meaning.store(values)


def _to_memory(given: Given, meaning: Meaning, scale: Standardization | None) -> Split:
    image_shape, start = _image_shape(given.rows), 0
    pixels: npt.NDArray[Any] | None = None
    for block in blocks_of(given.rows):
        stored = _stored(block.reshape(-1, *image_shape), meaning, scale)
        if pixels is None:
            pixels = np.empty((given.rows.shape[0], *image_shape), stored.dtype)
        pixels[start : start + len(stored)] = stored
        start += len(stored)
    assert pixels is not None
    return ArraySplit(pixels, given.labels, meaning.kind)


def _notes(ranges: Mapping[str, Range], both: Mapping[str, Given]) -> Iterator[str]:
    for name, values in ranges.items():
        if values.num_empty:
            yield (
                f"{values.num_empty} of the {both[name].rows.shape[0]} examples of {name} have no "
                "value at all: their x is unknown, and their ELBO is 0 at best."
            )


def _fingerprint(splits: Iterable[Given], meaning: Meaning) -> str:
    """Hashes values as they are stored, before they are standardized, and labels."""
    digest = hashlib.sha256()
    for rows, labels in ((given.rows, given.labels) for given in splits):
        shape = (rows.shape[0], *_image_shape(rows))
        stored = (meaning.store(block.reshape(-1, *shape[1:])) for block in blocks_of(rows))
        hash_blocks(digest, shape, stored)
        hash_array(digest, labels)
    return digest.hexdigest()
