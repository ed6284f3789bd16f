"""Sums of importance weights: their mean in the log, with a standard error.

A set of weights `w[1..n]` with `E[w] = Z` estimates `log Z` by `log mean(w)`. By Jensen's
inequality its expectation lies below `log Z`. Everything here is a function of the two sums
`sum(w)` and `sum(w^2)`, so that any number of weights can be streamed.
"""

import math
from typing import NamedTuple

import tensorflow as tf

__all__ = ["WeightSums", "sum_weights"]


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
        """The standard error of `log mean(w)` by the delta method: float [batch], nats.

        With s the sample standard deviation of n independent weights,

            s / (sqrt(n) mean(w)) = sqrt((n / effective_sample_size - 1) / (n - 1)).

        One weight says nothing about its error: the result is then NaN. It never exceeds 1, and
        where the effective sample size is near 1 the true error is larger.
        """
        if tf.get_static_value(self.num_weights) == 1:
            # As a constant, and not from 0 / 0, where tf.debugging would stop.
            return tf.fill(tf.shape(self.log_sum), tf.constant(math.nan, self.log_sum.dtype))
        count = tf.cast(self.num_weights, self.log_sum.dtype)
        # Equal weights can round to an effective sample size just above their number.
        relative_variance = tf.maximum(count / self.effective_sample_size() - 1.0, 0.0)
        return tf.sqrt(relative_variance / (count - 1.0))


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
