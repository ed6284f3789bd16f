"""The moments of weighted draws in units of another density, held against known ones."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_smvi.inference.moments import relative_moments

# p = N(MEAN_P, STDDEV_P^2), q = N(0.5, 2^2)
MEAN_P, STDDEV_P = np.array([0.5, -1.5]), np.array([1.0, 3.0])
SHIFT, RATIO = (MEAN_P - 0.5) / 2.0, (STDDEV_P / 2.0) ** 2
BATCH = 4000


def moments(z, log_weights):
    mean, stddev = np.full((BATCH, 2), 0.5), np.full((BATCH, 2), 2.0)
    return relative_moments(tf.constant(log_weights), tf.constant(z), mean, stddev)


@pytest.mark.parametrize("num_chains", [2, 16])
def test_draws_of_p_have_its_moments_whatever_their_number(num_chains):
    """Catches noise that is taken for a shift: 1 / 16 of the variance, 30 standard errors."""
    z = MEAN_P + STDDEV_P * np.random.default_rng(1).standard_normal((num_chains, BATCH, 2))
    found = moments(z, np.full((num_chains, BATCH), -7.0))
    for values, expected in zip(found, (SHIFT, SHIFT**2, RATIO), strict=True):
        error = np.std(values, axis=0) / BATCH**0.5
        assert np.all(np.abs(np.mean(values, axis=0) - expected) < 5.0 * error)


def test_weights_make_draws_those_of_p():
    """Draws from N(0, 3.5^2) in each dimension; weights that sum to 1 leave a bias.

    It is of the order of 1 / effective sample size, here 0.02 of the moments' size.
    """
    wide = 3.5
    z = wide * np.random.default_rng(2).standard_normal((512, BATCH, 2))
    log_p = -0.5 * np.sum(((z - MEAN_P) / STDDEV_P) ** 2, axis=-1)
    found = moments(z, log_p + 0.5 * np.sum((z / wide) ** 2, axis=-1))
    for values, expected in zip(found, (SHIFT, SHIFT**2, RATIO), strict=True):
        error = np.std(values, axis=0) / BATCH**0.5
        bound = 0.02 * np.maximum(RATIO, 1.0) + 5.0 * error
        assert np.all(np.abs(np.mean(values, axis=0) - expected) < bound)


def test_a_single_chain_with_all_the_weight_tells_no_moment():
    weights = np.full((3, BATCH), -np.inf)
    weights[1] = 0.0
    z = np.ones((3, BATCH, 2))
    shift, *others = moments(z, weights)
    np.testing.assert_allclose(shift, 0.25)
    assert all(np.isnan(values).all() for values in others)
