"""The annealed chain: a path of temperatures, an exact Markov kernel, and TFP's tool run segment by segment.

The path between the initial density f_0 and the target f_1 is geometric, with beta as its
temperature:

    log f_beta(z) = (1 - beta) log f_0(z) + beta log f_1(z)

`tfp.mcmc.sample_annealed_importance_chain` walks it with beta linear in the step. A path of K
segments, each from f_(beta_k) to f_(beta_(k+1)), makes any piecewise-linear schedule out of that.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_smvi.core.densities import one_for_each
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.inference.arguments import require_positive_integer

__all__ = [
    "SCHEDULES",
    "AnnealedChain",
    "Endpoints",
    "FreshHamiltonianMonteCarlo",
    "FreshResults",
    "TemperaturePath",
    "anneal",
    "anneal_segment",
    "temperature_path",
]

LogProbFn = Callable[[tf.Tensor], tf.Tensor]


def _linear(position: np.ndarray) -> np.ndarray:
    return position


def _sigmoid(position: np.ndarray) -> np.ndarray:
    # The logistic function on [-4, 4], shifted and scaled to run from 0 to 1 [Wu et al., appendix]:
    # small steps at both ends, where the densities change fastest.
    logistic = 1.0 / (1.0 + np.exp(-4.0 * (2.0 * position - 1.0)))
    return (logistic - logistic[0]) / (logistic[-1] - logistic[0])


# From the position on the path, increasing from 0 to 1 with both ends included, to beta.
SCHEDULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"linear": _linear, "sigmoid": _sigmoid}


class TemperaturePath(NamedTuple):
    """A piecewise-linear path of temperatures.

    Attributes:
        knots: beta at the ends of the segments, from 0 to 1: float64 [num_segments + 1].
        num_steps: transitions in each segment: int32 [num_segments].
    """

    knots: np.ndarray
    num_steps: np.ndarray

    def reversed(self) -> "TemperaturePath":
        """The same path walked from the target to the initial density."""
        return TemperaturePath(self.knots[::-1], self.num_steps[::-1])


def temperature_path(schedule: str, num_temperatures: int, num_segments: int) -> TemperaturePath:
    """Lays the knots of a schedule and shares out the transitions between them.

    The knots depend on the number of segments alone, so that step sizes tuned per segment hold for
    any number of temperatures.

    Args:
        schedule: a key of `SCHEDULES`.
        num_temperatures: the transitions of the whole path.
        num_segments: the linear pieces, at most `num_temperatures`.

    Returns:
        The path.

    Raises:
        SMVIError: the schedule is unknown, or there are more segments than temperatures.
    """
    require_positive_integer("num_temperatures", num_temperatures)
    require_positive_integer("num_segments", num_segments)
    if schedule not in SCHEDULES:
        raise SMVIError(f"schedule is {schedule!r}: choose one of {', '.join(sorted(SCHEDULES))}")
    if num_segments > num_temperatures:
        raise SMVIError(
            f"num_segments is {num_segments} with num_temperatures {num_temperatures}: "
            "each segment needs a temperature, so give at most as many segments"
        )
    knots = SCHEDULES[schedule](np.linspace(0.0, 1.0, num_segments + 1))
    ends = np.arange(num_segments + 1) * num_temperatures // num_segments
    return TemperaturePath(knots, np.diff(ends).astype(np.int32))


class Endpoints:
    """log f_0 and log f_1, evaluated once per state however often the tool asks.

    In one step the tool asks for both ends of the segment to weigh the state, and for their mixture
    to bootstrap the kernel there: six log-probs of one tensor, most of whose cost is the target's
    (a decoder). While a graph is traced, the same state is the same tensor object, so that
    remembering the last one is enough.
    """

    def __init__(self, initial_log_prob_fn: LogProbFn, target_log_prob_fn: LogProbFn) -> None:
        """Remembers nothing yet; both functions map z [..., batch, latent_dim] to [..., batch], nats."""
        self._initial_log_prob_fn = initial_log_prob_fn
        self._target_log_prob_fn = target_log_prob_fn
        self._state: tf.Tensor | None = None
        self._log_probs: tuple[tf.Tensor, tf.Tensor] | None = None

    def log_probs(self, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`log f_0(z), log f_1(z)` of z [num_chains, batch, latent_dim]: float [num_chains, batch], nats."""
        if self._log_probs is None or state is not self._state:
            target = one_for_each("target_log_prob_fn", self._target_log_prob_fn(state), state)
            self._log_probs = (self._initial_log_prob_fn(state), target)
            self._state = state
        return self._log_probs

    def mixture(self, beta: tf.Tensor) -> LogProbFn:
        """The function `log f_beta`."""

        def log_prob(state: tf.Tensor) -> tf.Tensor:
            initial, target = self.log_probs(state)
            return (1.0 - beta) * initial + beta * target

        return log_prob


class _LogProb(NamedTuple):
    target_log_prob: tf.Tensor


class FreshResults(NamedTuple):
    """What the tool and its caller read from a `FreshHamiltonianMonteCarlo`; the next step needs none of it.

    Attributes:
        accepted_results: holds the log-prob of the state after the step: float [num_chains, batch],
            nats.
        proposed_results: holds the log-prob of the proposal: float [num_chains, batch], nats.
        acceptance_sum: the acceptance probabilities of all steps so far, summed: float [num_chains,
            batch].
    """

    accepted_results: _LogProb
    proposed_results: _LogProb
    acceptance_sum: tf.Tensor


class FreshHamiltonianMonteCarlo(tfp.mcmc.TransitionKernel):
    """Hamiltonian Monte Carlo that takes nothing over from the step before.

    TFP's kernel carries the log-prob and the gradient of its state from step to step. When the
    density has changed in between, as in annealing, both belong to the density of the previous
    temperature: the acceptance test is then wrong, the kernel does not leave f_beta invariant, and
    the importance weights are biased. Here each step bootstraps on the current state at the current
    density, for one more gradient per step.
    """

    def __init__(
        self, target_log_prob_fn: LogProbFn, step_size: tf.Tensor, num_leapfrog_steps: int
    ) -> None:
        """Takes the arguments of `tfp.mcmc.HamiltonianMonteCarlo`, with the state a single tensor."""
        self._kernel = tfp.mcmc.HamiltonianMonteCarlo(
            target_log_prob_fn, step_size=step_size, num_leapfrog_steps=num_leapfrog_steps
        )

    @property
    def is_calibrated(self) -> bool:
        """True: the step ends with a Metropolis-Hastings test."""
        return True

    def one_step(
        self,
        current_state: tf.Tensor,
        previous_kernel_results: FreshResults,
        seed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, FreshResults]:
        """Moves z [num_chains, batch, latent_dim] by a step that leaves the current density invariant."""
        here = self._kernel.bootstrap_results(current_state)
        state, results = self._kernel.one_step(current_state, here, seed=seed)
        acceptance = tf.exp(tf.minimum(results.log_accept_ratio, 0.0))
        # A trajectory that diverged to NaN is rejected.
        acceptance = tf.where(tf.math.is_nan(acceptance), tf.zeros_like(acceptance), acceptance)
        return state, FreshResults(
            accepted_results=_LogProb(results.accepted_results.target_log_prob),
            proposed_results=_LogProb(results.proposed_results.target_log_prob),
            acceptance_sum=previous_kernel_results.acceptance_sum + acceptance,
        )

    def bootstrap_results(self, init_state: tf.Tensor) -> FreshResults:
        """Returns zeros: the steps read no log-prob from the results, so none is evaluated."""
        zeros = tf.zeros(tf.shape(init_state)[:-1], init_state.dtype)
        return FreshResults(_LogProb(zeros), _LogProb(zeros), zeros)


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


class AnnealedChain(NamedTuple):
    """The outcome of a walk along a path.

    Attributes:
        state: [num_chains, batch, latent_dim].
        log_weights: [num_chains, batch], nats.
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
    return AnnealedChain(state, log_weights, acceptance_rate.stack())
