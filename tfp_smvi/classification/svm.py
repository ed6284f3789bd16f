"""A support vector machine on few labelled examples, chosen without a look at the test set.

References:
    [1] D. P. Kingma, D. J. Rezende, S. Mohamed, M. Welling. Semi-supervised Learning with Deep
        Generative Models. NeurIPS 2014. The model M1.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.metrics.pairwise import linear_kernel, rbf_kernel
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

from tfp_smvi.classification.labels import LabelArray
from tfp_smvi.classification.results import Choice, Kernel

__all__ = ["Outcome", "choose", "measure_accuracy", "num_candidates"]

FeatureArray = npt.NDArray[np.floating]

# Wide enough for MNIST (docs/classification.md): features have a total variance of 1, whatever they
# are, so that one grid suits all of them.
GAMMAS: dict[Kernel, tuple[float | None, ...]] = {"rbf": (0.1, 0.3, 1.0, 3.0), "linear": (None,)}
COSTS: dict[Kernel, tuple[float, ...]] = {
    "rbf": (1.0, 10.0, 100.0),
    "linear": (0.1, 1.0, 10.0, 100.0),
}
# Test examples whose kernel matrix is in memory at once.
BLOCK = 1000


class Outcome(NamedTuple):
    """How well a classifier does.

    Attributes:
        accuracy: the share of the test examples whose class it finds.
        choice: what it is.
    """

    accuracy: float
    choice: Choice


def measure_accuracy(
    train: FeatureArray,
    train_labels: LabelArray,
    test: FeatureArray,
    test_labels: LabelArray,
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
        predicted = machine.predict(_gram(block, x, choice.gamma))
        num_right += int(np.sum(predicted == test_labels[start : start + BLOCK]))
    return Outcome(num_right / len(test), choice)


def choose(x: FeatureArray, labels: LabelArray, kernel: Kernel, num_folds: int) -> Choice:
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
                machine = SVC(kernel="precomputed", C=cost).fit(among, labels[inner])
                num_right = int(np.sum(machine.predict(across) == labels[held]))
                right[Choice(cost, gamma, standardize)] += num_right
    return right.most_common(1)[0][0]


def num_candidates(kernel: Kernel) -> int:
    """The number of classifiers to choose from."""
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
    def fit(cls, x: FeatureArray, standardize: bool) -> "_Scaling":
        mean, variances = x.mean(axis=0, dtype=np.float64), x.var(axis=0, dtype=np.float64)
        # The variance of equal numbers may be a rounding above 0.
        varied = np.ptp(x, axis=0) > 0.0
        if standardize:
            divisor = np.sqrt(variances * max(1, np.sum(varied)))
        else:
            divisor = np.full_like(variances, np.sqrt(variances.sum()))
        # What never varies says nothing.
        return cls(mean, np.where(varied, divisor, np.inf))

    def apply(self, x: FeatureArray) -> npt.NDArray[np.float64]:
        return (x - self.mean) / self.divisor


def _gram(x: FeatureArray, y: FeatureArray, gamma: float | None) -> npt.NDArray[np.float64]:
    return linear_kernel(x, y) if gamma is None else rbf_kernel(x, y, gamma=gamma)
