"""The likelihoods: densities against SciPy, scores against differences, samples against moments."""

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

from tfp_smvi.config import LikelihoodName, ModelConfig
from tfp_smvi.models.layers import MINIMUM_SCALE
from tfp_smvi.models.likelihoods import LIKELIHOODS, MAX_LOG_MEAN, Observed, likelihood_of

K = 5
CONFIGS = {
    name: ModelConfig(likelihood=name, num_categories=K if name == "categorical" else None)
    for name in get_args(LikelihoodName)
}
# Steps of float32 by which a function of a few operations is wrong.
STEPS = 8 * np.finfo(np.float32).eps


def make(name: LikelihoodName, output: np.ndarray) -> tf.Tensor:
    return likelihood_of(CONFIGS[name]).distribution(tf.constant(output, tf.float32))


def positive(h: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, h + np.log(np.e - 1.0)) + MINIMUM_SCALE


def mean_of(h: np.ndarray) -> np.ndarray:
    """e^h, which goes on with its slope at MAX_LOG_MEAN."""
    return np.exp(np.minimum(h, MAX_LOG_MEAN)) * (1.0 + np.maximum(h - MAX_LOG_MEAN, 0.0))


def negative_binomial(output: np.ndarray) -> Any:
    mean, dispersion = mean_of(output[..., 0]), positive(output[..., 1])
    return stats.nbinom(dispersion, dispersion / (dispersion + mean))


# In float64: from outputs to SciPy's distribution.
SCIPY: dict[str, Callable[[np.ndarray], Any]] = {
    "bernoulli": lambda output: stats.bernoulli(special.expit(output[..., 0])),
    "gaussian": lambda output: stats.norm(output[..., 0], positive(output[..., 1])),
    "poisson": lambda output: stats.poisson(mean_of(output[..., 0])),
    "negative_binomial": negative_binomial,
}


def exact_log_prob(name: LikelihoodName, output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """SciPy's log p(x) in float64."""
    output, x = output.astype(np.float64), x.astype(np.float64)
    if name == "categorical":
        chosen = np.take_along_axis(output, x.astype(int)[..., None], axis=-1)[..., 0]
        return chosen - special.logsumexp(output, axis=-1)
    distribution = SCIPY[name](output)
    return distribution.logpdf(x) if name == "gaussian" else distribution.logpmf(x)


def draw(name: LikelihoodName, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Outputs from N(0, 2^2), and values at which they have some probability."""
    rng = np.random.default_rng(0)
    num_outputs = likelihood_of(CONFIGS[name]).num_outputs
    output = rng.normal(0.0, 2.0, (*shape, num_outputs)).astype(np.float32)
    if name == "gaussian":
        return output, rng.standard_normal(shape).astype(np.float32)
    largest = {"bernoulli": 2, "categorical": K}.get(name, 30)
    return output, rng.integers(0, largest, shape).astype(np.float32)


def test_every_likelihood_can_be_chosen() -> None:
    assert tuple(LIKELIHOODS) == get_args(LikelihoodName)


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_the_log_density_is_scipys(name: LikelihoodName) -> None:
    """Terms are at most 30 times log-means of about 6: 200 nats, and float32 keeps 1e-7 of them."""
    output, x = draw(name, (20, 30))
    log_prob = make(name, output).log_prob(x)
    expected = exact_log_prob(name, output, x)
    np.testing.assert_allclose(log_prob, expected, rtol=STEPS, atol=200.0 * STEPS)


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_scores_are_those_of_scipys_density(name: LikelihoodName) -> None:
    """Central differences in float64, whose own error is h^2 times a third derivative below 1e3.

    A score is a difference of x and of terms of the means, at most e^6.
    """
    output, x = draw(name, (10, 10))
    variable = tf.constant(output)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        log_prob = likelihood_of(CONFIGS[name]).distribution(variable).log_prob(x)
    score = tape.gradient(log_prob, variable)
    h, expected, output = 1e-5, np.empty(output.shape), output.astype(np.float64)
    for i in range(output.shape[-1]):
        step = h * np.eye(output.shape[-1])[i]
        up, down = (exact_log_prob(name, output + s, x) for s in (step, -step))
        expected[..., i] = (up - down) / (2.0 * h)
    np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_the_second_derivatives_are_those_of_the_score(name: LikelihoodName) -> None:
    """The step of training differentiates twice; each entry's outputs are moved together."""
    output, x = draw(name, (10, 10))

    def slope(move: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(move)
            moved = tf.cast(output, move.dtype) + move[..., tf.newaxis]
            total = likelihood_of(CONFIGS[name]).distribution(moved).log_prob(x)
        return tape.gradient(total, move)

    zero = tf.zeros(x.shape)
    with tf.GradientTape() as tape:
        tape.watch(zero)
        first = slope(zero)
    curvature = tape.gradient(first, zero)
    if name == "categorical":  # the same for all classes: nothing changes
        np.testing.assert_allclose(curvature, 0.0, atol=1e-5)
        return
    h, output = 1e-3, output.astype(np.float64)
    exact = [exact_log_prob(name, output + s, x) for s in (h, 0.0, -h)]
    expected = (exact[0] - 2.0 * exact[1] + exact[2]) / h**2
    # The differences are wrong by h^2 / 12 times the fourth derivative, which is about a mean.
    np.testing.assert_allclose(curvature, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["poisson", "negative_binomial"])
@pytest.mark.parametrize("x", [0.0, 1.0, 7.0, 8.0, 9.0, 1e3, 1e5, 1e6])
def test_the_density_of_large_counts_is_that_of_float64(name: LikelihoodName, x: float) -> None:
    """Up to 4 standard deviations of a Poisson count from its mean.

    Term by term float32 is wrong by 0.1 nats at 1e5. A log mean below 16 is rounded by 1e-6, which
    is worth |x - rate| * 1e-6 nats at best: 4 sqrt(x) * 1e-6.
    """
    ratios = np.exp(np.array([-4.0, 0.0, 4.0]) / max(x, 1.0) ** 0.5)
    h = np.log(max(x, 1e-3) * ratios)[:, None].astype(np.float32)
    output = np.concatenate([h, np.zeros_like(h)], axis=1)[:, : LIKELIHOODS[name].num_outputs]
    expected = exact_log_prob(name, output, np.float32(x))
    tolerance = {"rtol": 1e-5, "atol": 1e-5 + 8e-6 * x**0.5}
    np.testing.assert_allclose(make(name, output).log_prob(x), expected, **tolerance)


@pytest.mark.parametrize("name", list(LIKELIHOODS))
@pytest.mark.parametrize("h", [-1e6, -90.0, 90.0, 1e18])
def test_no_output_overflows_and_none_loses_its_gradient(name: LikelihoodName, h: float) -> None:
    """Counts and categories are 2, far from all of these means."""
    num_outputs = likelihood_of(CONFIGS[name]).num_outputs
    output = tf.constant([[h] + [0.0] * (num_outputs - 1)], tf.float32)
    x = [1.0 if name == "bernoulli" else 2.0]
    with tf.GradientTape() as outer:
        outer.watch(output)
        with tf.GradientTape() as tape:
            tape.watch(output)
            log_prob = likelihood_of(CONFIGS[name]).distribution(output).log_prob(x)
        score = tape.gradient(log_prob, output)
    curvature = outer.gradient(score, output)
    assert np.isfinite(log_prob).all()
    assert np.isfinite(score).all()
    assert np.isfinite(curvature).all()
    if name in ("poisson", "negative_binomial"):
        assert np.sign(score[0, 0]) == -np.sign(h)  # towards the count
    parameters = likelihood_of(CONFIGS[name]).parameters(make(name, output.numpy()))
    assert all(np.isfinite(value).all() for value in parameters.values())


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_samples_have_the_exact_mean_and_variance(name: LikelihoodName, jit_compile: bool) -> None:
    """Within 5 standard errors of 20,000 draws; a variance that is 10 % wrong would fail.

    XLA has no kernel of TensorFlow's own Poisson and gamma samplers.
    """
    num_outputs = likelihood_of(CONFIGS[name]).num_outputs
    output = np.random.default_rng(1).normal(0.5, 1.0, (8, num_outputs)).astype(np.float32)
    sample = tf.function(
        lambda seed: make(name, output).sample(20_000, seed=seed),
        jit_compile=jit_compile,
        autograph=False,
    )
    draws = sample(tf.constant([0, 1])).numpy().astype(np.float64)
    assert name == "gaussian" or np.all((draws >= 0.0) & (draws % 1.0 == 0.0))
    if name == "categorical":
        p = special.softmax(output.astype(np.float64), axis=-1)
        mean = p @ np.arange(K)
        variance = p @ np.arange(K) ** 2 - mean**2
    else:
        exact = SCIPY[name](output.astype(np.float64))
        mean, variance = exact.mean(), exact.var()
    squares = (draws - mean) ** 2
    for values, expected in ((draws, mean), (squares, variance)):
        error = values.std(axis=0) / np.sqrt(len(values))
        assert np.all(np.abs(values.mean(axis=0) - expected) < 5.0 * error)


def test_parameters_are_those_of_the_distribution() -> None:
    rng = np.random.default_rng(2)
    for name, names in {
        "bernoulli": ["probabilities"],
        "gaussian": ["mean", "stddev"],
        "poisson": ["rate"],
        "negative_binomial": ["mean", "dispersion"],
        "categorical": ["probabilities"],
    }.items():
        likelihood = likelihood_of(CONFIGS[name])
        output = rng.standard_normal((3, 4, likelihood.num_outputs)).astype(np.float32)
        parameters = likelihood.parameters(likelihood.distribution(tf.constant(output)))
        assert list(parameters) == names
        if name == "categorical":
            expected = [special.softmax(output, axis=-1)]
        else:
            exact = SCIPY[name](output)
            second = positive(output[..., 1]) if name == "negative_binomial" else exact.std()
            expected = [exact.mean(), second][: len(names)]
        for value, number in zip(parameters.values(), expected, strict=True):
            np.testing.assert_allclose(value, number, rtol=1e-5)


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_missing_entries_add_nothing_to_the_density_and_its_derivatives(
    name: LikelihoodName,
) -> None:
    """Those of the observed entries alone, to the last bits; 0 times NaN would spread."""
    output, x = draw(name, (6, 10))
    missing = np.random.default_rng(3).random(x.shape) < 0.4
    missing[0] = True  # nothing is known of it
    weight = tf.constant(~missing, tf.float32)

    def derivatives(log_prob: Callable[[Any], tf.Tensor]) -> list[np.ndarray]:
        move = tf.constant(output)
        with tf.GradientTape() as outer:
            outer.watch(move)
            with tf.GradientTape() as tape:
                tape.watch(move)
                total = log_prob(likelihood_of(CONFIGS[name]).distribution(move))
            score = tape.gradient(total, move)
        return [total.numpy(), score.numpy(), outer.gradient(score, move).numpy()]

    given = np.where(missing, np.float32(np.nan), x)
    found = derivatives(lambda d: Observed(d, reinterpreted_batch_ndims=1).log_prob(given))
    expected = derivatives(lambda d: tf.reduce_sum(weight * d.log_prob(x), axis=-1))
    assert found[0][0] == 0.0
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_categories_must_be_counted() -> None:
    with pytest.raises(ValueError, match="num_categories is None"):
        likelihood_of(ModelConfig(likelihood="categorical"))
