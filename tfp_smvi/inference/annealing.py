"""The annealed chain: TFP's tool run segment by segment along a path of temperatures.

`tfp.mcmc.sample_annealed_importance_chain` walks from one density to another with beta linear in
the step. A path of K segments, each from f_(beta_k) to f_(beta_(k+1)), makes any piecewise-linear
schedule of that.
"""

from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_smvi.core.densities import LogDensity, log_densities
from tfp_smvi.inference.hmc import FreshHamiltonianMonteCarlo
from tfp_smvi.inference.temperatures import TemperaturePath

__all__ = ["AnnealedChain", "Endpoints", "anneal", "anneal_segment"]


# Stands for the log of a density of 0, of which a mixture with beta = 0 would be NaN; a path of a
# million temperatures takes more than the second number from a chain that meets it.
_LOG_OF_ZERO, _LOG_WEIGHT_OF_ZERO = -1e30, -1e20


class Endpoints:
    """log f_0 and log f_1, evaluated once per state however often the tool asks.

    In one step the tool asks for both ends of the segment to weigh the state, and for their mixture
    to bootstrap the kernel there: six log-probs of one tensor, most of whose cost is the target's
    (a decoder). While a graph is traced, the same state is the same tensor object, so that
    remembering the last one is enough.

    A density of 0, outside of its support, has a finite number in place of -inf, small enough that
    chains never move there and that the weight of one that starts there is 0.
    """

    def __init__(self, initial_log_prob_fn: LogDensity, target_log_prob_fn: LogDensity) -> None:
        """Takes two functions of z [..., batch, latent_dim] -> [..., batch], nats."""
        self._initial_log_prob_fn = initial_log_prob_fn
        self._target_log_prob_fn = target_log_prob_fn
        self._state: tf.Tensor | None = None
        self._log_probs: tuple[tf.Tensor, tf.Tensor] | None = None

    def log_probs(self, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`log f_0(z), log f_1(z)` at z [num_chains, batch, latent_dim], nats."""
        if self._log_probs is None or state is not self._state:
            target = log_densities("target_log_prob_fn", self._target_log_prob_fn, state)
            initial = log_densities("initial_distribution", self._initial_log_prob_fn, state)
            self._log_probs = (_finite(initial), _finite(target))
            self._state = state
        return self._log_probs

    def mixture(self, beta: tf.Tensor) -> LogDensity:
        """The function `log f_beta`."""

        def log_prob(state: tf.Tensor) -> tf.Tensor:
            initial, target = self.log_probs(state)
            return (1.0 - beta) * initial + beta * target

        return log_prob


def anneal_segment(
    endpoints: Endpoints,
    state: tf.Tensor,
    *,
    temperatures: tuple[tf.Tensor, tf.Tensor],
    num_steps: tf.Tensor,
    step_size: tf.Tensor,
    num_leapfrog_steps: int,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Walks one linear segment with TFP's tool.

    Args:
        endpoints: log f_0 and log f_1.
        state: draws of (or weighted towards) the density where the segment begins, [num_chains,
            batch, latent_dim].
        temperatures: beta where the segment begins and where it ends, scalars.
        num_steps: its transitions, int32 scalar.
        step_size: [batch, latent_dim].
        num_leapfrog_steps: leapfrog steps per transition.
        seed: int32 [2].

    Returns:
        The new state; the log-weights of the segment, [num_chains, batch], nats; the mean
        acceptance probability over transitions, [num_chains, batch].
    """
    state, log_weights, results = tfp.mcmc.sample_annealed_importance_chain(
        num_steps=num_steps,
        proposal_log_prob_fn=endpoints.mixture(temperatures[0]),
        target_log_prob_fn=endpoints.mixture(temperatures[1]),
        current_state=state,
        make_kernel_fn=lambda log_prob_fn: FreshHamiltonianMonteCarlo(
            log_prob_fn, step_size, num_leapfrog_steps
        ),
        seed=seed,
    )
    return (
        state,
        log_weights,
        results.inner_results.acceptance_sum / tf.cast(num_steps, state.dtype),
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
        index: tf.Tensor, state: tf.Tensor, log_weights: tf.Tensor, acceptance_rate: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.TensorArray]:
        next_state, increment, acceptance = anneal_segment(
            endpoints,
            state,
            temperatures=(knots[index], knots[index + 1]),
            num_steps=num_steps[index],
            step_size=step_size[index],
            num_leapfrog_steps=num_leapfrog_steps,
            seed=tf.random.fold_in(seed, index),
        )
        # The tool may know less about the static shape than the loop began with.
        next_state = tf.ensure_shape(next_state, state.shape)
        acceptance_rate = acceptance_rate.write(index, tf.reduce_mean(acceptance, axis=0))
        return index + 1, next_state, log_weights + increment, acceptance_rate

    _, state, log_weights, acceptance_rate = tf.while_loop(
        lambda index, *_: index < num_segments,
        walk_segment,
        (
            0,
            state,
            tf.zeros(tf.shape(state)[:-1], state.dtype),
            tf.TensorArray(state.dtype, num_segments),
        ),
    )
    is_zero = log_weights < tf.cast(tf.constant(_LOG_WEIGHT_OF_ZERO, tf.float64), state.dtype)
    log_weights = tf.where(is_zero, tf.constant(-float("inf"), state.dtype), log_weights)
    return AnnealedChain(state, log_weights, acceptance_rate.stack())
