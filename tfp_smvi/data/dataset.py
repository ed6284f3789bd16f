"""A loaded data set: two splits of examples, their labels and a fingerprint of the contents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tfp_smvi.config import DataConfig, Kind, LikelihoodName
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data.array_data import give
from tfp_smvi.data.assembly import assemble, split_at_random
from tfp_smvi.data.splits import ArraySplit, Split, blocks
from tfp_smvi.data.standardization import Standardization
from tfp_smvi.data.values import store_values

__all__ = [
    "Dataset",
    "Progress",
    "check_contents",
    "default_likelihood",
]

# Receives one line for a person when loading has slow work to do.
Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A loaded data set.

    Attributes:
        name: the name or path that it was loaded by.
        train: the examples to train on.
        test: the examples to evaluate on.
        num_classes: the number of classes of the labels, or None if there are no labels.
        fingerprint: SHA-256, in hex, that changes when the examples, the labels or their order
            change.
        notes: what loading has changed in the values, and what is missing, one line each.
        config: how it was loaded, for `RunConfig`.
        names: the names of the entries of vectors, or None.
        standardization: how real values were standardized, or None if they were not.

    Raises:
        SMVIError: the two splits do not fit together, or values are not of their kind.
    """

    name: str
    train: Split
    test: Split
    num_classes: int | None
    fingerprint: str
    notes: tuple[str, ...] = ()
    config: DataConfig = None  # type: ignore[assignment]  # made from the name
    names: tuple[str, ...] | None = None
    standardization: Standardization | None = None

    def __post_init__(self) -> None:
        """Stores pixels in memory in the same way, whoever made the splits."""
        if self.config is not None:  # the loader has stored them
            if self.config.dataset != self.name:
                config = dataclasses.replace(self.config, dataset=self.name)
                object.__setattr__(self, "config", config)
            return
        object.__setattr__(self, "config", DataConfig(self.name))
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

    def __repr__(self) -> str:
        """Such as "Dataset('digits': 1437 to train, 360 to test, shape (8, 8, 1), intensities)"."""
        sizes = f"{self.train.num_examples} to train, {self.test.num_examples} to test"
        return f"Dataset({self.name!r}: {sizes}, shape {self.image_shape}, {self.kind})"

    @classmethod
    def from_arrays(
        cls,
        x_train: npt.ArrayLike,
        x_test: npt.ArrayLike | None = None,
        *,
        y_train: npt.ArrayLike | None = None,
        y_test: npt.ArrayLike | None = None,
        train_mask: npt.ArrayLike | None = None,
        test_mask: npt.ArrayLike | None = None,
        names: Sequence[str] | None = None,
        name: str = "arrays",
        test_fraction: float | None = None,
        split_seed: int = 0,
        kind: Kind | None = None,
        standardize: bool = False,
    ) -> Dataset:
        """Makes a data set of arrays, as the same arrays in a file would make it.

        Args:
            x_train: [n, d], [n, height, width] or [n, height, width, channels], of bool, integers
                or floats, as in `tfp_smvi.data.values`; NaN is missing.
            x_test: the same to test on; None with test_fraction.
            y_train: the classes, integers from 0, [n]; None if there are none.
            y_test: those of x_test.
            train_mask: bool of the shape of x_train, True where a value is observed; None for all.
            test_mask: that of x_test.
            names: the names of the d entries.
            name: what the data are called: `dataset` of the run's configuration.
            test_fraction: the fraction of x_train to test on, drawn at random.
            split_seed: the seed of that draw.
            kind: what the values are; None to find out.
            standardize: whether to scale real values to mean 0 and standard deviation 1.

        Returns:
            The data set. Train with `RunConfig(data=dataset.config)`; give the data set again to
            `evaluate` and `classify`, which cannot load it by its name.

        Raises:
            SMVIError: the arrays do not fit together, or are not of that kind.
        """
        # Whatever the data are called, the settings are those of a file.
        settings = DataConfig(
            "x.npy",
            test_fraction=test_fraction,
            split_seed=split_seed,
            kind=kind,
            standardize=standardize,
        )
        train = give("train", x_train, y_train, train_mask, names)
        if x_test is not None and test_fraction is None:
            test = give("test", x_test, y_test, test_mask, names)
        elif x_test is None and test_fraction is not None:
            train, test = split_at_random(train, settings)
        else:
            raise SMVIError(
                f"is {'not allowed' if test_fraction else 'needed'} "
                f"{'with' if test_fraction else 'without'} x_test",
                field="test_fraction",
                value=test_fraction,
                remedy="give one of both",
            )
        return cls(name, **assemble(settings, train, test)._asdict(), config=DataConfig(name))

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one x: (height, width, channels), or (d,) for data that are vectors."""
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
    if kind == "counts":
        return "poisson"
    is_colour = len(image_shape) == 3 and image_shape[-1] in (3, 4)
    return "gaussian" if kind != "intensities" or is_colour else "bernoulli"


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
