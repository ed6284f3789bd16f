"""The gap log p(x) - ELBO of a model that is being trained: cheap each epoch, and better at times.

References:
    [1] Y. Burda, R. Grosse, R. Salakhutdinov. Importance Weighted Autoencoders. ICLR 2016.
"""

import tensorflow as tf

from tfp_smvi.core.runtime import compiled
from tfp_smvi.core.seeds import fold_seed
from tfp_smvi.data.test_batches import TEST_SEED
from tfp_smvi.inference.ais import annealed_importance_sampling
from tfp_smvi.inference.tuning import tune_step_sizes
from tfp_smvi.inference.weights import jackknifed_log_mean, sum_weights
from tfp_smvi.models.protocol import LatentVariableModel

__all__ = ["GapEstimator"]

# Draws of the cheap estimate, and of the better one, in chunks.
NUM_DRAWS = 16
NUM_CHUNKS, CHUNK_SIZE = 8, 64
# The better estimate is by annealing if the draws are too few: if the bias of their bound, about
# half of its variance, is more than this share of the gap.
LARGEST_BIAS = 0.02
NUM_CHAINS, NUM_TEMPERATURES = 4, 48
NUM_PILOT_CHAINS, NUM_PILOT_TEMPERATURES = 2, 24


class GapEstimator:
    """Estimates the gap of some examples at draws that are the same at every call.

    Args:
        model: the model, in float32.
    """

    def __init__(self, model: LatentVariableModel) -> None:
        """Traces the functions at their first calls."""
        self._model = model
        self._cheap, self._chunk, self._anneal = (
            compiled(function, reduce_retracing=True)
            for function in (self._gaps, self._log_weights, self._log_likelihood)
        )

    def cheap(self, x: tf.Tensor, number: int) -> tf.Tensor:
        """The importance-weighted bound [1], jackknifed, minus the ELBO; it still errs low.

            jackknife log(1/n sum_i w_i) - 1/n sum_i log w_i,    w_i = p(x, z_i) / q(z_i|x)

        Args:
            x: float32 [batch, *image_shape].
            number: of the batch, which decides on the draws.

        Returns:
            float32 [batch], in nats.
        """
        return self._cheap(x, fold_seed(TEST_SEED, "gap", number))

    def better(self, x: tf.Tensor) -> float:
        """The mean gap of a batch, with more draws and, if these are too few, by annealing."""
        seeds = [fold_seed(TEST_SEED, "better_gap", number) for number in range(NUM_CHUNKS)]
        log_weights = tf.concat([self._chunk(x, CHUNK_SIZE, seed) for seed in seeds], axis=0)
        bound, elbo = sum_weights(log_weights), tf.reduce_mean(log_weights)
        gap = float(tf.reduce_mean(bound.log_mean()) - elbo)
        bias = float(tf.reduce_mean(tf.square(bound.standard_error()))) / 2.0
        if bias <= LARGEST_BIAS * gap:
            return gap
        log_likelihood = self._anneal(x, fold_seed(TEST_SEED, "annealed_gap"))
        # Both err low.
        return max(gap, float(tf.reduce_mean(log_likelihood) - elbo))

    def _gaps(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        log_weights = self._log_weights(x, NUM_DRAWS, seed)
        return jackknifed_log_mean(log_weights) - tf.reduce_mean(log_weights, axis=0)

    def _log_weights(self, x: tf.Tensor, num_draws: int, seed: tf.Tensor) -> tf.Tensor:
        """log p(x, z) - log q(z|x) at draws of q: float32 [num_draws, batch]."""
        posterior = self._model.encode(x)
        z = posterior.sample(num_draws, seed=seed)
        return self._model.log_joint(x, z) - posterior.log_prob(z)

    def _log_likelihood(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """log p(x) by annealed importance sampling: float32 [batch]."""
        pilot_seed, chain_seed = tf.unstack(tf.random.split(seed))
        posterior = self._model.encode(x)
        problem = (lambda z: self._model.log_joint(x, z), posterior)
        scale = posterior.stddev()
        step_size = tune_step_sizes(
            *problem,
            scale=scale,
            num_chains=NUM_PILOT_CHAINS,
            num_temperatures=NUM_PILOT_TEMPERATURES,
            seed=pilot_seed,
        )
        result = annealed_importance_sampling(
            *problem,
            scale=scale,
            step_size=step_size,
            num_chains=NUM_CHAINS,
            num_temperatures=NUM_TEMPERATURES,
            seed=chain_seed,
        )
        return result.log_normalizer()
