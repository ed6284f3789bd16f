"""Labels: whether data have those that a classification needs, and the labelled subsets."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tfp_smvi.config import ClassifyConfig
from tfp_smvi.config.classify import DEFAULT_LABELS
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import Dataset

__all__ = [
    "LabelArray",
    "Labels",
    "check_labels",
    "choose_sizes",
    "labelled_subset",
    "make_labels",
    "read_labels",
]

LabelArray = npt.NDArray[np.int64]


class Labels(NamedTuple):
    """The classes of a data set's examples: places in the sorted list of labels that occur.

    Attributes:
        train: of the training examples: [num_train], in 0 .. num_classes - 1.
        test: of the test examples: [num_test], in 0 .. num_classes - 1.
        num_classes: the number of classes, each of which has a training or a test example.
        names: the labels of the classes as they are in the data, ascending: [num_classes].
    """

    train: LabelArray
    test: LabelArray
    num_classes: int
    names: LabelArray


def check_labels(
    dataset: Dataset, config: ClassifyConfig, note: Callable[[str], None] = lambda line: None
) -> None:
    """Checks, before anything is trained, that data have the labels that `classify` needs.

    Args:
        dataset: the data.
        config: the settings.
        note: as in `choose_sizes`.

    Raises:
        SMVIError: they have none, or too few of a class.
    """
    choose_sizes(read_labels(dataset, config), config, note)


def choose_sizes(
    labels: Labels, config: ClassifyConfig, note: Callable[[str], None]
) -> tuple[int, ...]:
    """The numbers of labels to classify with: as set, or the default ones that the data allow.

    Args:
        labels: the labels of the data.
        config: the settings.
        note: is called with one line for each default number that is left out.

    Raises:
        SMVIError: a number that was set does not fit, or no default number does.
    """
    if config.labels is not None:
        for size in config.labels:
            _check_size(labels, size, config.num_folds)
        return config.labels
    sizes = []
    for size in DEFAULT_LABELS:
        try:
            _check_size(labels, size, config.num_folds)
        except SMVIError as error:
            if error.field is None:
                raise  # no number would fit
            note(f"Classification from {size} labels is left out: {size} {error.problem}.")
        else:
            sizes.append(size)
    if not sizes:
        counts = np.bincount(labels.train, minlength=labels.num_classes)
        raise SMVIError(
            f"none of the default numbers of labels, {', '.join(map(str, DEFAULT_LABELS))}, suits "
            f"{labels.num_classes} classes of which the smallest has {counts.min()} examples",
            remedy=f"give {{labels}}: multiples of {labels.num_classes}, at least "
            f"{labels.num_classes * config.num_folds}",
        )
    return tuple(sizes)


def _check_size(labels: Labels, size: int, num_folds: int) -> None:
    """Raises SMVIError if subsets of this size cannot be drawn, or not be divided into folds."""
    least = labels.num_classes * num_folds
    if size < least:
        raise SMVIError(
            f"is fewer than one example of each of the {labels.num_classes} classes for each of "
            f"the {num_folds} folds of the cross-validation",
            field="labels",
            value=size,
            remedy=f"give at least {least}",
        )
    _check_subset(labels.train, size, labels.num_classes, labels.names)


def read_labels(dataset: Dataset, config: ClassifyConfig) -> Labels:
    """Returns the labels of both splits, without classes that the data only could have.

    EMNIST's letters have 26 labels, 1 to 26, out of 37 that TensorFlow Datasets declares.

    Raises:
        SMVIError: the data cannot be classified with these settings.
    """
    train, test = dataset.train.labels, dataset.test.labels
    if train is None or test is None:
        raise SMVIError(
            f"{dataset.name} has no labels for both training and test data and cannot be "
            "classified",
            remedy="train on data with labels, such as mnist or an .npz file with y_train and "
            "y_test, or leave the classification out (tfp-smvi sweep --no-classify)",
        )
    labels = make_labels(train, test, dataset.name)
    if config.input == "binarized" and dataset.real_valued:
        raise SMVIError(
            f"needs intensities in [0, 1], and {dataset.name} has other values",
            field="input",
            value=config.input,
            remedy="give intensities, which takes values as they are",
        )
    return labels


def make_labels(train: LabelArray, test: LabelArray, what: str) -> Labels:
    """Numbers the classes of examples.

    Args:
        train: the labels of the training examples: [num_train].
        test: those of the test examples: [num_test].
        what: what the examples are, for a message.

    Raises:
        SMVIError: all examples have the same label.
    """
    names = np.union1d(train, test)
    if len(names) < 2:
        raise SMVIError(
            f"{what} has a single class, and there is nothing to classify",
            remedy="give data with two or more classes",
        )
    return Labels(np.searchsorted(names, train), np.searchsorted(names, test), len(names), names)


def labelled_subset(
    labels: LabelArray,
    num_labels: int,
    num_classes: int,
    seed: int,
    repeat: int,
    names: LabelArray | None = None,
) -> LabelArray:
    """Draws labelled examples, equally many of each class.

    The draw follows from the arguments alone: it is the same for every model of the same data.
    Subsets of different sizes are drawn independently of each other.

    Args:
        labels: the classes of all examples, as in `Labels`.
        num_labels: the number of examples to draw, a multiple of num_classes.
        num_classes: the number of classes.
        seed: the user's seed.
        repeat: the number of the draw.
        names: the labels that messages name the classes by; None if they count from 0.

    Returns:
        Indices [num_labels], class by class.

    Raises:
        SMVIError: num_labels is not such a multiple, or a class has too few examples.
    """
    from tfp_smvi.core.seeds import fold_seed  # it loads TensorFlow, which checks do not need

    _check_subset(labels, num_labels, num_classes, names)
    words = fold_seed(seed, "labelled_subset", num_labels, repeat).numpy().view(np.uint32)
    order = np.argsort(np.random.default_rng(words).random(len(labels)))
    return np.concatenate(
        [
            order[labels[order] == number][: num_labels // num_classes]
            for number in range(num_classes)
        ]
    )


def _check_subset(
    labels: LabelArray, num_labels: int, num_classes: int, names: LabelArray | None
) -> None:
    """Raises SMVIError if `labelled_subset` could not draw."""
    names = np.arange(num_classes) if names is None else names
    if num_labels % num_classes:
        raise SMVIError(
            f"is not a multiple of the {num_classes} classes",
            field="labels",
            value=num_labels,
            remedy=f"give one, such as {max(1, num_labels // num_classes) * num_classes}",
        )
    per_class, counts = num_labels // num_classes, np.bincount(labels, minlength=num_classes)
    if counts.min() == 0:
        raise SMVIError(
            f"label {names[counts.argmin()]} is in the test data and has no example to train on",
            remedy="leave such examples out of the test data",
        )
    if counts.min() < per_class:
        raise SMVIError(
            f"asks for {per_class} examples of each class, and label {names[counts.argmin()]} has "
            f"{counts.min()} to train on",
            field="labels",
            value=num_labels,
            remedy=f"give at most {counts.min() * num_classes}",
        )
