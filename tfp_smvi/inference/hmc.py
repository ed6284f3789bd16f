"""Hamiltonian Monte Carlo that is exact while the density changes from step to step."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

__all__ = ["AnnealedHamiltonianMonteCarlo", "Point", "Results"]


class Point(NamedTuple):
    """A state of the chains, with all that a mixture of two densities takes of it.

    Attributes:
        z: float [num_chains, batch, latent_dim].
        initial: log f_0(z): float [num_chains, batch], nats.
        target: log f_1(z), likewise.
        initial_gradient: the gradient with respect to z that moves chains at beta = 0: float
            [num_chains, batch, latent_dim].
        target_gradient: that at beta = 1.
    """

    z: tf.Tensor
    initial: tf.Tensor
    target: tf.Tensor
    initial_gradient: tf.Tensor
    target_gradient: tf.Tensor

    def log_prob(self, beta: tf.Tensor) -> tf.Tensor:
        """log f_beta: float [num_chains, batch], nats."""
        return (1.0 - beta) * self.initial + beta * self.target

    def gradient(self, beta: tf.Tensor) -> tf.Tensor:
        """What moves chains at beta: float [num_chains, batch, latent_dim]."""
        return (1.0 - beta) * self.initial_gradient + beta * self.target_gradient


class _LogProb(NamedTuple):
    target_log_prob: tf.Tensor


class Results(NamedTuple):
    """The results of an `AnnealedHamiltonianMonteCarlo`; its next step adds to the last alone.

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


class AnnealedHamiltonianMonteCarlo(tfp.mcmc.TransitionKernel):
    """Hamiltonian Monte Carlo on f_beta, whose state brings both ends of the path with it.

    TFP's kernel carries the log-prob and the gradient of its state from step to step. When the
    density has changed in between, as in annealing, both belong to the density of the previous
    temperature: the acceptance test is then wrong, the kernel does not leave f_beta invariant, and
    the importance weights are biased. What is carried here belongs to the state alone, and makes
    every mixture: a step is exact, and takes one gradient for each leapfrog step and no other.

    A leapfrog step moves z by a function of the momentum and the momentum by one of z. Whatever
    these functions are, it can be reversed and keeps volumes, so a gradient that is not exact
    changes the acceptance rate and nothing else.

    Args:
        beta: the temperature, a scalar.
        evaluate: z -> its `Point`.
        step_size: [batch, latent_dim].
        num_leapfrog_steps: at least 1.
    """

    def __init__(
        self,
        beta: tf.Tensor,
        evaluate: Callable[[tf.Tensor], Point],
        step_size: tf.Tensor,
        num_leapfrog_steps: int,
    ) -> None:
        """Evaluates nothing yet."""
        self._beta, self._evaluate = beta, evaluate
        self._step_size, self._num_leapfrog_steps = step_size, num_leapfrog_steps

    @property
    def is_calibrated(self) -> bool:
        """True: the step ends with a Metropolis-Hastings test."""
        return True

    def one_step(
        self, current_state: list[tf.Tensor], previous_kernel_results: Results, seed: tf.Tensor
    ) -> tuple[list[tf.Tensor], Results]:
        """Moves a `Point`, as a list; the step leaves f_beta invariant."""
        here = Point(*current_state)
        momentum_seed, test_seed = tf.unstack(tf.random.split(seed))
        shape, dtype = tf.shape(here.z), here.z.dtype
        momentum = tf.random.stateless_normal(shape, momentum_seed, dtype=dtype)
        there, final_momentum = self._trajectory(here, momentum)
        energy = [0.5 * tf.reduce_sum(p**2, axis=-1) for p in (momentum, final_momentum)]
        difference = there.log_prob(self._beta) - here.log_prob(self._beta)
        log_ratio = difference + energy[0] - energy[1]
        # A trajectory that diverged to NaN is rejected.
        acceptance = tf.exp(tf.minimum(log_ratio, 0.0))
        acceptance = tf.where(tf.math.is_nan(acceptance), tf.zeros_like(acceptance), acceptance)
        uniform = tf.random.stateless_uniform(shape[:-1], test_seed, dtype=dtype)
        accepted = uniform < acceptance
        after = Point(*(_choose(accepted, new, old) for new, old in zip(there, here, strict=True)))
        return list(after), Results(
            accepted_results=_LogProb(after.log_prob(self._beta)),
            proposed_results=_LogProb(there.log_prob(self._beta)),
            acceptance_sum=previous_kernel_results.acceptance_sum + acceptance,
        )

    def bootstrap_results(self, init_state: list[tf.Tensor]) -> Results:
        """Returns zeros: the steps read no log-prob from the results, so none is evaluated."""
        zeros = tf.zeros_like(init_state[1])
        return Results(_LogProb(zeros), _LogProb(zeros), zeros)

    def _trajectory(self, here: Point, momentum: tf.Tensor) -> tuple[Point, tf.Tensor]:
        """Where the leapfrog integrator ends, and its momentum there."""
        beta, step_size = self._beta, self._step_size

        def drift(z: tf.Tensor, momentum: tf.Tensor) -> tf.Tensor:
            # In the loop, the tensor knows less of its shape.
            return tf.ensure_shape(z + step_size * momentum, here.z.shape)

        def leap(index: tf.Tensor, z: tf.Tensor, momentum: tf.Tensor) -> tuple[tf.Tensor, ...]:
            z = drift(z, momentum)
            # The value is not used, so that the graph does not compute it.
            momentum += step_size * self._evaluate(z).gradient(beta)
            return index + 1, z, momentum

        momentum += 0.5 * step_size * here.gradient(beta)
        _, z, momentum = tf.while_loop(
            lambda index, *_: index < self._num_leapfrog_steps, leap, (1, here.z, momentum)
        )
        there = self._evaluate(drift(z, momentum))
        return there, momentum + 0.5 * step_size * there.gradient(beta)


def _choose(accepted: tf.Tensor, new: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
    """Rows of one tensor where a move is accepted, and of the other elsewhere."""
    if new.shape.rank > accepted.shape.rank:
        accepted = accepted[..., tf.newaxis]
    return tf.where(accepted, new, old)
