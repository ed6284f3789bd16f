"""The tail of importance weights: Pareto k, which says whether their mean can be trusted.

The largest weights are fitted by a generalized Pareto distribution. Its shape k says how many
moments the weights have: fewer than 1 / k, so that their variance is infinite from 1/2 on, and
their mean from 1 on. Here and not from arviz-stats, which needs a later Python and fits one data
point after the other.

References:
    [1] J. Zhang and M. A. Stephens. A New and Efficient Estimation Method for the Generalized
        Pareto Distribution. Technometrics, 2009.
    [2] A. Vehtari, D. Simpson, A. Gelman, Y. Yao, J. Gabry. Pareto Smoothed Importance Sampling.
        JMLR, 2024.
"""

import math
from typing import Any

import tensorflow as tf

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.runtime import numerics_unchecked

__all__ = ["FEWEST_DRAWS", "largest_of", "pareto_k", "tail_k", "tail_size"]

# Five weights are the fewest that a tail can be fitted to [2, section 3.4]; these many have them.
FEWEST_TAIL, FEWEST_DRAWS = 5, 25
# The prior of k: as much as 10 weights, at 1/2 [2, appendix G].
PRIOR_WEIGHT, PRIOR_K = 10.0, 0.5
# Weights whose tail is within this many nats are equal: rounding of float32 makes them differ.
EQUAL = 1e-3


def tail_size(num_weights: int) -> int:
    """The number of largest weights that make the tail, min(0.2 S, 3 sqrt(S)) of S [2]."""
    return int(min(0.2 * num_weights, 3.0 * math.sqrt(num_weights)))


@numerics_unchecked()
def pareto_k(log_weights: Any) -> tf.Tensor:
    """Estimates the shape k of the tail of importance weights, the Pareto k-hat.

        P(w > u + y | w > u) = (1 + k y / sigma)^(-1 / k),   u the S - M-th of S weights in order

    Up to 0.5 the mean of the weights and its standard error can be trusted, up to 0.7 the mean
    still converges, and above that it does not in practice; the limit of S weights is min(1 - 1 /
    log10(S), 0.7) [2, section 3.2.4]. For z ~ q, with weights p(x, z) / q(z|x), k above 0.7 says
    that q misses tails or modes of the posterior.

    Args:
        log_weights: float [num_weights, ...], nats; they need not be normalized, and -inf is a
            weight of 0.

    Returns:
        float [...]: k of each set of weights. NaN with fewer than 25 weights, whose tail cannot be
        fitted, and if a weight is NaN or all are 0; -inf if the weights of the tail are equal; inf
        if fewer than five are above those that follow.

    Raises:
        SMVIError: the weights are not floats, or their number is not known while a graph is traced.

    Source: [1], with the tail and the prior of [2].
    """
    log_weights = tf.convert_to_tensor(log_weights)
    if not log_weights.dtype.is_floating or log_weights.shape.rank in (None, 0):
        raise SMVIError(
            f"has dtype {log_weights.dtype.name} and shape {log_weights.shape}",
            field="log_weights",
            remedy="give floats [num_weights, ...]",
        )
    num_weights = log_weights.shape[0]
    if not num_weights:
        remedy = "give a tensor with a known number of weights, at least 1"
        raise SMVIError("has no known first axis", field="log_weights", remedy=remedy)
    flat = tf.reshape(log_weights, [num_weights, -1])
    k = tail_k(largest_of(flat, num_weights), num_weights)
    unknown = tf.reduce_any(tf.math.is_nan(flat), axis=0)
    k = tf.where(unknown, tf.constant(math.nan, k.dtype), k)
    return tf.reshape(k, tf.shape(log_weights)[1:])


def largest_of(log_weights: tf.Tensor, num_weights: int) -> tf.Tensor:
    """The log-weights that `tail_k` needs, in descending order: float [tail_size + 1, batch].

    Args:
        log_weights: float [n, batch], which have the largest of all.
        num_weights: the number of all weights.
    """
    return tf.transpose(tf.math.top_k(tf.transpose(log_weights), tail_size(num_weights) + 1).values)


@numerics_unchecked()
def tail_k(largest: tf.Tensor, num_weights: int) -> tf.Tensor:
    """`pareto_k` from the largest weights alone.

    Args:
        largest: `largest_of` the log-weights: float [tail_size + 1, batch].
        num_weights: the number of all weights.

    Returns:
        float [batch].
    """
    dtype = largest.dtype
    if tail_size(num_weights) < FEWEST_TAIL:
        return tf.fill(tf.shape(largest)[1:], tf.constant(math.nan, dtype))
    largest = tf.transpose(tf.cast(largest, tf.float64))
    top, cutoff = largest[:, 0], largest[:, -1]
    excess = tf.exp(largest[:, :-1] - top[:, tf.newaxis]) - tf.exp(cutoff - top)[:, tf.newaxis]
    count = tf.reduce_sum(tf.cast(excess > 0.0, tf.float64), axis=-1)
    k = _fit(excess, count)
    k = tf.where(count < FEWEST_TAIL, tf.constant(math.inf, tf.float64), k)
    k = tf.where(top - cutoff < EQUAL, tf.constant(-math.inf, tf.float64), k)
    k = tf.where(tf.math.is_finite(top), k, tf.constant(math.nan, tf.float64))
    return tf.cast(k, dtype)


def _fit(excess: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """k of a generalized Pareto distribution, by the posterior mean of b = -k / sigma [1].

    Args:
        excess: what weights have above a cutoff, in descending order: float64 [batch, size]; those
            that have nothing, behind the first `count`, do not take part.
        count: float64 [batch].
    """
    size = excess.shape[-1]
    num_points = 30 + math.isqrt(size)
    # The prior of b is wide in units of the first quartile of the excesses.
    place = tf.cast(tf.maximum(count - tf.floor(count / 4.0 + 0.5), 0.0), tf.int32)
    quartile = tf.gather(excess, place, axis=-1, batch_dims=1)
    points = tf.range(1, num_points + 1, dtype=tf.float64) - 0.5
    b = (1.0 - tf.sqrt(num_points / points)) / (3.0 * quartile[:, tf.newaxis])
    b += 1.0 / excess[:, :1]
    b = tf.where(b == 0.0, tf.constant(1e-300, tf.float64), b)

    def k_of(b: tf.Tensor) -> tf.Tensor:
        """The k that is most likely with b: float64 [batch]."""
        return tf.reduce_sum(tf.math.log1p(-b[:, tf.newaxis] * excess), axis=-1) / count

    # One point at a time, for constant memory.
    k = tf.transpose(tf.map_fn(k_of, tf.transpose(b)))
    log_likelihood = count[:, tf.newaxis] * (tf.math.log(-b / k) - k - 1.0)
    k = k_of(tf.reduce_sum(tf.nn.softmax(log_likelihood) * b, axis=-1))
    return (count * k + PRIOR_WEIGHT * PRIOR_K) / (count + PRIOR_WEIGHT)
