"""Sums of importance weights: their mean in the log, with a standard error.

A set of weights `w[1..n]` with `E[w] = Z` estimates `log Z` by `log mean(w)`. By Jensen's
inequality its expectation lies below `log Z`. Everything here is a function of the two sums
`sum(w)` and `sum(w^2)`, so that any number of weights can be streamed.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from tfp_smvi.core.runtime import numerics_unchecked

__all__ = [
    "WeightSums",
    "covering_errors",
    "delta_method_errors",
    "jackknifed_log_mean",
    "sum_weights",
]


class WeightSums(NamedTuple):
    """The sums of `num_weights` importance weights, from which their summaries follow.

    Attributes:
        log_sum: `log sum(w)`: float [batch], nats.
        log_sum_of_squares: `log sum(w^2)`: float [batch], nats.
        num_weights: the number of weights, an integer scalar.
    """

    log_sum: tf.Tensor
    log_sum_of_squares: tf.Tensor
    num_weights: int | tf.Tensor

    def log_mean(self) -> tf.Tensor:
        """`log mean(w)`: float [batch], nats."""
        return self.log_sum - tf.math.log(tf.cast(self.num_weights, self.log_sum.dtype))

    def effective_sample_size(self) -> tf.Tensor:
        """`sum(w)^2 / sum(w^2)`, between 1 and the number of weights: float [batch]."""
        return tf.exp(2.0 * self.log_sum - self.log_sum_of_squares)

    def standard_error(self) -> tf.Tensor:
        """`delta_method_errors` of `log mean(w)`: float [batch], nats."""
        return delta_method_errors(self.effective_sample_size(), self.num_weights)


def delta_method_errors(
    effective_sample_size: tf.Tensor, num_weights: int | tf.Tensor
) -> tf.Tensor:
    """The standard errors of `log mean(w)` by the delta method: float [batch], nats.

    With s the sample standard deviation of n independent weights,

        s / (sqrt(n) mean(w)) = sqrt((n / effective_sample_size - 1) / (n - 1)).

    One weight says nothing about its error: the result is then NaN. It never exceeds 1, and is too
    small wherever a few weights miss the tail of theirs: `covering_errors`.

    Args:
        effective_sample_size: float [batch].
        num_weights: n, an integer scalar.
    """
    if tf.get_static_value(num_weights) == 1:
        # As a constant, and not from 0 / 0, where tf.debugging would stop.
        nan = tf.constant(math.nan, effective_sample_size.dtype)
        return tf.fill(tf.shape(effective_sample_size), nan)
    count = tf.cast(num_weights, effective_sample_size.dtype)
    # Equal weights can round to an effective sample size just above their number.
    relative_variance = tf.maximum(count / effective_sample_size - 1.0, 0.0)
    return tf.sqrt(relative_variance / (count - 1.0))


@numerics_unchecked()
def covering_errors(errors: tf.Tensor) -> tf.Tensor:
    """Standard errors of `log mean(w)` whose intervals hold log Z about as often as they should.

        max(e_i, r) (1 + 2 r^2),   r^2 = mean_i e_i^2 over the data points

    Where a data point's weights have missed their tail, its own error is too small just because the
    estimate is too low. The others have met that tail, hence r. The factor makes up for the bias of
    log mean(w), about r^2 / 2, and for the limit of 1 that the errors have. It was chosen on
    log-normal weights, Pareto weights, and those of annealed chains; what it achieves is in
    docs/annealed-importance-sampling.md.

    Args:
        errors: `delta_method_errors` of data points: float [batch], nats; those that are not finite
            stay as they are, and do not count.
    """
    finite = tf.math.is_finite(errors)
    squares = tf.where(finite, errors, tf.zeros_like(errors)) ** 2
    count = tf.reduce_sum(tf.cast(finite, errors.dtype))
    mean_square = tf.math.divide_no_nan(tf.reduce_sum(squares), count)
    covering = tf.maximum(errors, tf.sqrt(mean_square)) * (1.0 + 2.0 * mean_square)
    return tf.where(finite, covering, errors)


def sum_weights(log_weights: tf.Tensor) -> WeightSums:
    """Sums weights over their leading axis.

    Args:
        log_weights: float [num_weights, batch], nats.

    Returns:
        The sums: float [batch].
    """
    return WeightSums(
        log_sum=tf.reduce_logsumexp(log_weights, axis=0),
        log_sum_of_squares=tf.reduce_logsumexp(2.0 * log_weights, axis=0),
        num_weights=tf.shape(log_weights)[0],
    )


@numerics_unchecked()
def jackknifed_log_mean(log_weights: tf.Tensor) -> tf.Tensor:
    """`log mean(w)` without the largest term of its bias, for a few weights.

        n L - (n - 1) mean_i(L_i),    L = log mean(w), L_i = the same without the weight i

    The bias of L is of the order 1/n, and that of the result 1/n^2; its variance is larger.

    Args:
        log_weights: float [n, batch] with n >= 2.

    Returns:
        float [batch], nats.

    Source: S. Nowozin. Debiasing Evidence Approximations: On Importance-weighted Autoencoders and
        Jackknife Variational Inference. ICLR 2018.
    """
    n = log_weights.shape[0]
    whole = sum_weights(log_weights).log_mean()
    others = (tf.concat([log_weights[:i], log_weights[i + 1 :]], axis=0) for i in range(n))
    without = tf.stack([sum_weights(rest).log_mean() for rest in others])
    return n * whole - (n - 1.0) * tf.reduce_mean(without, axis=0)
