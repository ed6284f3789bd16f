"""The measurement of accuracies: subsets, classifiers, features of a run, kept baselines."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfp_smvi.classification.draws import Draws, FeatureArrays
from tfp_smvi.classification.labels import Labels, choose_sizes, labelled_subset, read_labels
from tfp_smvi.classification.pca import PrincipalComponents
from tfp_smvi.classification.plan import (
    Unit,
    baseline_key,
    package_versions,
    plan_units,
    unit_cost,
)
from tfp_smvi.classification.results import ENCODER, FEATURES, GIVEN, NAMES, PCA, Accuracy
from tfp_smvi.classification.workers import FeatureSource, Workers
from tfp_smvi.config import ClassifyConfig
from tfp_smvi.core.errors import RUN_AGAIN, SMVIError
from tfp_smvi.core.estimates import estimate
from tfp_smvi.core.records import JSONObject
from tfp_smvi.core.reporters import EvaluationReporter
from tfp_smvi.data import Dataset, Split
from tfp_smvi.data.test_batches import read_inputs
from tfp_smvi.models.encoding import encode_means
from tfp_smvi.runs.loading import LoadedRun
from tfp_smvi.runs.models import weights_digest
from tfp_smvi.storage.locks import hold_folder
from tfp_smvi.storage.pieces import JSONStore

__all__ = ["GivenMeasurement", "Measurement"]


class _SubsetMeasurement:
    """Classifiers on labelled subsets of examples, whatever the features are.

    Attributes:
        draws: the labelled subsets.
    """

    def __init__(
        self, labels: Labels, config: ClassifyConfig, reporter: EvaluationReporter
    ) -> None:
        """Draws the labelled subsets."""
        self._config, self._reporter = config, reporter
        self._sizes = choose_sizes(labels, config, reporter.note)
        train, test, num_classes, names = labels
        subsets = {
            size: [
                labelled_subset(train, size, num_classes, config.seed, repeat, names)
                for repeat in range(config.repeats)
            ]
            for size in self._sizes
        }
        # The examples that are read, out of perhaps many more.
        self._labelled = np.unique(
            np.concatenate([*itertools.chain.from_iterable(subsets.values())])
        )
        places = {
            size: np.searchsorted(self._labelled, np.stack(subset))
            for size, subset in subsets.items()
        }
        self.draws = Draws(train[self._labelled], test, places)

    def _measure(
        self, workers: Workers, units: Sequence[Unit], source: FeatureSource
    ) -> Iterator[tuple[Unit, Accuracy]]:
        def advance(unit: Unit, num_draws: int) -> None:
            self._reporter.advance(num_draws * self._cost([unit]) / self._config.repeats)

        for unit, outcomes in workers.measure(units, source, advance):
            values = tuple(outcome.accuracy for outcome in outcomes)
            mean = estimate(np.array(values))
            chosen = tuple(outcome.choice for outcome in outcomes)
            yield unit, Accuracy(*unit, mean.mean, mean.standard_error, values, chosen)

    def _cost(self, units: Iterable[Unit]) -> float:
        return sum((unit_cost(unit, self._config) for unit in units), 0.0)


class GivenMeasurement(_SubsetMeasurement):
    """All that a classification of given features measures.

    Args:
        labels: the classes of the examples.
        given: the features of all examples.
        fingerprint: a hash of features and labels.
        config: the settings.
        reporter: receives progress updates.

    Raises:
        SMVIError: there are not the labels that the settings need.
    """

    def __init__(
        self,
        labels: Labels,
        given: FeatureArrays,
        fingerprint: str,
        config: ClassifyConfig,
        reporter: EvaluationReporter,
    ) -> None:
        """Draws the labelled subsets."""
        super().__init__(labels, config, reporter)
        self._given, self._fingerprint = given, fingerprint

    def measure(self, workers: Workers) -> list[Accuracy]:
        """Measures all units, in the order of the report."""
        units = plan_units(self._config, self._sizes, (GIVEN,))
        self._reporter.begin(len(units), self._cost(units), 0.0)
        return [result for _, result in self._measure(workers, units, self)]

    def key(self, name: str) -> JSONObject:
        """Everything that the features depend on; see `FeatureSource`."""
        return {"given": self._fingerprint, "versions": package_versions()}

    def compute(self, name: str) -> FeatureArrays:
        """The features; see `FeatureSource`."""
        return FeatureArrays(self._given.train[self._labelled], self._given.test)


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

    def measure(self, baselines_dir: Path, workers: Workers) -> list[Accuracy]:
        """Measures all units except baselines whose results are kept.

        Args:
            baselines_dir: the folder of the baselines' results.
            workers: what measures draws.

        Returns:
            The results in the order of the report.
        """
        units = plan_units(self._config, self._sizes, FEATURES)
        baselines = [unit for unit in units if unit.is_baseline]
        store = JSONStore(baselines_dir)
        cache = self._load(store, baselines)
        self._reporter.begin(len(units), self._cost(units), self._cost(cache))
        results = dict(self._measure(workers, [u for u in units if not u.is_baseline], self))
        with hold_folder(baselines_dir, remedy=RUN_AGAIN):
            store.sweep()
            # Another process may have measured some meanwhile.
            stored = self._load(store, baselines)
            self._reporter.advance(self._cost(stored.keys() - cache.keys()))
            results |= stored
            missing = [unit for unit in baselines if unit not in stored]
            for unit, result in self._measure(workers, missing, self):
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

    def _key(self, unit: Unit) -> dict[str, object]:
        run = self._run
        return baseline_key(
            unit,
            self._config,
            run.data_fingerprint,
            run.latent_dim,
            standardized=run.standardization is not None,
        )

    def key(self, name: str) -> JSONObject:
        """Everything that features depend on; see `FeatureSource`."""
        return {
            "data_fingerprint": self._run.data_fingerprint,
            **({"standardized": True} if self._run.standardization is not None else {}),
            "input": self._config.input,
            "latent_dim": self._run.latent_dim if name == PCA else None,
            "step": self._run.step if name == ENCODER else None,
            "weights": self._weights if name == ENCODER else None,
            "versions": package_versions(),
        }

    @functools.cached_property
    def _weights(self) -> str:
        return weights_digest(self._run.model.named_variables)

    def compute(self, name: str) -> FeatureArrays:
        """Computes features; see `FeatureSource`.

        Raises:
            SMVIError: they are not finite.
        """
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
