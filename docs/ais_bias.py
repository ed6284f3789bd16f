"""Shows that annealed importance sampling with TFP's stock kernel is biased, and how to fix it.

N(0, 1) is annealed to N(3, 0.5^2) times exp(2.5); mean(w) / Z should be 1 at any number of
temperatures.
"""

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

INITIAL = tfd.MultivariateNormalDiag([0.0], [1.0])
TARGET = tfd.MultivariateNormalDiag([3.0], [0.5])
LOG_Z = 2.5


class FreshHMC(tfp.mcmc.HamiltonianMonteCarlo):
    """Hamiltonian Monte Carlo that evaluates the current density at the current state."""

    def one_step(self, current_state, previous_kernel_results, seed=None):
        """Takes a step with fresh results instead of those of the previous density."""
        return super().one_step(current_state, self.bootstrap_results(current_state), seed=seed)


@tf.function
def mean_weight(num_temperatures, fresh, num_chains=200_000):
    """Returns mean(w) / Z."""
    kernel = FreshHMC if fresh else tfp.mcmc.HamiltonianMonteCarlo
    _, log_weights, _ = tfp.mcmc.sample_annealed_importance_chain(
        num_steps=num_temperatures,
        proposal_log_prob_fn=INITIAL.log_prob,
        target_log_prob_fn=lambda z: TARGET.log_prob(z) + LOG_Z,
        # A copy of the sample: log_prob would take its noise from the bijector's cache and lose
        # the gradient, which is a second bias, in the first transition.
        current_state=tf.identity(INITIAL.sample(num_chains, seed=(0, 1))),
        make_kernel_fn=lambda log_prob_fn: kernel(log_prob_fn, step_size=0.3, num_leapfrog_steps=3),
        seed=(2, 3),
    )
    return tf.reduce_mean(tf.exp(log_weights - LOG_Z))


if __name__ == "__main__":
    print("temperatures  stock  fresh")
    for count in (3, 10, 30, 100):
        stock, fresh = (mean_weight(count, fresh=fresh) for fresh in (False, True))
        print(f"{count:12d}  {stock:5.3f}  {fresh:5.3f}")
