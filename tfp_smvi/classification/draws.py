"""Draws: a classifier on one labelled subset, in this process or as the task of an engine.

Nothing here loads TensorFlow: a task reads features and labels from a file.
"""

import functools
from collections.abc import Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from tfp_smvi.classification.labels import LabelArray
from tfp_smvi.classification.plan import Unit
from tfp_smvi.classification.results import Choice, Kernel
from tfp_smvi.classification.svm import Outcome, measure_accuracy
from tfp_smvi.core.errors import RUN_AGAIN, SMVIError, explain_write_errors
from tfp_smvi.core.records import JSONObject
from tfp_smvi.engines.base import Context
from tfp_smvi.storage.arrays import DamagedFileError, read_arrays, write_arrays
from tfp_smvi.storage.pieces import JSONStore

__all__ = ["Draws", "FeatureArrays", "load_outcome", "measure_draws", "share_inputs"]

# The arrays of the places of subsets in a file of inputs end in their number of labels.
_SUBSETS = "subsets-"


class FeatureArrays(NamedTuple):
    """Features of the examples to train on, and of the test set: [n, d] each."""

    train: np.ndarray
    test: np.ndarray


class Draws(NamedTuple):
    """The labelled subsets, whatever the features are.

    Attributes:
        train_labels: the classes of all examples that some subset has: [n].
        test_labels: those of the test set: [m].
        subsets: by their number of labels s, places among these n: int64 [repeats, s].
    """

    train_labels: LabelArray
    test_labels: LabelArray
    subsets: Mapping[int, LabelArray]

    def measure(self, features: FeatureArrays, unit: Unit, repeat: int, num_folds: int) -> Outcome:
        """Trains a classifier on one subset and tests it; `features.train` is of the n examples."""
        places = self.subsets[unit.num_labels][repeat]
        return measure_accuracy(
            features.train[places],
            self.train_labels[places],
            features.test,
            self.test_labels,
            unit.kernel,
            num_folds,
        )


def share_inputs(path: Path, draws: Draws, features: FeatureArrays) -> None:
    """Writes what tasks need, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    subsets = {f"{_SUBSETS}{size}": places for size, places in draws.subsets.items()}
    labels = {"train_labels": draws.train_labels, "test_labels": draws.test_labels}
    write_arrays(path, {**features._asdict(), **labels, **subsets})


def load_outcome(store: JSONStore, key: Mapping[str, object]) -> Outcome | None:
    """Reads the result of a draw; None if there is none, or a damaged one."""
    values = store.load(key)
    if values is None:
        return None
    return Outcome(float(values["accuracy"]), Choice.from_json(values["choice"]))


def measure_draws(
    context: Context,
    inputs: str,
    kernel: Kernel,
    num_labels: int,
    num_folds: int,
    key: JSONObject,
    repeats: Sequence[int],
    threads: int,
) -> None:
    """Measures draws and saves each result beside the inputs: the function of a task.

    It emits an event "draw" for each.

    Args:
        context: the process that it runs in.
        inputs: the file of `share_inputs`.
        kernel: the kernel of the classifiers.
        num_labels: the number of labels of the subsets.
        num_folds: the folds of the cross-validation.
        key: all that the results depend on but the number of the draw.
        repeats: the numbers of the draws.
        threads: the number of classifiers to train at once.

    Raises:
        SMVIError: the inputs cannot be read, or a result cannot be written.
    """
    draws, features = _read_inputs(inputs)
    folder = Path(inputs).parent
    store, unit = JSONStore(folder), Unit(key["features"], kernel, num_labels)

    def measure(repeat: int) -> Outcome:
        return draws.measure(features, unit, repeat, num_folds)

    with (
        ThreadPool(threads) as pool,
        threadpool_limits(1, user_api="blas"),
        explain_write_errors(f"to {folder}", RUN_AGAIN),
    ):
        for repeat, outcome in zip(repeats, pool.imap(measure, repeats), strict=True):
            values = {"accuracy": outcome.accuracy, "choice": outcome.choice.to_json()}
            store.save({**key, "repeat": repeat}, values)
            context.emit("draw")


@functools.lru_cache(maxsize=1)
def _read_inputs(path: str) -> tuple[Draws, FeatureArrays]:
    """Reads a file of inputs; its name says what it holds, and a process does many such tasks."""
    try:
        arrays = read_arrays(Path(path))
    except (OSError, DamagedFileError) as error:
        raise SMVIError(
            f"{path} cannot be read ({error})",
            remedy="give a run directory that all processes of the engine can read",
        ) from error
    names = [name for name in arrays if name.startswith(_SUBSETS)]
    subsets = {int(name.removeprefix(_SUBSETS)): arrays[name] for name in names}
    draws = Draws(arrays["train_labels"], arrays["test_labels"], subsets)
    return draws, FeatureArrays(arrays["train"], arrays["test"])
