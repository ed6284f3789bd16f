"""The annealed chain: TFP's tool run segment by segment along a path of temperatures.

`tfp.mcmc.sample_annealed_importance_chain` walks from one density to another with beta linear in
the step. A path of K segments, each from f_(beta_k) to f_(beta_(k+1)), makes any piecewise-linear
schedule of that.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_smvi.core.densities import LogDensity, log_densities
from tfp_smvi.inference.hmc import AnnealedHamiltonianMonteCarlo, Point
from tfp_smvi.inference.temperatures import TemperaturePath

__all__ = ["AnnealedChain", "Endpoints", "anneal", "anneal_segment"]


# Stands for the log of a density of 0, of which a mixture with beta = 0 would be NaN; a path of a
# million temperatures takes more than the second number from a chain that meets it.
_LOG_OF_ZERO, _LOG_WEIGHT_OF_ZERO = -1e30, -1e20


class Endpoints:
    """log f_0 and log f_1, with the gradients that move chains between them.

    A density of 0, outside of its support, has a finite number in place of -inf, small enough that
    chains never move there and that the weight of one that starts there is 0.

    Args:
        initial_log_prob_fn: z [num_chains, batch, latent_dim] -> log f_0(z): [num_chains, batch],
            nats.
        target_log_prob_fn: the same of log f_1.
        leapfrog_log_prob_fn: a function like log f_1 whose gradient moves chains; None for log f_1.
    """

    def __init__(
        self,
        initial_log_prob_fn: LogDensity,
        target_log_prob_fn: LogDensity,
        leapfrog_log_prob_fn: LogDensity | None = None,
    ) -> None:
        """Evaluates nothing yet."""
        self._initial_log_prob_fn = initial_log_prob_fn
        self._target_log_prob_fn = target_log_prob_fn
        self._leapfrog_log_prob_fn = leapfrog_log_prob_fn
        # Traced once for the three places of a graph that evaluate them.
        self._traced = tf.function(self._evaluate, autograph=False)

    def evaluate(self, z: tf.Tensor) -> Point:
        """Both log-densities and gradients at z [num_chains, batch, latent_dim]."""
        return self._traced(z)

    def _evaluate(self, z: tf.Tensor) -> Point:
        initial, initial_gradient = self._differentiate(
            "initial_distribution", self._initial_log_prob_fn, z
        )
        moving = self._leapfrog_log_prob_fn or self._target_log_prob_fn
        target, target_gradient = self._differentiate("target_log_prob_fn", moving, z)
        if self._leapfrog_log_prob_fn is not None:
            target = _finite(log_densities("target_log_prob_fn", self._target_log_prob_fn, z))
        return Point(z, initial, target, initial_gradient, target_gradient)

    def _differentiate(
        self, name: str, log_prob_fn: LogDensity, z: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        # Bijectors of TFP cache what they know of a tensor, but not its gradient.
        z = tf.identity(z)
        with tf.GradientTape() as tape:
            tape.watch(z)
            log_probs = _finite(log_densities(name, log_prob_fn, z))
        zero = tf.UnconnectedGradients.ZERO
        return log_probs, tape.gradient(log_probs, z, unconnected_gradients=zero)


def anneal_segment(
    endpoints: Endpoints,
    state: Point,
    *,
    temperatures: tuple[tf.Tensor, tf.Tensor],
    num_steps: tf.Tensor,
    step_size: tf.Tensor,
    num_leapfrog_steps: int,
    seed: tf.Tensor,
) -> tuple[Point, tf.Tensor, tf.Tensor]:
    """Walks one linear segment with TFP's tool.

    Args:
        endpoints: log f_0 and log f_1.
        state: draws of (or weighted towards) the density where the segment begins.
        temperatures: beta where the segment begins and where it ends, scalars.
        num_steps: its transitions, int32 scalar.
        step_size: [batch, latent_dim].
        num_leapfrog_steps: leapfrog steps per transition.
        seed: int32 [2].

    Returns:
        The new state; the log-weights of the segment, [num_chains, batch], nats; the mean
        acceptance probability over transitions, [num_chains, batch].
    """
    first, last = temperatures

    def mixture(beta: tf.Tensor) -> Callable[..., tf.Tensor]:
        return lambda *parts: Point(*parts).log_prob(beta)

    # The tool makes a kernel for each step, from the mixture of the ends; its place in the segment
    # follows from a mixture of 0 and 1.
    zero, one = tf.zeros([], state.z.dtype), tf.ones([], state.z.dtype)

    def make_kernel(log_prob_fn: Callable[..., tf.Tensor]) -> AnnealedHamiltonianMonteCarlo:
        beta = log_prob_fn(state.z, zero, one, zero, zero)
        return AnnealedHamiltonianMonteCarlo(
            beta, endpoints.evaluate, step_size, num_leapfrog_steps
        )

    parts, log_weights, results = tfp.mcmc.sample_annealed_importance_chain(
        num_steps=num_steps,
        proposal_log_prob_fn=mixture(first),
        target_log_prob_fn=mixture(last),
        current_state=list(state),
        make_kernel_fn=make_kernel,
        seed=seed,
    )
    return (
        # The tool may know less about the static shape than the loop began with.
        Point(*(tf.ensure_shape(part, old.shape) for part, old in zip(parts, state, strict=True))),
        log_weights,
        results.inner_results.acceptance_sum / tf.cast(num_steps, log_weights.dtype),
    )


def _finite(log_probs: tf.Tensor) -> tf.Tensor:
    """Log-densities with a finite number in place of -inf."""
    zero = tf.cast(tf.constant(_LOG_OF_ZERO, tf.float64), log_probs.dtype)
    return tf.where(log_probs == -float("inf"), zero, log_probs)


class AnnealedChain(NamedTuple):
    """The outcome of a walk along a path.

    Attributes:
        state: [num_chains, batch, latent_dim].
        log_weights: [num_chains, batch], nats; -inf of a chain that was where a density is 0.
        acceptance_rate: the mean over chains and transitions, [num_segments, batch].
    """

    state: tf.Tensor
    log_weights: tf.Tensor
    acceptance_rate: tf.Tensor


def anneal(
    endpoints: Endpoints,
    state: tf.Tensor,
    *,
    path: TemperaturePath,
    step_size: tf.Tensor,
    num_leapfrog_steps: int,
    seed: tf.Tensor,
) -> AnnealedChain:
    """Walks all segments of a path; one segment is traced, and a loop runs it.

    Args:
        endpoints: log f_0 and log f_1.
        state: draws from the density where the path begins, [num_chains, batch, latent_dim].
        path: the temperatures, from 0 to 1 or reversed.
        step_size: [num_segments, batch, latent_dim], in the order of the path.
        num_leapfrog_steps: leapfrog steps per transition.
        seed: int32 [2]; segment k uses it folded with k.

    Returns:
        The final states, log-weights and acceptance rates.
    """
    num_segments = len(path.num_steps)
    knots = tf.constant(path.knots, state.dtype)
    num_steps = tf.constant(path.num_steps)

    def walk_segment(
        index: tf.Tensor, state: Point, log_weights: tf.Tensor, acceptance_rate: tf.TensorArray
    ) -> tuple[tf.Tensor, Point, tf.Tensor, tf.TensorArray]:
        next_state, increment, acceptance = anneal_segment(
            endpoints,
            state,
            temperatures=(knots[index], knots[index + 1]),
            num_steps=num_steps[index],
            step_size=step_size[index],
            num_leapfrog_steps=num_leapfrog_steps,
            seed=tf.random.fold_in(seed, index),
        )
        acceptance_rate = acceptance_rate.write(index, tf.reduce_mean(acceptance, axis=0))
        return index + 1, next_state, log_weights + increment, acceptance_rate

    _, final, log_weights, acceptance_rate = tf.while_loop(
        lambda index, *_: index < num_segments,
        walk_segment,
        (
            0,
            endpoints.evaluate(state),
            tf.zeros(tf.shape(state)[:-1], state.dtype),
            tf.TensorArray(state.dtype, num_segments),
        ),
    )
    is_zero = log_weights < tf.cast(tf.constant(_LOG_WEIGHT_OF_ZERO, tf.float64), state.dtype)
    log_weights = tf.where(is_zero, tf.constant(-float("inf"), state.dtype), log_weights)
    return AnnealedChain(final.z, log_weights, acceptance_rate.stack())
