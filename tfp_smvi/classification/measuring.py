"""The measurement of accuracies: subsets, classifiers, features of a run, kept baselines."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from tfp_smvi.classification.labels import Labels, choose_sizes, labelled_subset, read_labels
from tfp_smvi.classification.pca import PrincipalComponents
from tfp_smvi.classification.plan import Unit, baseline_key, plan_units, unit_cost
from tfp_smvi.classification.results import ENCODER, FEATURES, GIVEN, NAMES, PCA, Accuracy
from tfp_smvi.classification.svm import Outcome, measure_accuracy
from tfp_smvi.config import ClassifyConfig
from tfp_smvi.core.errors import RUN_AGAIN, SMVIError
from tfp_smvi.core.estimates import estimate
from tfp_smvi.core.reporters import EvaluationReporter
from tfp_smvi.data import Dataset, Split
from tfp_smvi.data.test_batches import read_inputs
from tfp_smvi.models.encoding import encode_means
from tfp_smvi.runs.loading import LoadedRun
from tfp_smvi.storage.locks import hold_folder
from tfp_smvi.storage.pieces import JSONStore

__all__ = ["FeatureArrays", "GivenMeasurement", "Measurement"]


class FeatureArrays(NamedTuple):
    """Features of the examples to train on, and of the test set: [n, d] each."""

    train: np.ndarray
    test: np.ndarray


class _SubsetMeasurement:
    """Classifiers on labelled subsets of examples, whatever the features are."""

    def __init__(
        self, labels: Labels, config: ClassifyConfig, reporter: EvaluationReporter
    ) -> None:
        """Draws the labelled subsets."""
        self._labels, self._config, self._reporter = labels, config, reporter
        self._sizes = choose_sizes(labels, config, reporter.note)
        train, _, num_classes, names = labels
        self._subsets = {
            size: [
                labelled_subset(train, size, num_classes, config.seed, repeat, names)
                for repeat in range(config.repeats)
            ]
            for size in self._sizes
        }
        # The examples that are read, out of perhaps many more.
        subsets = itertools.chain.from_iterable(self._subsets.values())
        self._labelled = np.unique(np.concatenate([*subsets]))

    def _measure(self, pool: ThreadPool, unit: Unit, features: FeatureArrays) -> Accuracy:
        labels, test_labels = self._labels.train, self._labels.test

        def measure(subset: np.ndarray) -> Outcome:
            x = features.train[np.searchsorted(self._labelled, subset)]
            num_folds = self._config.num_folds
            return measure_accuracy(
                x, labels[subset], features.test, test_labels, unit.kernel, num_folds
            )

        outcomes = []
        for outcome in pool.imap(measure, self._subsets[unit.num_labels]):
            outcomes.append(outcome)
            self._reporter.advance(self._cost([unit]) / self._config.repeats)
        values = tuple(outcome.accuracy for outcome in outcomes)
        mean = estimate(np.array(values))
        chosen = tuple(outcome.choice for outcome in outcomes)
        return Accuracy(*unit, mean.mean, mean.standard_error, values, chosen)

    def _cost(self, units: Iterable[Unit]) -> float:
        return sum((unit_cost(unit, self._config) for unit in units), 0.0)


class GivenMeasurement(_SubsetMeasurement):
    """All that a classification of given features measures.

    Args:
        labels: the classes of the examples.
        config: the settings.
        reporter: receives progress updates.

    Raises:
        SMVIError: there are not the labels that the settings need.
    """

    def measure(self, given: FeatureArrays, threads: int) -> list[Accuracy]:
        """Measures all units.

        Args:
            given: the features of all examples.
            threads: the number of classifiers to train at once.

        Returns:
            The results in the order of the report.
        """
        units = plan_units(self._config, self._sizes, (GIVEN,))
        self._reporter.begin(len(units), self._cost(units), 0.0)
        features = FeatureArrays(given.train[self._labelled], given.test)
        with ThreadPool(threads) as pool, threadpool_limits(1, user_api="blas"):
            return [self._measure(pool, unit, features) for unit in units]


class Measurement(_SubsetMeasurement):
    """All that a classification measures, on one run and its data.

    Args:
        run: the run.
        dataset: its data.
        config: the settings.
        reporter: receives progress updates.

    Raises:
        SMVIError: the data do not have the labels that the settings need.
    """

    def __init__(
        self, run: LoadedRun, dataset: Dataset, config: ClassifyConfig, reporter: EvaluationReporter
    ) -> None:
        """Draws the labelled subsets."""
        super().__init__(read_labels(dataset, config), config, reporter)
        self._run, self._dataset = run, dataset

    def measure(self, baselines_dir: Path, threads: int) -> list[Accuracy]:
        """Measures all units except baselines whose results are kept.

        Args:
            baselines_dir: the folder of the baselines' results.
            threads: the number of classifiers to train at once.

        Returns:
            The results in the order of the report.
        """
        units = plan_units(self._config, self._sizes, FEATURES)
        baselines = [unit for unit in units if unit.is_baseline]
        store = JSONStore(baselines_dir)
        kept = self._load(store, baselines)
        self._reporter.begin(len(units), self._cost(units), self._cost(kept))
        # One thread for each classifier: then no bit depends on their number.
        with ThreadPool(threads) as pool, threadpool_limits(1, user_api="blas"):
            results = dict(self._measure_all(pool, [u for u in units if not u.is_baseline]))
            with hold_folder(baselines_dir, remedy=RUN_AGAIN):
                store.sweep()
                # Another process may have measured some meanwhile.
                stored = self._load(store, baselines)
                self._reporter.advance(self._cost(stored.keys() - kept.keys()))
                results |= stored
                missing = [unit for unit in baselines if unit not in stored]
                for unit, result in self._measure_all(pool, missing):
                    store.save(self._key(unit), result.to_json())
                    results[unit] = result
        return [results[unit] for unit in units]

    def _load(self, store: JSONStore, units: Iterable[Unit]) -> dict[Unit, Accuracy]:
        """The results that are kept; damaged ones are left out."""
        results = {}
        for unit in units:
            values = store.load(self._key(unit))
            if values is not None:
                results[unit] = Accuracy.from_json(values)
        return results

    def _measure_all(
        self, pool: ThreadPool, units: Sequence[Unit]
    ) -> Iterator[tuple[Unit, Accuracy]]:
        for name, group in itertools.groupby(units, lambda unit: unit.features):
            features = self._features(name)
            for unit in group:
                yield unit, self._measure(pool, unit, features)

    def _key(self, unit: Unit) -> dict[str, object]:
        return baseline_key(unit, self._config, self._run)

    def _features(self, name: str) -> FeatureArrays:
        images, test_images = self._read(self._dataset.train), self._read(self._dataset.test)
        if name == ENCODER:
            train = encode_means(self._run.model, images)[self._labelled]
            features = FeatureArrays(train, encode_means(self._run.model, test_images))
        else:
            test = np.concatenate([_flatten(x) for x in test_images])
            features = FeatureArrays(_take(images, self._labelled), test)
        if name == PCA:
            num_components = self._run.latent_dim
            batches = (tf.constant(_flatten(x)) for x in self._read(self._dataset.train))
            pca = PrincipalComponents(batches, num_components)
            features = FeatureArrays(pca.transform(features.train), pca.transform(features.test))
        if not all(np.isfinite(array).all() for array in features):
            raise SMVIError(
                f"the features ({NAMES[name]}) are not finite and cannot be classified",
                remedy="classify an earlier epoch or another run",
            )
        return features

    def _read(self, split: Split) -> Iterable[tf.Tensor]:
        return read_inputs(split, binarize=self._config.input == "binarized")


def _take(batches: Iterable[tf.Tensor], indices: np.ndarray) -> np.ndarray:
    """Takes the examples at ascending indices out of batches: [n, d]."""
    taken, start = [], 0
    for x in batches:
        low, high = np.searchsorted(indices, [start, start + len(x)])
        taken.append(_flatten(x)[indices[low:high] - start])
        start += len(x)
    return np.concatenate(taken)


def _flatten(x: tf.Tensor) -> np.ndarray:
    """The values of each example, with 0 for missing ones: [n, d]."""
    return np.nan_to_num(x.numpy(), nan=0.0).reshape(len(x), -1)
