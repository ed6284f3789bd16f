"""The work of an evaluation: which blocks there are, which of them are done, and doing the others."""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from tfp_smvi.config import EvaluateConfig
from tfp_smvi.core.errors import RUN_AGAIN, SMVIError, explain_write_errors
from tfp_smvi.core.reporters import EvaluationReporter, Silent
from tfp_smvi.core.seeds import fold_seed
from tfp_smvi.data import Dataset, Split, eval_batches
from tfp_smvi.data.test_batches import TEST_SEED
from tfp_smvi.evaluation.estimator import BLOCK_SIZE, BlockEstimator
from tfp_smvi.evaluation.store import BlockStore, shared_folder
from tfp_smvi.runs.loading import load_data_of, load_run

__all__ = ["EvaluationSession", "Shard", "Unit"]

SIMULATED = "simulated"
Result = TypeVar("Result")


class Shard(NamedTuple):
    """One of `total` equal parts of the work: every `total`-th block from block `number` on, numbers from 1."""

    number: int
    total: int


class Unit(NamedTuple):
    """One kind of estimate for one block, the smallest piece of work that is saved.

    Attributes:
        store: where its result is kept.
        data: "test", "train" or "simulated".
        block: its number, counted from 0.
        cost: about how many decoder evaluations an example takes.
        compute: makes the result, by name, with the example as first axis.
    """

    store: BlockStore
    data: str
    block: int
    cost: float
    compute: Callable[[], dict[str, np.ndarray]]

    @property
    def done(self) -> bool:
        """Whether its result is kept already."""
        return (self.data, self.block) in self.store


class EvaluationSession:
    """A trained model, the data it was trained on, and the blocks that were evaluated with it.

    Args:
        run_dir: the run directory.
        data_dir: where prepared data sets live; None for the default.
        reporter: hears of the progress.
        dataset: the data themselves, where they are known by no name.

    Attributes:
        run_dir: the run directory.
        run: the run as its newest checkpoint has it.
        dataset: its data.
        weights: SHA-256 of the model's weights, in hex.

    Raises:
        SMVIError: there is no trained run, or the data are not those that it was trained on.
    """

    def __init__(
        self,
        run_dir: Path | str,
        data_dir: Path | None,
        reporter: EvaluationReporter | None = None,
        dataset: Dataset | None = None,
    ) -> None:
        """Loads the model and the data."""
        self.run_dir, reporter = Path(run_dir), reporter or Silent()
        self.run = load_run(self.run_dir, warn=reporter.warn)
        self.dataset = load_data_of(self.run, data_dir, dataset=dataset, progress=reporter.note)
        self.weights = _digest(self.run.model.named_variables)
        self.run.model.freeze_decoder()
        self._root = self.run_dir / "evaluation"
        self._reporter = reporter

    def num_examples(self, config: EvaluateConfig, split: str) -> int:
        """How many examples of a split are evaluated: no more than there are."""
        available = self._split(split).num_examples
        return available if config.num_examples is None else min(config.num_examples, available)

    def units(self, config: EvaluateConfig, *, bounds: bool = True) -> list[Unit]:
        """Lists the work, block by block; without `bounds` only what is annealed."""
        estimator = BlockEstimator(self.run.model, config)
        units = []
        for split in config.splits:
            for index in range(_num_blocks(self.num_examples(config, split))):
                if bounds:
                    units.append(self._bounds_unit(estimator, config, split, index))
                units.append(self._annealed_unit(estimator, config, split, index))
        for index in range(_num_blocks(config.num_simulated)):
            units.append(self._bracket_unit(estimator, config, index))
        return units

    @contextlib.contextmanager
    def writing(self, *reports: str) -> Iterator[None]:
        """Writes results and the reports of these names, beside other processes that share the work.

        Raises:
            SMVIError: something cannot be written.
        """
        with (
            explain_write_errors(f"to {self.run_dir}", f"the blocks are kept: {RUN_AGAIN}"),
            shared_folder(self._root, reports),
        ):
            yield

    def complete(
        self, units: Sequence[Unit], shard: Shard | None = None, *, merge: bool = False
    ) -> bool:
        """Computes and saves the units that are not done yet, or those of a shard.

        Args:
            units: the work.
            shard: the part to do alone.
            merge: computes nothing.

        Returns:
            Whether all results are there to be put together: not after a shard.

        Raises:
            SMVIError: a result cannot be written, or one to merge is missing.
        """
        if merge:
            _require_done(units)
        else:
            self._compute(units, shard)
        return shard is None

    def _compute(self, units: Sequence[Unit], shard: Shard | None) -> None:
        shard = shard or Shard(1, 1)
        numbers = {place: number for number, place in enumerate(dict.fromkeys(map(_place, units)))}
        mine = [unit for unit in units if numbers[_place(unit)] % shard.total == shard.number - 1]
        done = [unit for unit in mine if unit.done]
        self._reporter.begin(len(mine), _total_cost(mine), _total_cost(done))
        for unit in mine:
            # Another process may have done it meanwhile.
            if unit not in done and not unit.done:
                unit.store.save(unit.data, unit.block, _interruptible(unit.compute))
            if unit not in done:
                self._reporter.advance(unit.cost)

    def results(
        self, config: EvaluateConfig, data: str, *, bounds: bool = True
    ) -> dict[str, np.ndarray]:
        """Puts the blocks of a split, or of the simulated data, together.

        Raises:
            SMVIError: a block is missing or damaged.
        """
        if data == SIMULATED:
            return self._annealed_store(config).load(data, config.num_simulated, BLOCK_SIZE)
        num_examples = self.num_examples(config, data)
        results = self._annealed_store(config).load(data, num_examples, BLOCK_SIZE)
        if bounds:
            results |= self._bounds_store(config).load(data, num_examples, BLOCK_SIZE)
        return results

    def _split(self, name: str) -> Split:
        return self.dataset.train if name == "train" else self.dataset.test

    def _bounds_store(self, config: EvaluateConfig) -> BlockStore:
        names = ("num_elbo_samples", "num_divergence_samples", "num_importance_samples")
        settings = config.to_json()
        return self._store("bounds", config.seed, {name: settings[name] for name in names})

    def _annealed_store(self, config: EvaluateConfig) -> BlockStore:
        return self._store("annealed", config.seed, config.ais.to_json())

    def _store(self, kind: str, seed: int, settings: dict[str, object]) -> BlockStore:
        model = {"weights": self.weights, "data": self.dataset.fingerprint, "step": self.run.step}
        return BlockStore(
            self._root, kind, {**model, "seed": seed, "block_size": BLOCK_SIZE, **settings}
        )

    def _bounds_unit(
        self, estimator: BlockEstimator, config: EvaluateConfig, split: str, index: int
    ) -> Unit:
        def compute() -> dict[str, np.ndarray]:
            x, count = self._read_block(split, index)
            seed = fold_seed(config.seed, f"evaluate_bounds_{split}", index)
            return _first(count, estimator.bounds(x, seed))

        cost = (
            config.num_elbo_samples
            + 3 * config.num_divergence_samples
            + config.num_importance_samples
        )
        return Unit(self._bounds_store(config), split, index, cost, compute)

    def _annealed_unit(
        self, estimator: BlockEstimator, config: EvaluateConfig, split: str, index: int
    ) -> Unit:
        def compute() -> dict[str, np.ndarray]:
            x, count = self._read_block(split, index)
            seed = fold_seed(config.seed, f"evaluate_annealed_{split}", index)
            return _first(count, estimator.annealed(x, seed))

        return Unit(self._annealed_store(config), split, index, _annealing_cost(config, 1), compute)

    def _bracket_unit(self, estimator: BlockEstimator, config: EvaluateConfig, index: int) -> Unit:
        seed = fold_seed(config.seed, "evaluate_simulated", index)
        cost = _annealing_cost(config, 2)
        return Unit(
            self._annealed_store(config), SIMULATED, index, cost, lambda: estimator.bracketed(seed)
        )

    def _read_block(self, split: str, index: int) -> tuple[tf.Tensor, int]:
        """Reads x, float32 [BLOCK_SIZE, *image_shape], with zeros after the end of the split, and how many it has."""
        images, start = self._split(split), index * BLOCK_SIZE
        # A block is whole whatever part of it is asked for, so that its bits are always the same.
        count = min(BLOCK_SIZE, images.num_examples - start)
        binarize = self.run.config.model.likelihood == "bernoulli"
        batches = eval_batches(
            images,
            batch_size=BLOCK_SIZE,
            seed=TEST_SEED,
            binarize=binarize,
            num_examples=count,
            start=start,
        )
        x = tf.concat([x for _, x in batches], axis=0)
        padding = [[0, BLOCK_SIZE - count]] + [[0, 0]] * len(images.image_shape)
        return tf.ensure_shape(tf.pad(x, padding), [BLOCK_SIZE, *images.image_shape]), count


def _digest(variables: dict[str, tf.Variable]) -> str:
    digest = hashlib.sha256()
    for name, variable in sorted(variables.items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(variable.numpy()).data)
    return digest.hexdigest()


def _annealing_cost(config: EvaluateConfig, num_runs: int) -> float:
    """Decoder evaluations for an example; a gradient counts as three."""
    ais = config.ais
    transitions = (
        num_runs * ais.num_chains * ais.num_temperatures
        + ais.num_pilot_chains * ais.num_pilot_temperatures
    )
    return 3.0 * transitions * (ais.num_leapfrog_steps + 1)


def _interruptible(function: Callable[[], Result]) -> Result:
    """Calls a function in another thread, so that a signal is answered now and not at the end of a block."""
    outcome: Future[Result] = Future()

    def work() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # it is raised in the thread that waits
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return outcome.result()


def _require_done(units: Sequence[Unit]) -> None:
    """Raises an SMVIError that says which units are missing, if any are."""
    missing = [unit for unit in units if not unit.done]
    if missing:
        first = missing[0]
        raise SMVIError(
            f"{len(missing)} of {len(units)} results are missing, the first {first.data} block {first.block} in "
            f"{first.store.path}: run all shards with the same settings, or run without --merge to compute them."
        )


def _place(unit: Unit) -> tuple[str, int]:
    return unit.data, unit.block


def _num_blocks(num_examples: int) -> int:
    return -(-num_examples // BLOCK_SIZE)


def _total_cost(units: Iterable[Unit]) -> float:
    return sum(unit.cost for unit in units)


def _first(count: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values[:count] for name, values in arrays.items()}
