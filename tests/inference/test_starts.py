"""Starts for chains, held against closed forms."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tests.support.errors import refused
from tfp_smvi.inference.ais import annealed_importance_sampling
from tfp_smvi.inference.starts import widened

MEAN = tf.constant([[1.0, -2.0], [0.5, 3.0]])
CHOLESKY = tf.constant([[[1.0, 0.0], [0.5, 2.0]], [[0.1, 0.0], [-0.3, 1.0]]])


@pytest.mark.parametrize(
    ("start", "wide"),
    [
        (
            tfd.MultivariateNormalDiag(MEAN, 0.3 * tf.ones([2, 2])),
            tfd.MultivariateNormalDiag(MEAN, 0.6 * tf.ones([2, 2])),
        ),
        (
            tfd.MultivariateNormalTriL(MEAN, CHOLESKY),
            tfd.MultivariateNormalTriL(MEAN, 2.0 * CHOLESKY),
        ),
    ],
)
def test_a_widened_gaussian_is_the_gaussian_of_twice_the_width(start: Any, wide: Any) -> None:
    """Catches a missing log-determinant, one for each dimension, and a stretch about 0."""
    made = widened(start, 2.0)
    assert (made.batch_shape, made.event_shape) == (wide.batch_shape, wide.event_shape)
    z = made.sample(20_000, seed=[1, 2])
    np.testing.assert_allclose(made.log_prob(tf.identity(z)), wide.log_prob(z), atol=1e-3)
    np.testing.assert_allclose(made.mean(), wide.mean(), atol=1e-6)
    np.testing.assert_allclose(made.stddev(), wide.stddev(), atol=1e-6)
    error = wide.stddev() / np.sqrt(20_000.0)
    assert np.all(np.abs(np.mean(z, axis=0) - MEAN) < 5.0 * error)
    assert np.all(np.abs(np.std(z, axis=0) / wide.stddev() - 1.0) < 5.0 / np.sqrt(40_000.0))


def test_chains_from_a_widened_start_are_exact() -> None:
    """log Z = 0 within 5 errors of about 0.01, and a density that is not normalized is off."""
    target = tfd.MultivariateNormalDiag(MEAN, 0.5 * tf.ones([2, 2]))
    start = widened(tfd.MultivariateNormalDiag(MEAN, 0.2 * tf.ones([2, 2])), 3.0)
    result = annealed_importance_sampling(
        target.log_prob, start, step_size=0.5, seed=3, num_chains=2000, num_temperatures=8
    )
    error = result.log_normalizer_standard_error()
    assert np.all(error < 0.03)
    assert np.all(np.abs(result.log_normalizer()) < 5.0 * error)


def test_a_factor_of_one_is_the_distribution_itself() -> None:
    start = tfd.MultivariateNormalDiag(MEAN)
    assert widened(start, 1.0) is start


@pytest.mark.parametrize("factor", [0.0, -1.0, np.inf, np.nan])
def test_other_factors_are_refused(factor: float) -> None:
    with refused("factor"):
        widened(tfd.MultivariateNormalDiag(MEAN), factor)


def test_a_start_without_a_mean_is_refused() -> None:
    mixture = tfd.Independent(tfd.Cauchy(MEAN, 1.0, allow_nan_stats=False), 1)
    with refused("distribution"):
        widened(mixture, 2.0)
