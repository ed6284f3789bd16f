"""Who measures draws: threads of this process, or the tasks of an engine."""

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Protocol

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from tfp_smvi.classification.draws import (
    Draws,
    FeatureArrays,
    load_outcome,
    measure_draws,
    share_inputs,
)
from tfp_smvi.classification.plan import Unit, unit_cost
from tfp_smvi.classification.svm import Outcome, num_candidates
from tfp_smvi.config import ClassifyConfig
from tfp_smvi.core.errors import RUN_AGAIN, SMVIError, explain_write_errors
from tfp_smvi.core.records import JSONObject
from tfp_smvi.engines.base import Engine, Event, Task
from tfp_smvi.engines.completion import Messages, complete_all
from tfp_smvi.engines.local import ThisProcess
from tfp_smvi.storage.locks import hold_folder
from tfp_smvi.storage.pieces import JSONStore, digest

__all__ = ["FeatureSource", "Workers", "open_workers"]

# The least cost of a task, if there are as many draws: a few seconds, as a process takes one or two
# to start.
TASK_COST = num_candidates("rbf") * 2000**1.5


class FeatureSource(Protocol):
    """The features that are classified, by their names in the report."""

    def key(self, name: str) -> JSONObject:
        """Everything that features depend on, as JSON values."""

    def compute(self, name: str) -> FeatureArrays:
        """Computes features: of all examples that some subset has, and of the test set."""


class Workers(Protocol):
    """What measures draws."""

    def measure(
        self,
        units: Sequence[Unit],
        source: FeatureSource,
        advance: Callable[[Unit, int], None],
    ) -> Iterator[tuple[Unit, list[Outcome]]]:
        """Yields the results of units in their order, of each draw.

        Args:
            units: the units; those of the same features are beside each other.
            source: the features.
            advance: is called with a unit and the number of its draws that are done since.
        """


@contextlib.contextmanager
def open_workers(
    draws: Draws,
    config: ClassifyConfig,
    *,
    engine: Engine | None,
    folder: Path | None,
    threads: int | None,
    messages: Messages,
) -> Iterator[Workers]:
    """Opens the workers of a classification.

    Args:
        draws: the labelled subsets.
        config: the settings.
        engine: runs the tasks; None for threads of this process.
        folder: where tasks find their inputs and leave results until the classification has ended,
            so that one that was killed goes on; None if there is no such place.
        threads: the number of classifiers to train at once, in this process or in a task; None for
            one per core, and in a task for one.
        messages: receives the notes and the warnings.

    Raises:
        SMVIError: the folder is missing, in use or cannot be written.
    """
    # One thread for each classifier: then no bit depends on their number.
    with threadpool_limits(1, user_api="blas"):
        if engine is None or isinstance(engine, ThisProcess):
            with ThreadPool(threads or os.cpu_count() or 1) as pool:
                yield _Threads(draws, config, pool)
            return
        if folder is None:
            raise SMVIError(
                "needs a file for the report, beside which its tasks leave their results",
                field="engine",
                remedy="give {output}, or leave it out",
            )
        folder = folder.absolute()
        busy = SMVIError(
            f"{folder} is used by another process that classifies the same",
            remedy="wait for its end",
        )
        with hold_folder(folder, busy=busy, remedy=RUN_AGAIN):
            engine.require(folder)
            yield _Tasks(draws, config, engine, folder, threads or 1, messages)
            with explain_write_errors(f"to {folder}", RUN_AGAIN):
                shutil.rmtree(folder)


class _Threads:
    """Measures draws in threads of this process."""

    def __init__(self, draws: Draws, config: ClassifyConfig, pool: ThreadPool) -> None:
        self._draws, self._config, self._pool = draws, config, pool

    def measure(
        self,
        units: Sequence[Unit],
        source: FeatureSource,
        advance: Callable[[Unit, int], None],
    ) -> Iterator[tuple[Unit, list[Outcome]]]:
        repeats = range(self._config.repeats)
        for name, group in itertools.groupby(units, lambda unit: unit.features):
            features = source.compute(name)
            for unit in group:
                outcomes = []
                for outcome in self._pool.imap(self._work(features, unit), repeats):
                    outcomes.append(outcome)
                    advance(unit, 1)
                yield unit, outcomes

    def _work(self, features: FeatureArrays, unit: Unit) -> Callable[[int], Outcome]:
        num_folds = self._config.num_folds
        return lambda repeat: self._draws.measure(features, unit, repeat, num_folds)


class _Tasks:
    """Lets an engine measure draws, except those whose results are in the folder."""

    def __init__(
        self,
        draws: Draws,
        config: ClassifyConfig,
        engine: Engine,
        folder: Path,
        threads: int,
        messages: Messages,
    ) -> None:
        self._draws, self._config, self._engine, self._messages = draws, config, engine, messages
        self._folder, self._threads = folder, threads
        self._store = JSONStore(folder)

    def measure(
        self,
        units: Sequence[Unit],
        source: FeatureSource,
        advance: Callable[[Unit, int], None],
    ) -> Iterator[tuple[Unit, list[Outcome]]]:
        self._store.sweep()
        missing = {unit: self._missing(unit, source) for unit in units}
        for unit in units:
            advance(unit, self._config.repeats - len(missing[unit]))
        at_work: dict[str, Unit] = {}

        def tasks() -> Iterator[Task]:
            for name, group in itertools.groupby(units, lambda unit: unit.features):
                left = [unit for unit in group if missing[unit]]
                inputs = self._share(name, source) if left else self._folder
                for unit in left:
                    repeats, count = missing[unit], self._num_draws(unit)
                    for start in range(0, len(repeats), count):
                        part = repeats[start : start + count]
                        task = self._task(unit, part, inputs, source)
                        at_work[task.name] = unit
                        yield task

        def handle(event: Event) -> None:
            if event.kind == "draw":
                advance(at_work[event.task], 1)

        complete_all(self._engine, tasks(), handle, messages=self._messages)
        yield from ((unit, self._load(unit, source)) for unit in units)

    def _share(self, name: str, source: FeatureSource) -> Path:
        """Writes the inputs of tasks, unless they are there from work that was killed."""
        settings = self._config.to_json()
        # They hold the examples of all subsets, and not only their features.
        key = {
            **source.key(name),
            "sizes": sorted(self._draws.subsets),
            **{setting: settings[setting] for setting in ("seed", "repeats")},
        }
        path = self._folder / f"{name}-{digest(key, 16)}.npz"
        if not path.exists():
            with explain_write_errors(f"to {self._folder}", RUN_AGAIN):
                share_inputs(path, self._draws, source.compute(name))
        return path

    def _task(
        self, unit: Unit, repeats: Sequence[int], inputs: Path, source: FeatureSource
    ) -> Task:
        return Task(
            name=f"{unit.features} {unit.kernel} {unit.num_labels} from {repeats[0]}",
            function=f"{measure_draws.__module__}:{measure_draws.__name__}",
            arguments={
                "inputs": str(inputs),
                "kernel": unit.kernel,
                "num_labels": unit.num_labels,
                "num_folds": self._config.num_folds,
                "key": self._key(unit, source),
                "repeats": list(repeats),
                "threads": self._threads,
            },
        )

    def _num_draws(self, unit: Unit) -> int:
        """How many draws a task has."""
        return max(1, int(TASK_COST / (unit_cost(unit, self._config) / self._config.repeats)))

    def _key(self, unit: Unit, source: FeatureSource) -> JSONObject:
        """Everything that the result of a draw depends on but its number."""
        drawn = {"seed": self._config.seed, "num_folds": self._config.num_folds}
        return {**source.key(unit.features), **unit._asdict(), **drawn}

    def _missing(self, unit: Unit, source: FeatureSource) -> list[int]:
        key = self._key(unit, source)
        repeats = range(self._config.repeats)
        return [i for i in repeats if load_outcome(self._store, {**key, "repeat": i}) is None]

    def _load(self, unit: Unit, source: FeatureSource) -> list[Outcome]:
        key = self._key(unit, source)
        outcomes = []
        for repeat in range(self._config.repeats):
            outcome = load_outcome(self._store, {**key, "repeat": repeat})
            if outcome is None:
                raise SMVIError(
                    f"a task has ended and left no result in {self._folder}",
                    remedy="give a folder that all processes of the engine share",
                )
            outcomes.append(outcome)
        return outcomes
