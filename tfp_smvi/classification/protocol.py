"""How well a classifier does that sees few labels, on a run's encoder means and on baselines.

References:
    [1] D. Levy and S. Ermon. Trading-off Learning and Inference in Deep Latent Variable Models. [2]
    D. P. Kingma, D. J. Rezende, S. Mohamed, M. Welling. Semi-supervised Learning with Deep
    Generative Models.
        NeurIPS 2014.
"""

import importlib.metadata
import itertools
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from tfp_smvi.classification.pca import PrincipalComponents
from tfp_smvi.classification.svm import Outcome, labelled_subset, measure_accuracy, num_candidates
from tfp_smvi.config import ClassifyConfig
from tfp_smvi.core.errors import RUN_AGAIN, SMVIError, explain_write_errors
from tfp_smvi.core.estimates import estimate
from tfp_smvi.core.reporters import EvaluationReporter, Silent
from tfp_smvi.core.runtime import environment
from tfp_smvi.core.text import align
from tfp_smvi.data import Dataset, Split
from tfp_smvi.data.test_batches import read_inputs
from tfp_smvi.models.encoding import encode_means
from tfp_smvi.runs.loading import LoadedRun, load_data_of, load_run
from tfp_smvi.storage.atomic import write_json
from tfp_smvi.storage.locks import hold_folder
from tfp_smvi.storage.pieces import JSONStore

__all__ = ["check_labels", "classify", "format_classification", "report_name"]

# Of the report, and of the results that are kept for other runs.
FORMAT = 1
ENCODER, PIXELS, PCA = "encoder", "pixels", "pca"
_NAMES = {ENCODER: "encoder means", PIXELS: "pixels", PCA: "PCA"}
JSON = dict[str, Any]


class _Unit(NamedTuple):
    """A row of the report: one kind of features and of classifier, at one number of labels."""

    features: str
    kernel: Literal["rbf", "linear"]
    num_labels: int


class _Features(NamedTuple):
    """Features of the examples that have a label in some subset, and of the test set: [n, d] each."""

    train: np.ndarray
    test: np.ndarray


def classify(
    run_dir: Path | str,
    config: ClassifyConfig = ClassifyConfig(),  # noqa: B008  # it is frozen
    *,
    data_dir: Path | None = None,
    dataset: Dataset | None = None,
    epoch: int | None = None,
    baselines_dir: Path | None = None,
    threads: int | None = None,
    reporter: EvaluationReporter | None = None,
) -> JSON:
    """Measures how well support vector machines classify the test set, from few labels.

    Their features are the encoder's means mu(x); the baselines are the same machines on the pixels
    and on as many principal components as the model has latent dimensions. Writes
    `report_name(epoch)` into the run directory. The subsets of labelled examples, and with them the
    baselines, depend on the data and the settings alone.

    Args:
        run_dir: the run directory.
        config: how many labels, and which machines.
        data_dir: where prepared data sets live; None for the default.
        dataset: the data themselves, for a run on data that are known by no name; they must be
            those.
        epoch: the epoch whose checkpoint to take; None for the newest.
        baselines_dir: where the baselines' results are kept; runs of the same data and latent_dim
            may share it, also at the same time. None for "baselines" in the run directory.
        threads: how many machines are trained at once; None for one per core.
        reporter: hears of the progress.

    Returns:
        The report, as in the file: accuracies as fractions.

    Raises:
        SMVIError: there is no trained run or no checkpoint of that epoch, its data are not at hand
            or have too few labels for the settings, or a file cannot be written.

    Source: [1, section 5], [2, M1].
    """
    started = time.monotonic()
    run_dir, reporter = Path(run_dir), reporter or Silent()
    warnings: list[str] = []
    run = load_run(run_dir, epoch, warn=warnings.append)
    for warning in warnings:
        reporter.warn(warning)
    dataset = load_data_of(run, data_dir, dataset=dataset, progress=reporter.note)
    work = _Work(run, dataset, config, reporter)
    baselines_dir = baselines_dir or run_dir / "baselines"
    with explain_write_errors(f"to {baselines_dir}", RUN_AGAIN):
        results = work.do(baselines_dir, threads or os.cpu_count() or 1)
    report = {
        "format": FORMAT,
        **_describe(run, dataset, config),
        "results": results,
        "warnings": warnings,
        "seconds": round(time.monotonic() - started, 3),
        **environment().to_json(),
    }
    report["versions"]["scikit-learn"] = importlib.metadata.version("scikit-learn")
    with explain_write_errors(f"to {run_dir}", RUN_AGAIN):
        write_json(run_dir / report_name(epoch), report)
    return report


def check_labels(dataset: Dataset, config: ClassifyConfig) -> None:
    """Finds out, before anything is trained on them, whether data have the labels that `classify` will need.

    Raises:
        SMVIError: they have none, or too few of a class.
    """
    labels, _, num_classes = _check(dataset, config)
    for size in config.labels:
        labelled_subset(labels, size, num_classes, config.seed, 0)


def report_name(epoch: int | None) -> str:
    """Returns the name of the report's file, such as "classification-epoch025.json"."""
    return "classification.json" if epoch is None else f"classification-epoch{epoch:03d}.json"


def format_classification(report: JSON) -> str:
    """Lays a report out for people: accuracies in percent, a column per number of labels."""
    settings = report["settings"]
    rows = [["labels", *map(str, settings["labels"])]]
    units: dict[str, list[str]] = {}
    for result in report["results"]:
        name = f"{_NAMES[result['features']]}, {result['kernel']}"
        units.setdefault(name, []).append(_percent(result))
    rows += [[name, *cells] for name, cells in units.items()]
    error = " +/- one standard error" if settings["repeats"] > 1 else ""
    subsets = (
        "one labelled subset"
        if settings["repeats"] == 1
        else f"{settings['repeats']} labelled subsets"
    )
    text = f"Accuracy on {report['num_test']} test examples in percent, mean of {subsets}"
    return "\n".join([*align(rows), "", f"{text}{error}."])


class _Work:
    """All that is measured, on one run and its data."""

    def __init__(
        self, run: LoadedRun, dataset: Dataset, config: ClassifyConfig, reporter: EvaluationReporter
    ) -> None:
        self.run, self.dataset, self.config, self._reporter = run, dataset, config, reporter
        self._binarize = config.input == "binarized"
        self._train_labels, self._test_labels, num_classes = _check(dataset, config)
        self._subsets = {
            size: [
                labelled_subset(self._train_labels, size, num_classes, config.seed, repeat)
                for repeat in range(config.repeats)
            ]
            for size in config.labels
        }
        # The images that are looked at, out of perhaps many more.
        self._labelled = np.unique(
            np.concatenate([subset for part in self._subsets.values() for subset in part])
        )

    def do(self, baselines_dir: Path, threads: int) -> list[JSON]:
        """Measures all units but those whose results are kept; returns the results in the order of the report."""
        store = JSONStore(baselines_dir)
        units = [
            _Unit(features, kernel, size)
            for features in _NAMES
            for kernel in self.config.kernels
            for size in self.config.labels
        ]
        mine = [unit for unit in units if unit.features == ENCODER]
        others = [unit for unit in units if unit.features != ENCODER]
        kept = {unit for unit in others if store.load(self._key(unit)) is not None}
        total = sum(map(self._cost, units))
        self._reporter.begin(len(units), total, sum(map(self._cost, kept)))
        # One thread for each machine: then no bit depends on their number.
        with ThreadPool(threads) as pool, threadpool_limits(1, user_api="blas"):
            results = dict(self._measure_all(pool, mine))
            with hold_folder(baselines_dir, remedy=RUN_AGAIN):
                store.sweep()
                # Another process may have measured them meanwhile.
                found = {unit: store.load(self._key(unit)) for unit in others}
                results |= {unit: result for unit, result in found.items() if result is not None}
                self._reporter.advance(
                    sum(self._cost(unit) for unit in others if unit in results and unit not in kept)
                )
                for unit, result in self._measure_all(
                    pool, [unit for unit in others if unit not in results]
                ):
                    store.save(self._key(unit), result)
                    results[unit] = result
        return [results[unit] for unit in units]

    def _measure_all(self, pool: ThreadPool, units: list[_Unit]) -> Iterator[tuple[_Unit, JSON]]:
        for name, group in itertools.groupby(units, lambda unit: unit.features):
            features = self._features(name)
            for unit in group:
                yield unit, self._measure(pool, unit, features)

    def _measure(self, pool: ThreadPool, unit: _Unit, features: _Features) -> JSON:
        def measure(subset: np.ndarray) -> Outcome:
            x, labels = (
                features.train[np.searchsorted(self._labelled, subset)],
                self._train_labels[subset],
            )
            return measure_accuracy(
                x, labels, features.test, self._test_labels, unit.kernel, self.config.num_folds
            )

        outcomes = []
        for outcome in pool.imap(measure, self._subsets[unit.num_labels]):
            outcomes.append(outcome)
            self._reporter.advance(self._cost(unit) / self.config.repeats)
        values = [outcome.accuracy for outcome in outcomes]
        chosen = [outcome.choice._asdict() for outcome in outcomes]
        return {
            **unit._asdict(),
            **estimate(np.array(values)).to_json(),
            "values": values,
            "chosen": chosen,
        }

    def _cost(self, unit: _Unit) -> float:
        """In proportion to the time, about; the exponent is measured on MNIST."""
        return float(self.config.repeats * num_candidates(unit.kernel) * unit.num_labels**1.5)

    def _key(self, unit: _Unit) -> JSON:
        """All that the result of a baseline depends on."""
        settings, names = self.config.to_json(), ("tfp-smvi", "numpy", "scikit-learn")
        return {
            "format": FORMAT,
            **unit._asdict(),
            **{name: settings[name] for name in ("input", "repeats", "num_folds", "seed")},
            "latent_dim": self.run.config.model.latent_dim if unit.features == PCA else None,
            "data_fingerprint": self.run.data_fingerprint,
            "versions": {name: importlib.metadata.version(name) for name in names},
        }

    def _features(self, name: str) -> _Features:
        images, test_images = self._read(self.dataset.train), self._read(self.dataset.test)
        if name == ENCODER:
            train = encode_means(self.run.model, images)[self._labelled]
            features = _Features(train, encode_means(self.run.model, test_images))
        else:
            features = _Features(
                _take(images, self._labelled), np.concatenate([_flatten(x) for x in test_images])
            )
        if name == PCA:
            pca = PrincipalComponents(
                self._read(self.dataset.train), self.run.config.model.latent_dim
            )
            features = _Features(pca.transform(features.train), pca.transform(features.test))
        if not all(np.isfinite(part).all() for part in features):
            raise SMVIError(
                f"the features ({_NAMES[name]}) are not finite, and cannot be classified."
            )
        return features

    def _read(self, split: Split) -> Iterable[tf.Tensor]:
        return read_inputs(split, binarize=self._binarize)


def _check(dataset: Dataset, config: ClassifyConfig) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns the labels of both splits and the number of classes, or says what is wrong with them."""
    train, test, num_classes = dataset.train.labels, dataset.test.labels, dataset.num_classes
    if train is None or test is None or num_classes is None:
        raise SMVIError(
            f"{dataset.name} has no labels for both training and test data, without which nothing can be "
            "classified; train on data with labels, such as mnist or an .npz file with y_train and y_test, or sweep "
            "with --no-classify."
        )
    if num_classes < 2:
        raise SMVIError(f"{dataset.name} has a single class, and there is nothing to classify.")
    for size in config.labels:
        if size < num_classes * config.num_folds:
            raise SMVIError(
                f"labels = {size} is fewer than one example of each of the {num_classes} classes for each of the "
                f"{config.num_folds} folds of the cross-validation; give at least {num_classes * config.num_folds}."
            )
    if config.input == "binarized" and dataset.real_valued:
        raise SMVIError(
            f"input = 'binarized' needs intensities in [0, 1] and {dataset.name} has other values; "
            "give intensities, which takes values as they are."
        )
    return train, test, num_classes


def _describe(run: LoadedRun, dataset: Dataset, config: ClassifyConfig) -> JSON:
    """What was classified and how, as JSON values."""
    return {
        "run": {
            "config": run.config.to_json(),
            "step": run.step,
            "data_fingerprint": run.data_fingerprint,
        },
        "epoch": len(run.history),
        "settings": config.to_json(),
        "num_test": dataset.test.num_examples,
    }


def _take(batches: Iterable[tf.Tensor], indices: np.ndarray) -> np.ndarray:
    """Takes the examples at ascending indices out of batches: [n, d]."""
    taken, start = [], 0
    for x in batches:
        low, high = np.searchsorted(indices, [start, start + len(x)])
        taken.append(_flatten(x)[indices[low:high] - start])
        start += len(x)
    return np.concatenate(taken)


def _flatten(x: tf.Tensor) -> np.ndarray:
    return x.numpy().reshape(len(x), -1)


def _percent(result: Mapping[str, Any]) -> str:
    """Such as "94.28 +/- 0.11"."""
    error = result["standard_error"]
    return f"{100 * result['mean']:.2f}" + ("" if error is None else f" +/- {100 * error:.2f}")
