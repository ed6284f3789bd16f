"""Summaries of importance weights."""

import numpy as np
import tensorflow as tf

from tfp_smvi.inference.weights import jackknifed_log_mean, sum_weights


def test_the_jackknife_takes_the_largest_bias_of_few_weights_away() -> None:
    """Of 8 log-normal weights with mean 1 and variance e - 1, whose log has a bias of -0.09.

    The second term of the bias is of the order (e - 1)^2 / 8^2 = 0.05 nats; 40,000 sets of weights
    have standard errors of 0.002 and 0.003.
    """
    normal = np.random.default_rng(0).standard_normal((8, 40_000), np.float32)
    log_weights = tf.constant(normal - 0.5)
    plain = float(tf.reduce_mean(sum_weights(log_weights).log_mean()))
    jackknifed = float(tf.reduce_mean(jackknifed_log_mean(log_weights)))
    assert -0.11 < plain < -0.07
    assert abs(jackknifed) < 0.25 * abs(plain)


def test_the_jackknife_of_equal_weights_is_their_log() -> None:
    log_weights = tf.constant([[100.0, -200.0]] * 3)
    np.testing.assert_allclose(jackknifed_log_mean(log_weights), [100.0, -200.0], rtol=1e-6)
