"""Pareto k held against tails of a known index, and against arviz-stats."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support.errors import refused
from tfp_smvi import importance_weighted_bound, pareto_k
from tfp_smvi.inference.pareto import tail_size

tfd = tfp.distributions

# log w of the middles of equal parts of a Pareto distribution, and what arviz-stats 1.3.3 gives.
QUANTILES = -np.log((np.arange(1000) + 0.5) / 1000)
ARVIZ = {
    (0.2, 1): 0.2368082972555032,
    (0.2, 5): 0.37779532658109316,
    (0.7, 1): 0.6699004120429832,
    (0.7, 5): 0.7731033644537618,
    (1.0, 1): 0.9298831739394774,
    (1.0, 5): 1.0073888188761504,
}


@pytest.mark.parametrize(("k", "step"), ARVIZ)
def test_k_is_that_of_arviz_stats(k, step):
    """Catches any other tail, cutoff, grid or prior: the numbers have sixteen digits."""
    assert pareto_k(k * QUANTILES[::step]).numpy() == pytest.approx(ARVIZ[k, step], abs=1e-12)


@pytest.mark.parametrize("k", [0.2, 0.5, 0.7, 1.0])
def test_k_of_generalized_pareto_draws_is_their_shape(k):
    """Catches an error of 0.08 in k; its standard error is (1 + k) / sqrt(M), without the prior's.

    The prior counts as 10 weights at 1/2. That b is averaged over a grid leaves 0.03 or less.
    """
    size, repeats = tail_size(1000), 400
    draws = np.random.default_rng(1).random((1000, repeats))
    found = pareto_k(np.log((draws**-k - 1.0) / k)).numpy()
    share = size / (size + 10.0)
    error = share * (1.0 + k) / math.sqrt(size * repeats)
    assert abs(found.mean() - (share * k + (1.0 - share) * 0.5)) < 0.03 + 5.0 * error
    assert found.std() == pytest.approx(share * (1.0 + k) / math.sqrt(size), rel=0.2)


def bound_from(posterior, target, num_samples=4000, chunk_size=1000):
    """The importance-weighted bound of a target in one dimension, for 100 data points."""
    return importance_weighted_bound(
        lambda z: target.log_prob(z)[..., 0],
        tfd.Independent(tfd.BatchBroadcast(posterior, [100, 1]), 1),
        num_samples=num_samples,
        chunk_size=chunk_size,
        seed=3,
    )


@pytest.mark.parametrize("rate", [1.25, 2.0, 5.0])
def test_k_of_an_exponential_proposal_is_known(rate):
    """w is proportional to e^((rate - 1) z), a Pareto weight with k = 1 - 1 / rate."""
    found = bound_from(tfd.Exponential(rate), tfd.Exponential(1.0)).pareto_k.numpy()
    k, size = 1.0 - 1.0 / rate, tail_size(4000)
    expected = (size * k + 5.0) / (size + 10.0)
    assert abs(found.mean() - expected) < 0.02 + 5.0 * (1.0 + k) / math.sqrt(100 * size)


def test_k_of_a_gaussian_proposal_grows_as_it_gets_narrower():
    """Its index is 1 - s^2, which finite samples come near to slowly: k is up to 0.12 too small."""
    target = tfd.Normal(0.0, 1.0)
    for scale in (0.5, 0.7, 0.9):
        found = bound_from(tfd.Normal(0.0, scale), target, 20000).pareto_k.numpy().mean()
        assert -0.12 < found - (1.0 - scale**2) < 0.05
    # As wide, all weights are equal; wider, they are bounded.
    same = bound_from(tfd.Normal(0.0, 1.0), target).pareto_k
    assert np.all(np.isneginf(same))
    assert np.all(bound_from(tfd.Normal(0.0, 1.5), target).pareto_k.numpy() < 0.0)


def test_k_of_streamed_weights_is_that_of_all_weights():
    """Catches a weight of the tail that is lost between chunks, or is beyond the last one."""
    posterior = tfd.Independent(tfd.Normal(tf.zeros([5, 2]), 0.6), 1)
    target, seed = tfd.MultivariateNormalDiag(tf.zeros([5, 2])), tf.constant([3, 4])
    options = {"num_samples": 190, "chunk_size": 40, "seed": seed}
    bound = importance_weighted_bound(target.log_prob, posterior, **options)
    chunks = [posterior.sample(40, seed=tf.random.fold_in(seed, chunk)) for chunk in range(5)]
    z = tf.concat(chunks, axis=0)[:190]
    expected = pareto_k(target.log_prob(z) - posterior.log_prob(z))
    np.testing.assert_allclose(bound.pareto_k, expected, rtol=1e-4)
    graph = tf.function(lambda: importance_weighted_bound(target.log_prob, posterior, **options))
    np.testing.assert_allclose(graph().pareto_k, expected, rtol=1e-4)


def test_weights_without_a_tail():
    uniform = np.log(np.random.default_rng(2).random(100))
    zeros = np.full(100, -np.inf)
    cases = {
        -np.inf: [np.zeros(200), np.concatenate([zeros, np.zeros(100)])],
        # One or a few weights have all.
        np.inf: [np.concatenate([zeros, zeros, uniform[:4]])],
        # Unknown: nothing has a weight, one is NaN, or infinite.
        np.nan: [np.full(200, -np.inf), np.append(uniform, np.nan), np.append(uniform, np.inf)],
    }
    for expected, weights in cases.items():
        for log_weights in weights:
            np.testing.assert_equal(float(pareto_k(log_weights)), expected)
    # Weights of 0 count as draws: the tail of 400 is their 60 largest.
    assert float(pareto_k(np.concatenate([zeros, zeros, zeros, uniform]))) < 0.0


def test_few_draws_have_no_known_k():
    log_weights = np.random.default_rng(3).standard_normal((24, 3))
    assert np.isnan(pareto_k(log_weights)).all()
    assert np.isfinite(pareto_k(np.append(log_weights, log_weights[:1], axis=0))).all()
    target = tfd.Normal(0.0, 1.0)
    assert np.isnan(bound_from(tfd.Normal(0.0, 0.9), target, 24, 10).pareto_k).all()


def test_a_factor_of_the_weights_changes_nothing_and_shapes_and_dtypes_stay():
    log_weights = tf.random.stateless_normal([100, 2, 3], [1, 2])
    found = pareto_k(log_weights)
    assert (found.shape, found.dtype) == ([2, 3], tf.float32)
    np.testing.assert_allclose(pareto_k(log_weights - 1000.0), found, atol=1e-3)


@pytest.mark.parametrize("value", [3.0, [1, 2, 3]])
def test_what_are_no_weights_is_refused(value):
    with refused("log_weights"):
        pareto_k(value)
