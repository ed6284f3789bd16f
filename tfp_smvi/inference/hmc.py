"""Hamiltonian Monte Carlo that is exact while the density changes from step to step."""

from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_smvi.core.densities import LogDensity

__all__ = ["FreshHamiltonianMonteCarlo", "FreshResults"]


class _LogProb(NamedTuple):
    target_log_prob: tf.Tensor


class FreshResults(NamedTuple):
    """The results of a `FreshHamiltonianMonteCarlo`; its next step needs none of them.

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
        self, target_log_prob_fn: LogDensity, step_size: tf.Tensor, num_leapfrog_steps: int
    ) -> None:
        """Takes the arguments of `tfp.mcmc.HamiltonianMonteCarlo`; the state is one tensor."""
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
        """Moves z [num_chains, batch, latent_dim]; the step leaves the density invariant."""
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
