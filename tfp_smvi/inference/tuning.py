"""Step sizes for annealed importance sampling, from a pilot run with chains of its own.

Adapting the step size on the chains that are weighted would make the kernel depend on their past,
and the weights' expectation would no longer be Z. Hence a pilot tunes, and the run that counts
takes the result as constants.
"""

from typing import Any, NamedTuple, Unpack

import numpy as np
import tensorflow as tf

from tfp_smvi.core.densities import LogDensity
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.runtime import numerics_unchecked
from tfp_smvi.core.warnings import warn
from tfp_smvi.inference.annealing import Endpoints, anneal_segment
from tfp_smvi.inference.arguments import (
    length_scale,
    require_function,
    require_scale,
    require_vectors,
    stateless_seed,
)
from tfp_smvi.inference.graphs import compiled_unless_traced
from tfp_smvi.inference.hmc import Point
from tfp_smvi.inference.temperatures import AnnealingOptions, AnnealingSettings, TemperaturePath

__all__ = ["tune_step_sizes"]

PILOT_CHAINS = 6


@numerics_unchecked()
def tune_step_sizes(
    target_log_prob_fn: LogDensity,
    initial_distribution: Any,
    *,
    seed: int | tf.Tensor,
    scale: Any = None,
    leapfrog_log_prob_fn: LogDensity | None = None,
    target_acceptance_rate: float = 0.65,
    jit_compile: bool = False,
    **settings: Unpack[AnnealingOptions],
) -> tf.Tensor:
    """Tunes a step size per segment and data point to an acceptance rate.

        log step <- log step + gain_i (acceptance_i - target)
        gain_i = (i + 1)^(-1/2) within a segment

    where acceptance_i is the mean acceptance probability over the pilot's chains in its i-th
    transition. A segment's step size is the geometric mean of the second half of its iterates; the
    next segment goes on from the last. The result holds for any number of temperatures in the run
    that counts, as long as the number of segments is the same.

    Args:
        target_log_prob_fn: as in `annealed_importance_sampling`.
        initial_distribution: as in `annealed_importance_sampling`.
        seed: an integer, or a stateless seed int32 [2]; not the seed of the run that counts.
        scale: as in the run that counts.
        leapfrog_log_prob_fn: as in the run that counts.
        target_acceptance_rate: between 0 and 1; 0.65 is near the optimum of Hamiltonian Monte
            Carlo.
        jit_compile: compile with XLA when called eagerly.
        **settings: fields of `AnnealingSettings`; 6 chains by default. All but the numbers of
            chains and of temperatures must be those of the run that counts.

    Returns:
        Step sizes in units of `scale`: float [num_segments, batch]. An eager call warns
        (UserWarning) if no move of a data point was accepted.

    Raises:
        SMVIError: as in `annealed_importance_sampling`.

    Source: [Robbins & Monro 1951; Beskos et al., "Optimal tuning of the hybrid Monte Carlo
    algorithm", 2013].
    """
    settings.setdefault("num_chains", PILOT_CHAINS)
    chains = AnnealingSettings(**settings).check()
    require_vectors(initial_distribution)
    require_scale(scale, initial_distribution)
    if not 0.0 < target_acceptance_rate < 1.0:
        raise SMVIError(
            "is not allowed",
            field="target_acceptance_rate",
            value=target_acceptance_rate,
            remedy="give a number between 0 and 1",
        )
    initial_seed, chain_seed = tf.unstack(tf.random.split(stateless_seed(seed, "tune_step_sizes")))
    require_function(target_log_prob_fn, initial_distribution, chains.num_chains, initial_seed)

    def run() -> tf.Tensor:
        return _tune(
            Endpoints(initial_distribution.log_prob, target_log_prob_fn, leapfrog_log_prob_fn),
            initial_distribution.sample(chains.num_chains, seed=initial_seed),
            path=chains.path(),
            scale=length_scale(scale, initial_distribution),
            num_leapfrog_steps=chains.num_leapfrog_steps,
            target_acceptance_rate=target_acceptance_rate,
            seed=chain_seed,
        )

    step_sizes = compiled_unless_traced(run, jit_compile)
    if not tf.inside_function():
        latent_dim = int(initial_distribution.event_shape_tensor()[0])
        smallest = _smallest(chains.path(), latent_dim, target_acceptance_rate)
        warn(_step_size_warnings(step_sizes.numpy(), smallest))
    return step_sizes


class _Transitions(NamedTuple):
    """The pilot's transitions one by one.

    Attributes:
        knots: beta before and after each: float64 [num_temperatures + 1].
        gain: how far the log step size moves per unit of acceptance missed: float64
            [num_temperatures].
        share: of the step size after each transition in each segment's mean: float64
            [num_temperatures, num_segments].
    """

    knots: np.ndarray
    gain: np.ndarray
    share: np.ndarray


def _transitions(path: TemperaturePath) -> _Transitions:
    """Splits a path into single transitions, whose gain starts afresh in each segment."""
    num_segments = len(path.num_steps)
    segment = np.repeat(np.arange(num_segments), path.num_steps)
    index = np.concatenate([np.arange(count) for count in path.num_steps])
    # The first half of a segment forgets the step size of the one before.
    counts = index >= path.num_steps[segment] // 2
    share = counts[:, np.newaxis] * (segment[:, np.newaxis] == np.arange(num_segments))
    ends = np.concatenate([[0], np.cumsum(path.num_steps)])
    return _Transitions(
        knots=np.interp(np.arange(ends[-1] + 1), ends, path.knots),
        gain=(index + 1.0) ** -0.5,
        share=share / share.sum(axis=0),
    )


def _smallest(path: TemperaturePath, latent_dim: int, target_acceptance_rate: float) -> np.ndarray:
    """The step sizes of a pilot in which no move is accepted: float64 [num_segments, 1]."""
    _, gain, share = _transitions(path)
    log_step = -0.25 * np.log(latent_dim) - target_acceptance_rate * np.cumsum(gain)
    return np.exp(share.T @ log_step)[:, np.newaxis]


def _step_size_warnings(step_sizes: np.ndarray, smallest: np.ndarray) -> list[str]:
    """Says for how many data points [num_segments, batch] step sizes cannot be of use."""
    # A step size follows from all transitions before it; 1% is more than float32's rounding.
    stuck = ~(step_sizes[-1] > 1.01 * smallest[-1])  # nor is NaN
    if not stuck.any():
        return []
    return [
        f"The pilot accepted no move for {stuck.sum()} of {len(stuck)} data points, and their step "
        "sizes mean nothing: check that the log density is finite wherever the chains go."
    ]


def _tune(
    endpoints: Endpoints,
    state: tf.Tensor,
    *,
    path: TemperaturePath,
    scale: tf.Tensor,
    num_leapfrog_steps: int,
    target_acceptance_rate: float,
    seed: tf.Tensor,
) -> tf.Tensor:
    """Walks the pilot from `state` and returns the step sizes: [num_segments, batch]."""
    knots, gain, share = (tf.constant(values, state.dtype) for values in _transitions(path))

    def move(
        index: tf.Tensor, state: Point, log_step: tf.Tensor, mean_log_step: tf.Tensor
    ) -> tuple[tf.Tensor, Point, tf.Tensor, tf.Tensor]:
        next_state, _, acceptance = anneal_segment(
            endpoints,
            state,
            temperatures=(knots[index], knots[index + 1]),
            num_steps=tf.constant(1),
            step_size=tf.exp(log_step)[:, tf.newaxis] * scale,
            num_leapfrog_steps=num_leapfrog_steps,
            seed=tf.random.fold_in(seed, index),
        )
        log_step += gain[index] * (tf.reduce_mean(acceptance, axis=0) - target_acceptance_rate)
        mean_log_step += share[index][:, tf.newaxis] * log_step
        return index + 1, next_state, log_step, mean_log_step

    # The step size of a given acceptance rate falls as latent_dim^(-1/4) [Beskos et al.].
    latent_dim = tf.cast(tf.shape(state)[-1], state.dtype)
    log_step = tf.zeros_like(state[0, :, 0]) - 0.25 * tf.math.log(latent_dim)
    mean_log_step = tf.zeros([len(path.num_steps), 1], state.dtype) * log_step
    num_transitions = int(path.num_steps.sum())
    *_, mean_log_step = tf.while_loop(
        lambda index, *_: index < num_transitions,
        move,
        (0, endpoints.evaluate(state), log_step, mean_log_step),
    )
    return tf.exp(mean_log_step)
