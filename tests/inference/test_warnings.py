"""The warnings of results: when they appear, and the numbers in them."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support.errors import refused
from tfp_smvi.inference.ais import (
    annealed_importance_sampling,
    reverse_annealed_importance_sampling,
)
from tfp_smvi.inference.importance import importance_weighted_bound
from tfp_smvi.inference.results import AISResult
from tfp_smvi.inference.tuning import tune_step_sizes
from tfp_smvi.inference.warnings import jackknife_bias, weight_warnings

tfd = tfp.distributions

START = tfd.MultivariateNormalDiag(tf.zeros([5, 3]))
# N(2, 0.01^2) for N(0, 1): in two temperatures no chain gets there.
FAR = tfd.MultivariateNormalDiag(2.0 * tf.ones([5, 3]), 0.01 * tf.ones([5, 3]))
SETTINGS: dict[str, Any] = {
    "step_size": 0.3,
    "seed": 1,
    "num_chains": 8,
    "num_temperatures": 2,
    "num_segments": 1,
}
GOOD_RATES = np.full([8, 5], 0.65)


def test_the_jackknife_is_its_formula() -> None:
    """Catches a wrong factor, and the rounding of a sum from which the largest weight is taken."""
    rng = np.random.default_rng(1)
    log_weights = rng.standard_normal((6, 4)) * [0.1, 1.0, 10.0, 100.0]

    def log_mean(values: np.ndarray) -> np.ndarray:
        return np.logaddexp.reduce(values, axis=0) - np.log(len(values))

    without = [log_mean(np.delete(log_weights, i, axis=0)) for i in range(6)]
    expected = 5 * (log_mean(log_weights) - np.mean(without, axis=0))
    np.testing.assert_allclose(jackknife_bias(log_weights), expected, rtol=1e-9)
    assert np.isnan(jackknife_bias(np.zeros([1, 2]))).all()


def test_the_jackknife_estimates_the_bias() -> None:
    """Catches a sign, and a factor of 0.85 or 1.15: 40,000 times 16 weights with E[w] = 1.

    Its own error is of the next order in 1 / 16, below a tenth of the bias here.
    """
    rng = np.random.default_rng(2)
    log_weights = 0.5 * rng.standard_normal((16, 40_000)) - 0.125
    low = -(np.logaddexp.reduce(log_weights, axis=0) - np.log(16.0))
    estimates = jackknife_bias(log_weights)
    error = (estimates - low).std() / 200.0
    assert 5.0 * error < 0.05 * low.mean() + 5.0 * error
    assert abs(estimates.mean() - low.mean()) < 0.1 * low.mean() + 5.0 * error


def test_good_chains_have_no_warning() -> None:
    rng = np.random.default_rng(3)
    even = 0.5 * rng.standard_normal((16, 5))
    assert weight_warnings(even, GOOD_RATES, 1) == []
    # Even weights are right whatever the acceptance.
    assert weight_warnings(even, np.full([8, 5], 0.99), 1) == []
    # A weight of zero is a weight.
    assert weight_warnings(np.concatenate([even, [[-np.inf] * 5]]), GOOD_RATES, 1) == []


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_weights_cannot_tell(count: int) -> None:
    """Catches their silence: two chains always have an effective sample size of 1 or more."""
    (line,) = weight_warnings(np.linspace(0.0, [9.0] * 5, count), GOOD_RATES, 1)
    assert line.startswith(f"{count} chain")
    assert "{num_chains} to 3" in line
    with pytest.warns(UserWarning, match=f"{count} draws? cannot tell.*num_samples"):
        importance_weighted_bound(START.log_prob, START, num_samples=count, seed=1)


def test_three_weights_are_judged_like_more() -> None:
    """Catches a limit of its own for them, which the command does not have: their size is 1.7."""
    (line,) = weight_warnings(np.log([[8.0] * 5, [1.0] * 5, [2.0] * 5]), GOOD_RATES, 1)
    assert "of 3 chains on average, and under 2 for 5 of 5" in line


def test_a_target_that_differs_at_the_same_z_is_refused() -> None:
    """Catches dropout in a decoder, also one that NumPy draws while a graph is traced."""
    rng = np.random.default_rng(4)

    def by_numpy(z: tf.Tensor) -> tf.Tensor:
        return START.log_prob(z) + np.float32(rng.random())

    def by_tensorflow(z: tf.Tensor) -> tf.Tensor:
        return START.log_prob(z) + tf.random.uniform([5])

    for target in (by_numpy, by_tensorflow):
        with refused("target_log_prob_fn") as caught:
            annealed_importance_sampling(target, START, **SETTINGS)
        assert re.search(r"at the same z it is -\d+\.\d+ and -\d+\.\d+; leave", str(caught.value))
    with refused("target_log_prob_fn"):
        reverse_annealed_importance_sampling(by_numpy, START, tf.zeros([5, 3]), **SETTINGS)
    with refused("target_log_prob_fn"):
        tune_step_sizes(by_numpy, START, seed=1)
    with refused("target_log_prob_fn"):
        importance_weighted_bound(by_numpy, START, num_samples=4, seed=1)


@pytest.mark.parametrize("stddev", [np.nan, np.inf])
def test_a_start_without_a_length_asks_for_scale(stddev: float) -> None:
    start = tfd.MultivariateNormalDiag(tf.zeros([5, 3]), tf.constant([1.0, 1.0, stddev]))
    with refused("initial_distribution") as caught:
        annealed_importance_sampling(START.log_prob, start, **SETTINGS)
    assert f"has the standard deviation {stddev}; give scale" in str(caught.value)


def test_step_sizes_of_a_pilot_that_never_moved_are_said() -> None:
    with pytest.warns(UserWarning, match="no move for 5 of 5 data points") as caught:
        tune_step_sizes(
            lambda z: np.nan * z[..., 0], START, seed=1, num_temperatures=2, num_segments=1
        )
    assert Path(caught[0].filename) == Path(__file__)


def test_a_warning_has_the_numbers() -> None:
    """One weight of e^4 among 16: the size is 1.6, the jackknife 15/16 (4 + O(1)) or less."""
    log_weights = np.zeros([16, 5])
    log_weights[3] = 4.0
    size = (np.exp(4.0) + 15.0) ** 2 / (np.exp(8.0) + 15.0)
    bias = jackknife_bias(log_weights)[0]
    for direction, word in ((1, "low"), (-1, "high")):
        (line,) = weight_warnings(log_weights, GOOD_RATES, direction)
        assert f"{size:.1f} of 16 chains" in line
        assert f"{bias:.1f} nats or more too {word}" in line
        assert "num_temperatures" in line
    # One of five is more than a tenth.
    log_weights[3, 1:] = 0.0
    (line,) = weight_warnings(log_weights, GOOD_RATES, 1)
    assert "under 2 for 1 of 5 data points" in line
    assert f"{bias:.1f} nats" in line
    rates = GOOD_RATES.copy()
    rates[2] = 0.03
    log_weights[3] = 4.0
    lines = weight_warnings(log_weights, rates, 1)
    assert "0.03 in 1 of 8 segments" in lines[1]
    assert "tune_step_sizes" in lines[1]


def test_estimates_that_are_not_finite_are_counted() -> None:
    log_weights = np.zeros([4, 5])
    log_weights[1, 0], log_weights[2, 1], log_weights[:, 2] = np.nan, np.inf, -np.inf
    (line,) = weight_warnings(log_weights, GOOD_RATES, 1)
    assert line.startswith("3 of 5 estimates are not finite")


def forward() -> AISResult:
    return annealed_importance_sampling(FAR.log_prob, START, **SETTINGS)


def reverse() -> AISResult:
    exact = START.sample(seed=[1, 2])
    return reverse_annealed_importance_sampling(START.log_prob, FAR, exact, **SETTINGS)


def importance() -> Any:
    return importance_weighted_bound(FAR.log_prob, START, num_samples=50, seed=1)


@pytest.mark.parametrize("estimate", [forward, reverse, importance])
def test_an_eager_call_warns_once_and_a_graph_does_not(estimate: Callable[[], Any]) -> None:
    with pytest.warns(UserWarning, match="effective sample size is") as caught:
        result = estimate()
    (warning,) = caught
    assert str(warning.message) == " ".join(result.warnings())
    # It points to the call.
    assert Path(warning.filename) == Path(__file__)
    symbolic = []

    @tf.function(autograph=False)
    def traced() -> Any:
        symbolic.append(estimate())
        return symbolic[0]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled = traced()
    assert compiled.warnings() == result.warnings()
    with refused(None):
        symbolic[0].warnings()


def test_an_outside_decoder_from_the_prior_is_said_to_be_too_low() -> None:
    """Catches an eager call that says nothing where it is off: x ~ N(z, 0.2^2 I), the defaults.

    log p(x) is known; the estimate is low, by more than the warning says.
    """
    x = 1.02 * tf.random.stateless_normal([20, 10], seed=[3, 4])
    prior = tfd.MultivariateNormalDiag(tf.zeros([20, 10]))

    def log_joint(z: tf.Tensor) -> tf.Tensor:
        return prior.log_prob(z) + tf.reduce_sum(tfd.Normal(z, 0.2).log_prob(x), axis=-1)

    marginal = tfd.Normal(0.0, np.float32(np.sqrt(1.0 + 0.2**2)))
    exact = tf.reduce_sum(marginal.log_prob(x), axis=-1)
    with pytest.warns(UserWarning, match="too low"):
        result = annealed_importance_sampling(log_joint, prior, step_size=0.3, seed=5)
    error = (exact - result.log_normalizer()).numpy().mean()
    assert 0.0 < jackknife_bias(result.log_weights.numpy()).mean() < error
