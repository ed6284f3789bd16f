"""Annealed importance sampling of log-normalizers, from below and from above.

Both directions run on `tfp.mcmc.sample_annealed_importance_chain` with a kernel that makes the
weights exact in expectation (`annealing.FreshHamiltonianMonteCarlo`). They take distributions and
log-density callables, so that a closed-form model or somebody's own decoder needs no network class.

References:
    [1] R. M. Neal. Annealed importance sampling. Statistics and Computing, 2001. [2] Y. Wu, Y.
    Burda, R. Salakhutdinov, R. Grosse. On the quantitative analysis of decoder-based generative
        models. ICLR 2017.
    [3] R. Grosse, Z. Ghahramani, R. Adams. Sandwiching the marginal likelihood using bidirectional
        Monte Carlo. 2015.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.inference.annealing import Endpoints, TemperaturePath, anneal, temperature_path
from tfp_smvi.inference.arguments import (
    compiled_unless_traced,
    length_scale,
    require_positive_integer,
    require_vectors,
    segment_step_sizes,
    stateless_seed,
)
from tfp_smvi.inference.importance import sum_weights

__all__ = [
    "AISResult",
    "ReverseAISResult",
    "annealed_importance_sampling",
    "reverse_annealed_importance_sampling",
]


class AISResult(NamedTuple):
    """What annealing from the initial distribution to the target found.

    Attributes:
        log_weights: `log w` with `E[w] = Z`: float [num_chains, batch], nats.
        final_state: z at the end of each chain: float [num_chains, batch, latent_dim].
        acceptance_rate: the mean over chains and transitions: float [num_segments, batch].
        step_size: the step sizes used, before scaling per dimension: float [num_segments, batch].
        num_gradient_evaluations: of the target's log-prob, for one chain of one data point: int32
            scalar.
    """

    log_weights: tf.Tensor
    final_state: tf.Tensor
    acceptance_rate: tf.Tensor
    step_size: tf.Tensor
    num_gradient_evaluations: tf.Tensor

    def log_normalizer(self) -> tf.Tensor:
        """The estimate `log mean(w)` of log Z, in expectation a lower bound of it: float [batch], nats."""
        return sum_weights(self.log_weights).log_mean()

    def log_normalizer_standard_error(self) -> tf.Tensor:
        """The standard error of `log_normalizer` over chains, by the delta method: float [batch], nats."""
        return sum_weights(self.log_weights).standard_error()

    def effective_sample_size(self) -> tf.Tensor:
        """`sum(w)^2 / sum(w^2)`, between 1 and num_chains: float [batch]."""
        return sum_weights(self.log_weights).effective_sample_size()


class ReverseAISResult(NamedTuple):
    """What annealing from exact samples of the target back to the initial distribution found.

    Attributes:
        log_weights: `log w` with `E[w] = 1 / Z`: float [num_chains, batch], nats.
        final_state: z at the end of each chain: float [num_chains, batch, latent_dim].
        acceptance_rate: the mean over chains and transitions: float [num_segments, batch]; segment
            0 is the one at the initial distribution, as in `AISResult`.
        step_size: the step sizes used, before scaling per dimension: float [num_segments, batch],
            in the same order.
        num_gradient_evaluations: of the target's log-prob, for one chain of one data point: int32
            scalar.
    """

    log_weights: tf.Tensor
    final_state: tf.Tensor
    acceptance_rate: tf.Tensor
    step_size: tf.Tensor
    num_gradient_evaluations: tf.Tensor

    def log_normalizer_upper_bound(self) -> tf.Tensor:
        """`-log mean(w)`, in expectation an upper bound of log Z: float [batch], nats."""
        return -sum_weights(self.log_weights).log_mean()

    def log_normalizer_upper_bound_standard_error(self) -> tf.Tensor:
        """The standard error of the bound over chains, by the delta method: float [batch], nats.

        Chains that share one exact sample also share its error, which this does not see: over data
        points, use the spread of the bounds themselves.
        """
        return sum_weights(self.log_weights).standard_error()

    def effective_sample_size(self) -> tf.Tensor:
        """`sum(w)^2 / sum(w^2)`, between 1 and num_chains: float [batch]."""
        return sum_weights(self.log_weights).effective_sample_size()


def annealed_importance_sampling(
    target_log_prob_fn: Callable[[tf.Tensor], tf.Tensor],
    initial_distribution: Any,
    *,
    step_size: Any,
    seed: int | tf.Tensor,
    num_chains: int = 16,
    num_temperatures: int = 48,
    num_leapfrog_steps: int = 5,
    schedule: str = "sigmoid",
    num_segments: int = 8,
    scale: Any = None,
    jit_compile: bool = False,
) -> AISResult:
    """Estimates the log-normalizer of a density by annealing from a distribution that can be sampled.

        w = prod_t f_(beta_t)(z_(t-1)) / f_(beta_(t-1))(z_(t-1)),   E[w] = Z = integral of f_1

    With f_1(z) = p(x, z), Z is the likelihood p(x). The result is a function of the arguments and
    the seed alone; the chains of a data point also depend on its place in the batch and on the
    batch's shape. Called eagerly, it traces a graph; to trace once for many batches, call it in a
    `tf.function` of your own that takes the batch, the step sizes and the seed as tensors.

    Args:
        target_log_prob_fn: `log f_1`: z [num_chains, batch, latent_dim] -> [num_chains, batch],
            nats; finite everywhere.
        initial_distribution: f_0, normalized, with batch shape [batch] and event shape
            [latent_dim]: the encoder's q(z|x), or a prior broadcast by `tfd.BatchBroadcast(prior,
            [batch])`.
        step_size: of the leapfrog integrator, in units of `scale`; broadcast to [num_segments,
            batch]. Tune it with `tune_step_sizes`, never on the chains that are weighted: adapting
            to them invalidates the bound.
        seed: an integer, or a stateless seed int32 [2].
        num_chains: independent chains per data point.
        num_temperatures: the transitions of each chain.
        num_leapfrog_steps: leapfrog steps in a transition.
        schedule: "sigmoid" or "linear", beta as a function of the position on the path.
        num_segments: the linear pieces of the path, at most `num_temperatures`; each has its own
            step size.
        scale: a length per dimension that multiplies the step size, broadcast to [batch,
            latent_dim]; `initial_distribution.stddev()` if None.
        jit_compile: compile with XLA when called eagerly.

    Returns:
        The weights and the chains' diagnostics.

    Raises:
        SMVIError: an argument has a wrong value or shape.

    Source: [1], with the path of [2] and a kernel that is fresh at each temperature
        (docs/annealed-importance-sampling.md).
    """
    require_positive_integer("num_chains", num_chains)
    require_vectors(initial_distribution)
    path = temperature_path(schedule, num_temperatures, num_segments)
    initial_seed, chain_seed = tf.unstack(
        tf.random.split(stateless_seed(seed, "annealed_importance_sampling"))
    )

    def run() -> _Walk:
        return _walk(
            target_log_prob_fn,
            initial_distribution,
            state=initial_distribution.sample(num_chains, seed=initial_seed),
            path=path,
            step_size=segment_step_sizes(step_size, num_segments, initial_distribution),
            scale=scale,
            num_leapfrog_steps=num_leapfrog_steps,
            seed=chain_seed,
        )

    return AISResult(*compiled_unless_traced(run, jit_compile))


def reverse_annealed_importance_sampling(
    target_log_prob_fn: Callable[[tf.Tensor], tf.Tensor],
    initial_distribution: Any,
    exact_samples: Any,
    *,
    step_size: Any,
    seed: int | tf.Tensor,
    num_chains: int = 16,
    num_temperatures: int = 48,
    num_leapfrog_steps: int = 5,
    schedule: str = "sigmoid",
    num_segments: int = 8,
    scale: Any = None,
    jit_compile: bool = False,
) -> ReverseAISResult:
    """Bounds a log-normalizer from above by annealing from exact samples of the target.

    Target and initial distribution change places, so that the weights estimate 1 / Z and `E[-log
    mean(w)] >= log Z`. With `annealed_importance_sampling` at the same settings it brackets log Z:
    bidirectional Monte Carlo. Exact samples are at hand for simulated data: draw z from the prior
    and x from p(x|z); z is then a sample of p(z|x).

    Args:
        target_log_prob_fn: as in `annealed_importance_sampling`.
        initial_distribution: as in `annealed_importance_sampling`, for the same data.
        exact_samples: samples of the density proportional to f_1: [batch, latent_dim], which all
            chains of a data point start from, or [num_chains, batch, latent_dim], one for each
            chain.
        step_size: as in `annealed_importance_sampling`, the same values in the same order: segment
            0 is the one at the initial distribution.
        seed: an integer, or a stateless seed int32 [2].
        num_chains: chains per data point.
        num_temperatures: the transitions of each chain.
        num_leapfrog_steps: leapfrog steps in a transition.
        schedule: "sigmoid" or "linear".
        num_segments: the linear pieces of the path.
        scale: as in `annealed_importance_sampling`.
        jit_compile: compile with XLA when called eagerly.

    Returns:
        The weights and the chains' diagnostics.

    Raises:
        SMVIError: an argument has a wrong value or shape.

    Source: [3].
    """
    require_positive_integer("num_chains", num_chains)
    require_vectors(initial_distribution)
    path = temperature_path(schedule, num_temperatures, num_segments)
    chain_seed = stateless_seed(seed, "reverse_annealed_importance_sampling")

    def run() -> _Walk:
        walk = _walk(
            target_log_prob_fn,
            initial_distribution,
            state=_start_at(exact_samples, num_chains, initial_distribution),
            path=path.reversed(),
            step_size=segment_step_sizes(step_size, num_segments, initial_distribution)[::-1],
            scale=scale,
            num_leapfrog_steps=num_leapfrog_steps,
            seed=chain_seed,
        )
        # Back to the order of the segments that the caller knows.
        return walk._replace(
            acceptance_rate=walk.acceptance_rate[::-1], step_size=walk.step_size[::-1]
        )

    return ReverseAISResult(*compiled_unless_traced(run, jit_compile))


class _Walk(NamedTuple):
    """The fields that both directions report, in the order of both result types."""

    log_weights: tf.Tensor
    final_state: tf.Tensor
    acceptance_rate: tf.Tensor
    step_size: tf.Tensor
    num_gradient_evaluations: tf.Tensor


def _walk(
    target_log_prob_fn: Callable[[tf.Tensor], tf.Tensor],
    initial_distribution: Any,
    *,
    state: tf.Tensor,
    path: TemperaturePath,
    step_size: tf.Tensor,
    scale: Any,
    num_leapfrog_steps: int,
    seed: tf.Tensor,
) -> _Walk:
    """Walks the path from `state`, with `step_size` [num_segments, batch] in the order of the path."""
    require_positive_integer("num_leapfrog_steps", num_leapfrog_steps)
    chain = anneal(
        Endpoints(initial_distribution.log_prob, target_log_prob_fn),
        state,
        path=path,
        step_size=step_size[..., tf.newaxis] * length_scale(scale, initial_distribution),
        num_leapfrog_steps=num_leapfrog_steps,
        seed=seed,
    )
    # Each transition takes a gradient where it starts and one after each leapfrog step; the weights
    # take none.
    num_gradients = int(path.num_steps.sum()) * (num_leapfrog_steps + 1)
    return _Walk(
        chain.log_weights, chain.state, chain.acceptance_rate, step_size, tf.constant(num_gradients)
    )


def _start_at(exact_samples: Any, num_chains: int, initial_distribution: Any) -> tf.Tensor:
    """Gives every chain its exact sample: float [num_chains, batch, latent_dim]."""
    exact_samples = tf.convert_to_tensor(exact_samples, initial_distribution.dtype)
    shape = tf.concat(
        [
            [num_chains],
            initial_distribution.batch_shape_tensor(),
            initial_distribution.event_shape_tensor(),
        ],
        axis=0,
    )
    static_shape = [
        num_chains,
        *initial_distribution.batch_shape,
        *initial_distribution.event_shape,
    ]
    if not any(exact_samples.shape.is_compatible_with(static_shape[axis:]) for axis in (0, 1)):
        raise SMVIError(
            f"exact_samples has shape {tuple(exact_samples.shape)}: give [batch, latent_dim] or "
            f"[num_chains, batch, latent_dim], here {tuple(static_shape)}"
        )
    return tf.ensure_shape(tf.broadcast_to(exact_samples, shape), static_shape)
