"""The ranks of exact posterior samples among draws of q(z|x), for a block of simulated examples.

References:
    [1] S. Talts, M. Betancourt, D. Simpson, A. Vehtari, A. Gelman. Validating Bayesian Inference
        Algorithms with Simulation-Based Calibration. 2018.
    [2] M. Modrák et al. Simulation-Based Calibration Checking for Bayesian Computation: The Choice
        of Test Quantities Shapes Sensitivity. Bayesian Analysis. 2023.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfp_smvi.core.densities import uncached
from tfp_smvi.core.runtime import compiled
from tfp_smvi.evaluation.draws import Estimates, over_draws, to_numpy
from tfp_smvi.models.protocol import LatentVariableModel

__all__ = ["NUM_DRAWS", "CalibrationEstimator", "ranks"]

# The 80 values of a rank have the ends of central 50, 80 and 95 % intervals between them. The same
# number of examples with 200 values finds hardly more, and costs more than twice as much.
NUM_DRAWS = 79


class CalibrationEstimator:
    """The ranks of z and of log p(x, z) for blocks of examples, in a graph traced once.

    Args:
        model: the model, in float32.
        simulate: (z_seed, x_seed) -> z ~ p(z) and x ~ p(x|z), float32 [batch, ...] each.
    """

    def __init__(
        self,
        model: LatentVariableModel,
        simulate: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    ) -> None:
        """Traces nothing yet."""
        self._model, self._simulate = model, simulate
        self._ranked = compiled(self._rank)

    def ranked(self, seed: tf.Tensor) -> dict[str, np.ndarray]:
        """Simulates examples from the model and ranks what generated them among draws of q(z|x).

            z ~ p(z), x ~ p(x|z): z is an exact sample of p(z|x)

        Args:
            seed: int32 [2].

        Returns:
            ranks, of each latent: float32 [batch, latent_dim]; log_joint_rank, of log p(x, z):
            float32 [batch]. They are whole numbers from 0 to NUM_DRAWS, or -1 if a number is NaN.
            posterior_mean: float32 [batch, latent_dim].

        Source: [1]; log p(x, z) sees dependences between latents that no latent shows [2].
        """
        z_seed, x_seed, rank_seed = tf.unstack(tf.random.split(seed, 3))
        return to_numpy(self._ranked(*self._simulate(z_seed, x_seed), rank_seed))

    def _rank(self, z: tf.Tensor, x: tf.Tensor, seed: tf.Tensor) -> Estimates:
        draw_seed, tie_seed = tf.unstack(tf.random.split(seed))
        posterior = self._model.encode(x)

        def quantities(z: tf.Tensor) -> tf.Tensor:
            """The latents and log p(x, z): [..., batch, latent_dim + 1]."""
            z = uncached(z)
            return tf.concat([z, self._model.log_joint(x, z)[..., tf.newaxis]], axis=-1)

        shape = [z.shape[0], z.shape[1] + 1]
        draws = over_draws(quantities, posterior, NUM_DRAWS, draw_seed, shape)
        quantity_ranks = tf.cast(ranks(quantities(z), draws, tie_seed), tf.float32)
        return {
            "ranks": quantity_ranks[:, :-1],
            "log_joint_rank": quantity_ranks[:, -1],
            "posterior_mean": posterior.mean(),
        }


def ranks(values: tf.Tensor, draws: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Returns how many draws are below each value; equal ones are split at random.

    Args:
        values: float [...].
        draws: float [num_draws, ...].
        seed: int32 [2], for the ties.

    Returns:
        int32 [...], between 0 and num_draws, or -1 if a number is NaN.
    """
    less = tf.math.count_nonzero(draws < values, axis=0, dtype=tf.int32)
    equal = tf.math.count_nonzero(tf.equal(draws, values), axis=0, dtype=tf.int32)
    # A rank among ties is uniform on 0, ..., equal.
    share = tf.random.stateless_uniform(tf.shape(equal), seed)
    rank = less + tf.minimum(tf.cast(share * tf.cast(equal + 1, tf.float32), tf.int32), equal)
    unknown = tf.reduce_any(tf.math.is_nan(draws), axis=0) | tf.math.is_nan(values)
    return tf.where(unknown, -1, rank)
