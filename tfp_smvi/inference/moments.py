"""The moments of a posterior, from weighted chains, in units of an approximation of it."""

from typing import NamedTuple

import tensorflow as tf

from tfp_smvi.core.runtime import numerics_unchecked

__all__ = ["RelativeMoments", "relative_moments"]


class RelativeMoments(NamedTuple):
    """What the moments of p are in units of those of q, for each data point and dimension.

    With one data point's few chains they are noisy; means over data points are not. NaN where a
    single chain has all the weight.

    Attributes:
        shift: (mean_p - mean_q) / stddev_q: float [batch, latent_dim].
        squared_shift: an estimate of its square that noise does not make larger; it may be below 0:
            float [batch, latent_dim].
        variance_ratio: variance_p / variance_q: float [batch, latent_dim].
    """

    shift: tf.Tensor
    squared_shift: tf.Tensor
    variance_ratio: tf.Tensor


@numerics_unchecked()
def relative_moments(
    log_weights: tf.Tensor, z: tf.Tensor, mean: tf.Tensor, stddev: tf.Tensor
) -> RelativeMoments:
    """Estimates the moments of a density from weighted draws, in units of another one's.

        u_i = (z_i - mean_q) / stddev_q,   w_i = weights that sum to 1
        shift           sum_i w_i u_i
        squared_shift   sum_(i != j) w_i w_j u_i u_j / sum_(i != j) w_i w_j
        variance_ratio  sum_(i != j) w_i w_j (u_i - u_j)^2 / 2 / sum_(i != j) w_i w_j

    Products are of different draws alone, which are independent, so that noise adds nothing to
    them. Weights that are normalized leave a bias of the order of 1 / effective sample size.

    Args:
        log_weights: of independent draws, as those of annealed chains: float [num_chains, batch].
        z: the draws: float [num_chains, batch, latent_dim].
        mean: of q: float [batch, latent_dim].
        stddev: of q: float [batch, latent_dim].
    """
    weights = tf.nn.softmax(log_weights, axis=0)
    # sum_(i != j) w_i w_j, since the weights sum to 1.
    pairs = (1.0 - tf.reduce_sum(tf.square(weights), axis=0))[:, tf.newaxis]
    weights, u = weights[..., tf.newaxis], (z - mean) / stddev
    shift = tf.reduce_sum(weights * u, axis=0)
    own_products = tf.reduce_sum(tf.square(weights * u), axis=0)
    spread = tf.reduce_sum(weights * tf.square(u - shift), axis=0)
    pairs = tf.where(pairs > 0.0, pairs, tf.constant(float("nan"), pairs.dtype))
    return RelativeMoments(shift, (tf.square(shift) - own_products) / pairs, spread / pairs)
