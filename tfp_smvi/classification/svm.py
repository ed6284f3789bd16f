"""A support vector machine on features of few labelled examples, chosen without a look at the test set.

References:
    [1] D. P. Kingma, D. J. Rezende, S. Mohamed, M. Welling. Semi-supervised Learning with Deep
        Generative Models. NeurIPS 2014. The model M1.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.metrics.pairwise import linear_kernel, rbf_kernel
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.seeds import fold_seed

__all__ = ["Choice", "Outcome", "choose", "labelled_subset", "measure_accuracy", "num_candidates"]

Features = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int64]
Kernel = Literal["rbf", "linear"]

# Wide enough for MNIST (docs/classification.md): features have a total variance of 1, whatever they
# are, so that one grid suits all of them.
GAMMAS: dict[Kernel, tuple[float | None, ...]] = {"rbf": (0.1, 0.3, 1.0, 3.0), "linear": (None,)}
COSTS: dict[Kernel, tuple[float, ...]] = {
    "rbf": (1.0, 10.0, 100.0),
    "linear": (0.1, 1.0, 10.0, 100.0),
}
# Test examples whose kernel matrix is in memory at once.
BLOCK = 1000


class Choice(NamedTuple):
    """What the cross-validation chose.

    Attributes:
        C: the cost of a margin that is violated.
        gamma: exp(-gamma |x - y|^2) for features of total variance 1, which is a multiple of
            scikit-learn's gamma="scale"; None for the linear kernel.
        standardize: whether each dimension was scaled to the same variance.
    """

    C: float
    gamma: float | None
    standardize: bool


class Outcome(NamedTuple):
    """How well a classifier does.

    Attributes:
        accuracy: the share of the test examples whose class it finds.
        choice: what it is.
    """

    accuracy: float
    choice: Choice


def labelled_subset(
    labels: Labels, num_labels: int, num_classes: int, seed: int, repeat: int
) -> Labels:
    """Draws labelled examples, equally many of each class.

    The draw follows from the arguments alone: it is the same for every model of the same data.
    Subsets of different sizes are drawn independently of each other.

    Args:
        labels: the classes of all examples, from 0.
        num_labels: how many to draw, a multiple of num_classes.
        num_classes: the number of classes.
        seed: the user's seed.
        repeat: the number of the draw.

    Returns:
        Indices [num_labels], class by class.

    Raises:
        SMVIError: num_labels is not such a multiple, or a class has too few examples.
    """
    if num_labels % num_classes:
        raise SMVIError(
            f"labels = {num_labels} is not a multiple of the {num_classes} classes; "
            f"give one, such as {max(1, num_labels // num_classes) * num_classes}."
        )
    each, counts = num_labels // num_classes, np.bincount(labels, minlength=num_classes)
    if counts.min() == 0:
        raise SMVIError(
            f"class {counts.argmin()} of {num_classes} has no example to train on; number the classes of y_train and "
            "y_test from 0 without a gap."
        )
    if counts.min() < each:
        raise SMVIError(
            f"labels = {num_labels} asks for {each} examples of each class, and class {counts.argmin()} has "
            f"{counts.min()} to train on; give at most {counts.min() * num_classes}."
        )
    words = fold_seed(seed, "labelled_subset", num_labels, repeat).numpy().view(np.uint32)
    order = np.argsort(np.random.default_rng(words).random(len(labels)))
    return np.concatenate([order[labels[order] == number][:each] for number in range(num_classes)])


def measure_accuracy(
    train: Features,
    train_labels: Labels,
    test: Features,
    test_labels: Labels,
    kernel: Kernel,
    num_folds: int,
) -> Outcome:
    """Trains a classifier on labelled examples and tests it.

    Args:
        train: features of the labelled examples [n, d].
        train_labels: their classes [n].
        test: features of the test examples [m, d].
        test_labels: their classes [m].
        kernel: "rbf" or "linear".
        num_folds: the folds of the cross-validation.

    Source: [1, section 2.1].
    """
    choice = choose(train, train_labels, kernel, num_folds)
    scaling = _Scaling.fit(train, choice.standardize)
    x = scaling.apply(train)
    machine = SVC(kernel="precomputed", C=choice.C).fit(_gram(x, x, choice.gamma), train_labels)
    num_right = 0
    for start in range(0, len(test), BLOCK):
        block = scaling.apply(test[start : start + BLOCK])
        found = machine.predict(_gram(block, x, choice.gamma))
        num_right += int(np.sum(found == test_labels[start : start + BLOCK]))
    return Outcome(num_right / len(test), choice)


def choose(x: Features, labels: Labels, kernel: Kernel, num_folds: int) -> Choice:
    """Chooses C, gamma and standardization by stratified cross-validation: the first among equals.

    Means and variances are those of all the given features: they use no label.

    Args:
        x: features [n, d].
        labels: their classes [n], of each at least num_folds.
        kernel: "rbf" or "linear".
        num_folds: the number of folds.
    """
    right: Counter[Choice] = Counter()
    folds = list(StratifiedKFold(num_folds).split(x, labels))
    for standardize, gamma in _candidates(kernel):
        scaled = _Scaling.fit(x, standardize).apply(x)
        # Computed once for all folds and costs, which scikit-learn's grid search would compute
        # again for each.
        gram = _gram(scaled, scaled, gamma)
        for inner, held in folds:
            among, across = gram[np.ix_(inner, inner)], gram[np.ix_(held, inner)]
            for cost in COSTS[kernel]:
                found = SVC(kernel="precomputed", C=cost).fit(among, labels[inner]).predict(across)
                right[Choice(cost, gamma, standardize)] += int(np.sum(found == labels[held]))
    return right.most_common(1)[0][0]


def num_candidates(kernel: Kernel) -> int:
    """How many classifiers there are to choose from."""
    return len(list(_candidates(kernel))) * len(COSTS[kernel])


def _candidates(kernel: Kernel) -> Iterator[tuple[bool, float | None]]:
    for standardize in (False, True):
        for gamma in GAMMAS[kernel]:
            yield standardize, gamma


class _Scaling(NamedTuple):
    """x -> (x - mean) / divisor, which gives a total variance of 1."""

    mean: npt.NDArray[np.float64]
    divisor: npt.NDArray[np.float64]

    @classmethod
    def fit(cls, x: Features, standardize: bool) -> "_Scaling":
        mean, variances = x.mean(axis=0, dtype=np.float64), x.var(axis=0, dtype=np.float64)
        # The variance of equal numbers may be a rounding above 0.
        varied = np.ptp(x, axis=0) > 0.0
        if standardize:
            divisor = np.sqrt(variances * max(1, np.sum(varied)))
        else:
            divisor = np.full_like(variances, np.sqrt(variances.sum()))
        # What never varies says nothing.
        return cls(mean, np.where(varied, divisor, np.inf))

    def apply(self, x: Features) -> npt.NDArray[np.float64]:
        return (x - self.mean) / self.divisor


def _gram(x: Features, y: Features, gamma: float | None) -> npt.NDArray[np.float64]:
    return linear_kernel(x, y) if gamma is None else rbf_kernel(x, y, gamma=gamma)
