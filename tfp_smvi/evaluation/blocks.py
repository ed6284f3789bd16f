"""The blocks of an evaluation: which there are, how they are shared out, what each kind costs.

A block is one kind of estimate on a number of examples, the smallest piece of work that is saved.
It is data: what it holds decides its result, wherever and in whatever order blocks are computed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfp_smvi.config import EvaluateConfig
from tfp_smvi.core.records import JSONObject, Record
from tfp_smvi.evaluation import calibration
from tfp_smvi.evaluation.estimator import BlockEstimator
from tfp_smvi.inference.ascent import NUM_COMMON_DRAWS, NUM_DRAWS, WINDOW

__all__ = ["KINDS", "SIMULATED", "Block", "Kind", "Shard", "kinds_of", "plan", "share"]

SIMULATED = "simulated"


class Shard(NamedTuple):
    """One of `total` equal parts of the work: every `total`-th block from block `number` on.

    Numbers count from 1.
    """

    number: int
    total: int


@dataclass(frozen=True)
class Block(Record):
    """One kind of estimate on one block of examples.

    Attributes:
        kind: a key of KINDS.
        data: "test", "train" or "simulated".
        index: the block's number, counted from 0.
        config: what is estimated, and how.
    """

    kind: str
    data: str
    index: int
    config: EvaluateConfig

    @property
    def name(self) -> str:
        """The name of its piece in the store of its kind."""
        return f"{self.data}-{self.index:05d}"

    @property
    def cost(self) -> float:
        """About how many evaluations of the decoder an example takes."""
        return KINDS[self.kind].cost(self.config)


class Kind(NamedTuple):
    """A kind of estimate; to add a diagnostic, add a line to KINDS.

    Attributes:
        store: the first part of the name of the folder that holds its results.
        key: config -> the settings that its results depend on, JSON values.
        cost: config -> about how many evaluations of the decoder an example takes.
        purpose: the purpose of its seed, with "{data}" for the data.
        estimate: (estimator, x, seed) -> results by name, with the example as first axis; x is
            float32 [block, *image_shape], or None on simulated data.
        results: the names that a saved block must have.
        first_only: whether it is estimated on the first block of each split alone.
        num_simulated: config -> the examples to simulate for it; None for an estimate on a split.
    """

    store: str
    key: Callable[[EvaluateConfig], JSONObject]
    cost: Callable[[EvaluateConfig], float]
    purpose: str
    estimate: Callable[[BlockEstimator, tf.Tensor | None, tf.Tensor], dict[str, np.ndarray]]
    results: tuple[str, ...]
    first_only: bool = False
    num_simulated: Callable[[EvaluateConfig], int] | None = None


_DRAWS = ("num_elbo_samples", "num_divergence_samples", "num_importance_samples")


def _bounds_key(config: EvaluateConfig) -> JSONObject:
    return {name: getattr(config, name) for name in _DRAWS}


def _annealed_key(config: EvaluateConfig) -> JSONObject:
    ais = config.ais
    if ais.leapfrog_precision == "float32":  # what "auto" is once it is resolved to nothing else
        ais = replace(ais, leapfrog_precision="auto")
    return ais.to_json()


def _local_key(config: EvaluateConfig) -> JSONObject:
    draws = {name: getattr(config, name) for name in _DRAWS[:2]}
    families = list(config.local_families)
    return draws | {
        "local_steps": config.local_steps,
        "local_objective": config.local_objective,
        "local_families": families,
    }


def _restart_key(config: EvaluateConfig) -> JSONObject:
    return {name: value for name, value in _local_key(config).items() if name != "local_families"}


def _bounds_cost(config: EvaluateConfig) -> float:
    draws = config.num_elbo_samples + config.num_importance_samples
    return draws + 3.0 * config.num_divergence_samples


def _annealing_cost(config: EvaluateConfig, num_runs: int = 1) -> float:
    """A gradient counts as three evaluations."""
    ais = config.ais
    pilot = ais.num_pilot_chains * ais.num_pilot_temperatures
    transitions = num_runs * ais.num_chains * ais.num_temperatures + pilot
    return 3.0 * transitions * ais.num_leapfrog_steps


def _local_cost(config: EvaluateConfig, num_runs: int) -> float:
    """What a run of all steps costs; a gradient of a gradient counts as nine evaluations."""
    step, comparison = (3.0, 1.0) if config.local_objective == "elbo" else (9.0, 3.0)
    steps = step * NUM_DRAWS * config.local_steps
    comparisons = comparison * NUM_COMMON_DRAWS * (config.local_steps / WINDOW + 1.0)
    final = 2.0 * config.num_elbo_samples + 3.0 * config.num_divergence_samples
    return num_runs * (steps + comparisons + final)


def _num_local_runs(config: EvaluateConfig) -> int:
    return len({"diagonal", *config.local_families})


KINDS: dict[str, Kind] = {
    "bounds": Kind(
        store="bounds",
        key=_bounds_key,
        cost=_bounds_cost,
        purpose="evaluate_bounds_{data}",
        estimate=lambda estimator, x, seed: estimator.bounds(x, seed),
        results=(
            *("elbo", "elbo_error", "kl", "iwae_bound", "iwae_bound_error"),
            *("divergence", "divergence_error", "posterior_mean"),
        ),
    ),
    "annealed": Kind(
        store="annealed",
        key=_annealed_key,
        cost=_annealing_cost,
        purpose="evaluate_annealed_{data}",
        estimate=lambda estimator, x, seed: estimator.annealed(x, seed),
        results=(
            *("log_likelihood", "log_likelihood_error"),
            *("effective_sample_size", "acceptance_rate"),
        ),
    ),
    "bracket": Kind(
        store="annealed",
        key=_annealed_key,
        cost=lambda config: _annealing_cost(config, num_runs=2),
        purpose="evaluate_simulated",
        estimate=lambda estimator, x, seed: estimator.bracketed(seed),
        results=(
            *("lower_bound", "lower_bound_error", "upper_bound", "upper_bound_error"),
            *("acceptance_rate", "reverse_acceptance_rate"),
        ),
        num_simulated=lambda config: config.num_simulated,
    ),
    "calibration": Kind(
        store="calibration",
        key=lambda config: {"num_draws": calibration.NUM_DRAWS},
        cost=lambda config: float(calibration.NUM_DRAWS),
        purpose="evaluate_calibration",
        estimate=lambda estimator, x, seed: estimator.calibration.ranked(seed),
        results=("ranks", "log_joint_rank", "posterior_mean"),
        num_simulated=lambda config: config.num_calibration,
    ),
    "local": Kind(
        store="local",
        key=_local_key,
        cost=lambda config: _local_cost(config, _num_local_runs(config)),
        purpose="evaluate_local_{data}",
        estimate=lambda estimator, x, seed: estimator.local.refined(x, seed),
        results=(
            *("amortization_gap", "amortization_gap_error"),
            *("local_divergence", "local_divergence_error", "local_converged", "local_steps"),
        ),
    ),
    "restart": Kind(
        store="restart",
        key=_restart_key,
        cost=lambda config: _local_cost(config, num_runs=2),
        purpose="evaluate_local_{data}",
        estimate=lambda estimator, x, seed: estimator.local.restarted(x, seed),
        results=(*("restart_distance", "restart_gain", "restart_gain_error", "restart_converged"),),
        first_only=True,
    ),
}


# Those on examples that are simulated from the model.
SIMULATED_KINDS = tuple(name for name, kind in KINDS.items() if kind.num_simulated is not None)


def kinds_of(config: EvaluateConfig) -> tuple[str, ...]:
    """The kinds of estimates on the data that `evaluate` makes."""
    return ("bounds", "annealed", *(("local", "restart") if config.local else ()))


def plan(
    config: EvaluateConfig,
    num_examples: Mapping[str, int],
    kinds: Sequence[str] | None = None,
) -> list[Block]:
    """Lists the work: the kinds on each block of each split, and those on simulated data.

    Args:
        config: what to estimate.
        num_examples: the number of examples of each split.
        kinds: the kinds to estimate on the splits, and on simulated data the bracket alone; those
            of the config, and all on simulated data, if None.
    """
    blocks = [
        Block(kind, split, index, config)
        for split in config.splits
        for index in range(num_blocks(num_examples[split], config))
        for kind in (kinds_of(config) if kinds is None else kinds)
        if index == 0 or not KINDS[kind].first_only
    ]
    return blocks + [
        Block(kind, SIMULATED, index, config)
        for kind in (SIMULATED_KINDS if kinds is None else ("bracket",))
        for index in range(num_blocks(num_simulated(kind, config), config))
    ]


def share(blocks: Sequence[Block], shard: Shard) -> list[Block]:
    """The part of a shard; all kinds of estimates on the same examples are in the same part."""
    places = list(dict.fromkeys(block.name for block in blocks))
    part = {*places[shard.number - 1 :: shard.total]}
    return [block for block in blocks if block.name in part]


def num_simulated(kind: str, config: EvaluateConfig) -> int:
    """The number of examples to simulate for a kind of estimate."""
    count = KINDS[kind].num_simulated
    return 0 if count is None else count(config)


def num_blocks(num_examples: int, config: EvaluateConfig) -> int:
    """The number of blocks for a number of examples."""
    return -(-num_examples // config.examples_of_block)
