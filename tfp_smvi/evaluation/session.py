"""A model that is open for its evaluation, with its data and the results so far."""

import contextlib
import functools
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfp_smvi.config import BLOCK_SIZE, EvaluateConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.reporters import EvaluationReporter, Silent
from tfp_smvi.core.seeds import fold_seed
from tfp_smvi.data import Dataset
from tfp_smvi.engines.base import Context, Task
from tfp_smvi.evaluation.blocks import (
    KINDS,
    SIMULATED,
    Block,
    kinds_of,
    num_blocks,
    num_simulated,
    plan,
)
from tfp_smvi.evaluation.outside import OutsideModel, subject_of_model
from tfp_smvi.evaluation.shared import estimators_of
from tfp_smvi.evaluation.subjects import subject_of_run
from tfp_smvi.inference.weights import covering_errors
from tfp_smvi.models.protocol import TrainableModel
from tfp_smvi.storage.pieces import ArrayStore, digest

__all__ = ["NEWER", "EvaluationSession", "estimate_block", "open_session"]

Arrays = dict[str, np.ndarray]

# The kinds of estimates that need no q(z|x).
_WITHOUT_ENCODER = ("annealed", "bracket")
# The results that have several numbers for an example.
_ROWS = {
    *("posterior_mean", "acceptance_rate", "reverse_acceptance_rate", "step_size", "ranks"),
    *("shift", "squared_shift", "variance_ratio"),
    *KINDS["local"].results,
}
# The name of the machine that computed a block, in UTF-8.
_HOST = "host"
# The errors of log mean(w), which blocks have by the delta method.
_OF_WEIGHTS = {
    *("iwae_bound_error", "log_likelihood_error", "lower_bound_error", "upper_bound_error"),
}
# The results that older blocks lack.
NEWER = (
    *("weighted_divergence", "weighted_divergence_error", "pareto_k", "reconstruction_change"),
    *("shift", "squared_shift", "variance_ratio"),
)


class EvaluationSession:
    """A model, its data, and the blocks that were evaluated with it.

    Args:
        source: a run directory, or a model without a run.
        data_dir: the folder of prepared data sets; None for the default.
        dataset: the data of a run themselves, if they are known by no name.
        reporter: receives progress updates.
        model: the model that gets the weights of a run, for a run of such a model.

    Attributes:
        subject: what is evaluated.
        run_dir: the folder of the reports.
        folder: the folder of the results of blocks.

    Raises:
        SMVIError: there is no trained run, the data are not those that it was trained on, or the
            model cannot be evaluated.
    """

    def __init__(
        self,
        source: Path | str | OutsideModel,
        data_dir: Path | None = None,
        dataset: Dataset | None = None,
        reporter: EvaluationReporter | None = None,
        model: TrainableModel | None = None,
    ) -> None:
        """Loads the model and the data."""
        reporter, self._data_dir = reporter or Silent(), data_dir
        if isinstance(source, OutsideModel):
            for name, value in (("dataset", dataset), ("model", model)):
                if value is not None:
                    raise SMVIError(
                        "is for a run, and an OutsideModel has its own",
                        field=name,
                        remedy="leave it out",
                    )
            self.subject = subject_of_model(source, data_dir, reporter)
        else:
            run_dir = Path(source).absolute()
            self.subject = subject_of_run(run_dir, data_dir, dataset, reporter, model)
        self.run_dir = self.subject.folder
        self.folder = self.run_dir / "evaluation"
        given = model is not None or isinstance(source, OutsideModel)
        self._estimator = estimators_of(self.subject.model, given=given)

    def kinds(self, config: EvaluateConfig) -> tuple[str, ...]:
        """The kinds of estimates on the data, of this model."""
        return tuple(kind for kind in kinds_of(config) if self.has(kind))

    def plan(self, config: EvaluateConfig, kinds: Sequence[str] | None = None) -> list[Block]:
        """Lists the work, as `tfp_smvi.evaluation.blocks.plan`, without what the model lacks."""
        blocks = plan(config, self.num_examples(config), kinds)
        return [block for block in blocks if self.has(block.kind)]

    def has(self, kind: str) -> bool:
        """Whether a kind of estimate is possible: most need q(z|x)."""
        return self.subject.has_encoder or kind in _WITHOUT_ENCODER

    def num_examples(self, config: EvaluateConfig) -> dict[str, int]:
        """How many examples of each split are evaluated: all that exist, or `num_examples`."""
        numbers: dict[str, int] = {
            split: self.subject.split(split).num_examples for split in config.splits
        }
        if config.num_examples is None:
            return numbers
        return {split: min(config.num_examples, number) for split, number in numbers.items()}

    def store(self, kind: str, config: EvaluateConfig) -> ArrayStore:
        """The results of a kind at the settings that they depend on."""
        key = {
            **self.subject.key,
            "seed": config.seed,
            "block_size": config.examples_of_block,
            **KINDS[kind].key(config),
        }
        return ArrayStore(self.folder, KINDS[kind].store, key)

    def is_done(self, block: Block) -> bool:
        """Whether the result of a block is saved."""
        return block.name in self.store(block.kind, block.config)

    def task(self, block: Block) -> Task:
        """The task that estimates a block."""
        return Task(
            name=f"{block.kind} {block.name} {block.config.ais.num_temperatures}",
            function="tfp_smvi.evaluation.session:estimate_block",
            arguments={
                "run_dir": str(self.run_dir),
                "data_dir": None if self._data_dir is None else str(self._data_dir.absolute()),
                "key": digest(self.subject.key, 16),
                "block": block.to_json(),
            },
            reusable=True,
        )

    def estimate(self, block: Block) -> None:
        """Estimates a block and saves the result.

        Raises:
            SMVIError: it cannot be written.
        """
        kind = KINDS[block.kind]
        seed = fold_seed(block.config.seed, kind.purpose.format(data=block.data), block.index)
        x, count = None, block.config.examples_of_block
        if block.data != SIMULATED:
            x, count = self.subject.read_block(block.data, block.index, count)
        with self._estimator(block.config) as estimator:
            results = {
                name: array[:count] for name, array in kind.estimate(estimator, x, seed).items()
            }
        host = np.frombuffer(socket.gethostname().encode(), np.uint8)
        self.store(block.kind, block.config).save(block.name, results | {_HOST: host})

    def hosts(self, blocks: Sequence[Block]) -> tuple[str, ...]:
        """The names of the machines that computed blocks; those of older blocks are not known."""
        files = (self.store(block.kind, block.config).load(block.name) for block in blocks)
        return tuple(sorted({bytes(file[_HOST]).decode() for file in files if _HOST in file}))

    def load(self, kind: str, config: EvaluateConfig, data: str) -> Arrays:
        """Puts the blocks of a kind on a split, or on simulated data, together.

        Errors of log mean(w) are `covering_errors` over all examples.

        Raises:
            SMVIError: a block is missing or damaged.
        """
        simulated = data == SIMULATED
        count = num_simulated(kind, config) if simulated else self.num_examples(config)[data]
        count = min(count, config.examples_of_block) if KINDS[kind].first_only else count
        store = self.store(kind, config)
        names = [
            Block(kind, data, index, config).name for index in range(num_blocks(count, config))
        ]
        blocks = _alike([store.load(name) for name in names])
        layouts = [_layout(block) for block in blocks]
        first = layouts[0]
        if (
            first is None
            or not first.keys() >= {*KINDS[kind].results}
            or any(layout != first for layout in layouts)
        ):
            raise SMVIError(
                f"{store.path} has results of different kinds or shapes",
                remedy="delete it and run the same command again",
            )
        arrays = {
            name: np.concatenate([block[name] for block in blocks])[:count] for name in blocks[0]
        }
        for name in _OF_WEIGHTS & arrays.keys():
            arrays[name] = covering_errors(tf.constant(arrays[name])).numpy()
        return arrays

    def read_examples(self, split: str, indices: Sequence[int]) -> tf.Tensor:
        """Reads some examples as blocks have them: float32 [n, *image_shape], n at least 1."""
        places = [divmod(index, BLOCK_SIZE) for index in indices]
        blocks = {block: self.subject.read_block(split, block)[0] for block, _ in places}
        return tf.stack([blocks[block][row] for block, row in places])


# The sessions that are open in this process, by the folder of their reports.
_OPEN: dict[str, EvaluationSession] = {}


@contextlib.contextmanager
def open_session(
    source: Path | str | OutsideModel,
    data_dir: Path | None = None,
    dataset: Dataset | None = None,
    reporter: EvaluationReporter | None = None,
    model: TrainableModel | None = None,
) -> Iterator[EvaluationSession]:
    """Opens a model; tasks that run in this process meanwhile use the same model and data.

    Args:
        source: as in `EvaluationSession`, like the other arguments.
        data_dir: the folder of prepared data sets.
        dataset: the data of a run themselves.
        reporter: receives progress updates.
        model: the model that gets the weights of a run.
    """
    session = EvaluationSession(source, data_dir, dataset, reporter, model)
    name = str(session.run_dir)
    before = _OPEN.get(name)
    _OPEN[name] = session
    try:
        yield session
    finally:
        if before is None:
            _OPEN.pop(name, None)
        else:
            _OPEN[name] = before


def _alike(blocks: Sequence[Arrays]) -> list[Arrays]:
    """The blocks without what not all of them have, if an older evaluation goes on, and _HOST."""
    left_out = {_HOST} | {name for name in NEWER if any(name not in block for block in blocks)}
    return [{name: block[name] for name in block if name not in left_out} for block in blocks]


def _layout(block: Arrays) -> dict[str, tuple[int, ...]] | None:
    """The shape of each result for one example; None if a result is not float32 [examples, ...]."""
    for name, array in block.items():
        if array.dtype != np.float32 or array.ndim != (2 if name in _ROWS else 1):
            return None
    if len({len(array) for array in block.values()}) != 1:
        return None
    return {name: array.shape[1:] for name, array in block.items()}


def estimate_block(
    context: Context, run_dir: str, data_dir: str | None, key: str, block: dict[str, object]
) -> None:
    """Estimates a block of a run and saves the result: the function of a task.

    Args:
        context: the process that it runs in.
        run_dir: the run directory.
        data_dir: the folder of prepared data sets; None for the default.
        key: a hash of the key of the `Subject`.
        block: the JSON of a `Block`.

    Raises:
        SMVIError: the run or its data are others here, or the result cannot be written.
    """
    session = _OPEN.get(run_dir) or _session_of_a_worker(run_dir, data_dir, key)
    session.estimate(Block.from_json(block))


@functools.lru_cache(maxsize=1)
def _session_of_a_worker(run_dir: str, data_dir: str | None, key: str) -> EvaluationSession:
    """The session of a process that runs tasks alone, opened at the first one."""
    session = EvaluationSession(run_dir, Path(data_dir) if data_dir is not None else None)
    if digest(session.subject.key, 16) != key:
        raise SMVIError(
            f"{run_dir} or its data are not the same in the process that computes",
            remedy="let nothing change them meanwhile, and run the same command again",
        )
    return session
