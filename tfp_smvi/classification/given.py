"""How well classifiers with few labels do on features from elsewhere."""

import hashlib
import importlib.metadata
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfp_smvi.classification.draws import FeatureArrays
from tfp_smvi.classification.labels import LabelArray, make_labels
from tfp_smvi.classification.measuring import GivenMeasurement
from tfp_smvi.classification.results import FORMAT, Accuracy, Classification, ClassifiedFeatures
from tfp_smvi.classification.workers import open_workers
from tfp_smvi.config import ClassifyConfig
from tfp_smvi.core.errors import RUN_AGAIN, NotFoundError, SMVIError, explain_write_errors
from tfp_smvi.core.reporters import EvaluationReporter, Silent
from tfp_smvi.core.runtime import environment
from tfp_smvi.engines.base import Engine
from tfp_smvi.storage.arrays import DamagedFileError, read_arrays
from tfp_smvi.storage.atomic import write_json

__all__ = ["classify_feature_files", "classify_features"]

# The arrays of a file, as `tfp-smvi features` names the first one.
FEATURES, LABELS = "mean", "labels"
# Sizes of features, and of what they differ by, whose squares and ratios are float64.
SMALLEST, LARGEST = 1e-60, 1e60
_SIZES = f"multiply the features by a number: sizes from {SMALLEST:g} to {LARGEST:g} can be used"
_REMEDY = f"write it with numpy.savez(path, {FEATURES}=..., {LABELS}=...)"


class _Part(NamedTuple):
    """The features [n, d] and the labels [n] of some examples."""

    features: npt.NDArray[np.floating]
    labels: LabelArray


def classify_features(
    train_features: npt.ArrayLike,
    train_labels: npt.ArrayLike,
    test_features: npt.ArrayLike,
    test_labels: npt.ArrayLike,
    config: ClassifyConfig = ClassifyConfig(),  # noqa: B008  # it is frozen
    *,
    output: Path | str | None = None,
    threads: int | None = None,
    engine: Engine | None = None,
    reporter: EvaluationReporter | None = None,
) -> Classification:
    """Measures how well support vector machines classify features, from few labels.

    The protocol is that of `classify`: the same subsets for the same labels, seed and settings.

    Args:
        train_features: floats or integers [n, d], of sizes from 1e-60 to 1e60 and not all equal.
        train_labels: integers [n].
        test_features: [m, d].
        test_labels: [m].
        config: the numbers of labels, and the classifiers; its `input` is of a run.
        output: a JSON file for the report; None for none.
        threads: the number of classifiers to train at once; None for one per core.
        engine: runs the work, and needs an output; None for threads of this process. See
            `classify`.
        reporter: receives progress updates.

    Returns:
        The report: accuracies as fractions.

    Raises:
        SMVIError: the arrays do not fit together, are not finite, or have too few labels for the
            settings; or the file cannot be written.
    """
    train = _part("train_features", train_features, "train_labels", train_labels)
    _require_varied("train_features", train)
    test = _part("test_features", test_features, "test_labels", test_labels)
    return _classify(train, test, config, (), output, threads, engine, reporter or Silent())


def classify_feature_files(
    features: Path,
    test_features: Path,
    config: ClassifyConfig,
    *,
    output: Path,
    threads: int | None = None,
    engine: Engine | None = None,
    reporter: EvaluationReporter | None = None,
) -> Classification:
    """Does the same with two .npz files, each with the arrays `mean` and `labels`.

    Args:
        features: the file of training data.
        test_features: the file of test data.
        config: as in `classify_features`.
        output: the JSON file of the report.
        threads: as in `classify_features`.
        engine: as in `classify_features`.
        reporter: receives progress updates.

    Raises:
        SMVIError: a file cannot be read or lacks an array, or as `classify_features`.
    """
    train, test = _read(features, "features"), _read(test_features, "test_features")
    _require_varied(f"{features}: {FEATURES}", train)
    files = (str(features), str(test_features))
    return _classify(train, test, config, files, output, threads, engine, reporter or Silent())


def _classify(
    train: _Part,
    test: _Part,
    config: ClassifyConfig,
    files: tuple[str, ...],
    output: Path | str | None,
    threads: int | None,
    engine: Engine | None,
    reporter: EvaluationReporter,
) -> Classification:
    started = time.monotonic()
    _check(train, test, config, one_class=bool(files))
    labels = make_labels(train.labels, test.labels, files[0] if files else "the data given")
    warnings = _warnings(train, test)
    for warning in warnings:
        reporter.warn(warning)
    fingerprint = _fingerprint(*train, *test)
    arrays = FeatureArrays(train.features, test.features)
    measurement = GivenMeasurement(labels, arrays, fingerprint, config, reporter)
    path = None if output is None else Path(output)
    folder = None if path is None else path.with_name(f"{path.name}.partial")
    with open_workers(
        measurement.draws,
        config,
        engine=engine,
        folder=folder,
        threads=threads,
        messages=reporter,
    ) as workers:
        results = measurement.measure(workers)
        report = _make_report(train, test, config, files, fingerprint, results, warnings, started)
        if path is not None:
            with explain_write_errors(f"to {output}", RUN_AGAIN):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, report)
    return report


def _check(train: _Part, test: _Part, config: ClassifyConfig, *, one_class: bool) -> None:
    """Raises an SMVIError for what cannot be classified; files were checked for `one_class`."""
    sizes = train.features.shape[1], test.features.shape[1]
    if sizes[0] != sizes[1]:
        raise SMVIError(
            f"has {sizes[1]} dimensions, and the training features have {sizes[0]}",
            field="test_features",
            remedy="give features of the same model",
        )
    if config.input != "intensities":
        raise SMVIError(
            "is for the examples of a run, and features are taken as they are",
            field="input",
            value=config.input,
            remedy="leave it out",
        )
    if not one_class and len(np.union1d(train.labels, test.labels)) < 2:
        problem = "has a single class, and there is nothing to classify"
        raise _wrong("train_labels", problem, "give data with two or more classes")


def _make_report(
    train: _Part,
    test: _Part,
    config: ClassifyConfig,
    files: tuple[str, ...],
    fingerprint: str,
    results: list[Accuracy],
    warnings: tuple[str, ...],
    started: float,
) -> Classification:
    num_train, num_dimensions = train.features.shape
    here = environment()
    return Classification(
        format=FORMAT,
        run=None,
        epoch=0,
        settings=config,
        num_test=len(test.labels),
        results=tuple(results),
        warnings=warnings,
        seconds=round(time.monotonic() - started, 3),
        versions={**here.versions, "scikit-learn": importlib.metadata.version("scikit-learn")},
        machine=here.machine,
        given=ClassifiedFeatures(files, num_train, num_dimensions, fingerprint),
    )


def _warnings(train: _Part, test: _Part) -> tuple[str, ...]:
    if not np.array_equal(train.features, test.features):
        return ()
    return (
        "The test features are the training features: the accuracy is not that of examples that "
        "a classifier has not seen.",
    )


def _read(path: Path, field: str) -> _Part:
    try:
        arrays = read_arrays(path)
    except (OSError, DamagedFileError) as error:
        exists = not isinstance(error, FileNotFoundError)
        reason = str(error) if exists else "no such file"
        raise (SMVIError if exists else NotFoundError)(
            f"cannot be read as .npz of plain arrays ({reason})",
            field=field,
            value=str(path),
            remedy=_REMEDY,
        ) from error
    missing = [name for name in (FEATURES, LABELS) if name not in arrays]
    if missing:
        raise SMVIError(
            f"has no array {' and no array '.join(missing)}, but {', '.join(arrays) or 'nothing'}",
            field=field,
            value=str(path),
            remedy=_REMEDY,
        )
    features, labels = (f"{path}: {name}" for name in (FEATURES, LABELS))
    return _part(features, arrays[FEATURES], labels, arrays[LABELS])


def _part(name: str, values: npt.ArrayLike, labels_name: str, classes: npt.ArrayLike) -> _Part:
    """Checks the features and the labels of some examples."""
    features, labels = np.asarray(values), np.asarray(classes)
    if features.dtype.kind not in "fiu" or features.ndim != 2 or 0 in features.shape:
        problem = f"is {features.dtype} of shape {list(features.shape)}"
        raise _wrong(name, problem, "give floats [n, d], not empty")
    if labels.dtype.kind not in "iu" or labels.shape != features.shape[:1]:
        problem = f"is {labels.dtype} of shape {list(labels.shape)}"
        remedy = f"give integers [{len(features)}], one for each example"
        raise _wrong(labels_name, problem, remedy)
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if bad.size:
        raise _wrong(
            name,
            f"has NaN or infinity in {bad.size} of {len(features)} rows, the first of them "
            f"row {bad[0]}",
            "leave such examples out",
        )
    largest = max(abs(float(features.min())), abs(float(features.max())))
    if largest > LARGEST:
        raise _wrong(name, f"has values of size {largest:.3g}", _SIZES)
    dtype = features.dtype if features.dtype in (np.float32, np.float64) else np.float64
    return _Part(features.astype(dtype), labels.astype(np.int64))


def _require_varied(name: str, part: _Part) -> None:
    """Refuses features to train on that tell no examples apart, or by less than can be squared."""
    ends = part.features.max(axis=0), part.features.min(axis=0)
    spreads = np.subtract(*ends, dtype=np.float64)
    if not spreads.any():
        raise _wrong(name, "has the same row for all examples", "give features that differ")
    smallest = spreads[spreads > 0.0].min()
    if smallest < SMALLEST:
        column = int(np.flatnonzero(spreads == smallest)[0])
        raise _wrong(name, f"has values in column {column} that differ by {smallest:.3g}", _SIZES)


def _wrong(name: str, problem: str, remedy: str) -> SMVIError:
    """Makes the error of an array: an argument, or "file: array"."""
    if name.isidentifier():
        return SMVIError(problem, field=name, remedy=remedy)
    return SMVIError(f"{name} {problem}", remedy=remedy)


def _fingerprint(*arrays: npt.NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
