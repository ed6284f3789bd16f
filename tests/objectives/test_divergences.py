"""The weighted divergence against closed forms to rounding, and its two divergences compared.

With a linear-Gaussian model and a Gaussian q the squares of score differences are quadratic in z,
and the mean of a quadratic over the 2 * latent_dim points m +- sqrt(latent_dim) * L e_i is its
exact expectation. So the smallest wrong factor, sign or transpose fails.
"""

import math
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support.errors import refused
from tests.support.exact import LinearGaussianModel
from tests.support.finite_differences import assert_slopes
from tfp_smvi.config import DivergenceName
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.quantities import OF_DIVERGENCE
from tfp_smvi.objectives.divergences import (
    DIVERGENCES,
    known_divergences,
    score_matching_divergence,
    weighted_divergence,
)
from tfp_smvi.objectives.smvi import smvi_objective

tfb, tfd = tfp.bijectors, tfp.distributions

LATENT_DIM, BATCH = 3, 4
# float64 rounding, with room for sums of some hundred terms of different sizes.
ROUNDING = 1e-9

MODEL = LinearGaussianModel.simulate(
    BATCH, latent_dim=LATENT_DIM, observed_dim=7, weight_scale=0.7, noise=0.8, seed=0
)
MU, SIGMA = MODEL.posterior()
PRECISION = np.linalg.inv(SIGMA)
PRIOR = tfd.MultivariateNormalDiag(tf.zeros(LATENT_DIM, tf.float64))


def log_likelihood(z: tf.Tensor) -> tf.Tensor:
    mean = tf.linalg.matvec(tf.constant(MODEL.weights), z)
    noise = tf.constant(MODEL.noise, tf.float64)
    return tfd.Independent(tfd.Normal(mean, noise), 1).log_prob(MODEL.x)


def log_joint(z: tf.Tensor) -> tf.Tensor:
    return PRIOR.log_prob(z) + log_likelihood(z)


def divergence(q: tfd.Distribution, p: tfd.Distribution, z: tf.Tensor) -> np.ndarray:
    return weighted_divergence(q, p.log_prob, z).numpy()


def unit_points() -> np.ndarray:
    """Points [2 * latent_dim, 1, latent_dim] of mean 0 and covariance I."""
    unit = np.concatenate([np.eye(LATENT_DIM), -np.eye(LATENT_DIM)])
    return math.sqrt(LATENT_DIM) * unit[:, None, :]


class Gaussian:
    """q = N(mean, L L^T) with variables for the mean and for a diagonal or triangular L."""

    def __init__(self, *, diagonal: bool) -> None:
        rng = np.random.default_rng(1)
        self.mean = tf.Variable(rng.standard_normal((BATCH, LATENT_DIM)))
        factor = 0.3 * rng.standard_normal((BATCH, LATENT_DIM, LATENT_DIM))
        factor[..., range(LATENT_DIM), range(LATENT_DIM)] = 0.5 + rng.random((BATCH, LATENT_DIM))
        keep = np.eye(LATENT_DIM) if diagonal else np.tril(np.ones((LATENT_DIM, LATENT_DIM)))
        self.factor = tf.Variable(factor * keep)
        self.keep = keep

    @property
    def stddev(self) -> tf.Tensor:
        return tf.linalg.diag_part(self.factor)

    def points(self) -> tf.Tensor:
        return self.mean + tf.linalg.matvec(self.factor, tf.constant(unit_points()))

    def exact(self) -> tf.Tensor:
        """tr(S A S A) + (m - mu)' Sigma^-1 S Sigma^-1 (m - mu) with A = Sigma^-1 - S^-1."""
        covariance = self.factor @ tf.linalg.matrix_transpose(self.factor)
        excess = covariance @ PRECISION - tf.eye(LATENT_DIM, dtype=tf.float64)  # S A
        pull = tf.linalg.matvec(PRECISION, self.mean - MU)
        means = tf.reduce_sum(pull * tf.linalg.matvec(covariance, pull), axis=-1)
        return tf.linalg.trace(excess @ excess) + means

    def value_and_slopes(self, function: Callable[[], tf.Tensor]) -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            values = function()
        mean, factor = tape.gradient(values, [self.mean, self.factor])
        return [values.numpy(), mean.numpy(), factor.numpy() * self.keep]


def affine(q: Gaussian, base: tfd.Distribution) -> tfd.Distribution:
    bijector = tfb.Chain([tfb.Shift(q.mean), tfb.ScaleMatvecTriL(q.factor)])
    return tfd.TransformedDistribution(base, bijector)


def mixture(q: Gaussian) -> tfd.Distribution:
    """A mixture of one component, whose covariance TFP knows."""
    return tfd.MixtureSameFamily(
        tfd.Categorical(logits=tf.zeros([BATCH, 1], tf.float64)),
        tfd.MultivariateNormalTriL(q.mean[:, tf.newaxis], q.factor[:, tf.newaxis]),
        reparameterize=True,
    )


ZEROS = tf.zeros(LATENT_DIM, tf.float64)
ONE = tf.constant(1.0, tf.float64)
DIAGONAL: dict[str, Callable[[Gaussian], tfd.Distribution]] = {
    "independent": lambda q: tfd.Independent(tfd.Normal(q.mean, q.stddev), 1),
    "diagonal": lambda q: tfd.MultivariateNormalDiag(q.mean, q.stddev),
    "diagonal plus low rank": lambda q: tfd.MultivariateNormalDiagPlusLowRankCovariance(
        q.mean, tf.square(q.stddev), tf.zeros([BATCH, LATENT_DIM, 1], tf.float64)
    ),
    "independent affine": lambda q: tfd.Independent(
        tfd.TransformedDistribution(
            tfd.Normal(tf.zeros_like(q.mean), ONE), tfb.Shift(q.mean)(tfb.Scale(q.stddev))
        ),
        1,
    ),
}
FULL: dict[str, Callable[[Gaussian], tfd.Distribution]] = {
    "triangular": lambda q: tfd.MultivariateNormalTriL(q.mean, q.factor),
    "affine flow": lambda q: affine(q, tfd.Independent(tfd.Normal(ZEROS, ONE), 1)),
    "affine flow of a sample": lambda q: affine(q, tfd.Sample(tfd.Normal(ONE - 1, ONE), [3])),
    "mixture": mixture,
}


@pytest.mark.parametrize("name", [*DIAGONAL, *FULL])
def test_weighted_divergence_and_its_gradients_equal_the_closed_form(name: str) -> None:
    """The gradient through the weight too: without it, that of L would differ by a factor of 2."""
    q = Gaussian(diagonal=name in DIAGONAL)
    make = {**DIAGONAL, **FULL}[name]

    def estimate() -> tf.Tensor:
        values = weighted_divergence(make(q), log_joint, q.points())
        assert values.shape == (2 * LATENT_DIM, BATCH)
        return tf.reduce_mean(values, axis=0)

    found, expected = q.value_and_slopes(estimate), q.value_and_slopes(q.exact)
    for value, exact in zip(found, expected, strict=True):
        scale = np.max(np.abs(exact))
        np.testing.assert_allclose(value, exact, rtol=ROUNDING, atol=ROUNDING * scale)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_objective_has_the_divergence_that_it_is_asked_for(name: DivergenceName) -> None:
    q = Gaussian(diagonal=False)
    posterior, z = FULL["triangular"](q), q.points()
    terms = smvi_objective(posterior, PRIOR, log_likelihood, 0.5, z, divergence=name)
    estimate = {"fisher": score_matching_divergence, "weighted": weighted_divergence}[name]
    expected = estimate(posterior, log_joint, z)
    np.testing.assert_allclose(terms.divergence, expected, rtol=ROUNDING)
    np.testing.assert_allclose(terms.objective, terms.elbo - 0.5 * expected, rtol=ROUNDING)


def test_a_sample_that_tfp_remembers_gives_the_same_divergence_as_its_copy() -> None:
    """A bijector's cache would return z itself as the image of its noise, with no slope."""
    q = affine(Gaussian(diagonal=False), tfd.Independent(tfd.Normal(ZEROS, ONE), 1))
    z = q.sample(seed=(1, 2))
    copy = tf.constant(z.numpy())
    np.testing.assert_allclose(
        weighted_divergence(q, log_joint, z), weighted_divergence(q, log_joint, copy), rtol=ROUNDING
    )


@pytest.mark.parametrize("make", FULL.values(), ids=FULL)
def test_both_divergences_are_zero_where_the_posterior_is_exact(make) -> None:
    q = Gaussian(diagonal=False)
    q.mean.assign(MU)
    q.factor.assign(np.broadcast_to(np.linalg.cholesky(SIGMA), q.factor.shape))
    for estimate in (score_matching_divergence, weighted_divergence):
        values = estimate(make(q), log_joint, q.points())
        # Squares of differences of scores of size 10, each with float64 rounding.
        np.testing.assert_allclose(values, 0.0, atol=1e-20)


def test_an_affine_map_of_z_changes_fisher_and_not_weighted() -> None:
    q = Gaussian(diagonal=False)
    rng = np.random.default_rng(2)
    matrix, shift = rng.standard_normal((LATENT_DIM, LATENT_DIM)), rng.standard_normal(LATENT_DIM)
    inverse = tf.constant(np.linalg.inv(matrix))

    def mapped_joint(z: tf.Tensor) -> tf.Tensor:
        return log_joint(tf.linalg.matvec(inverse, z - shift))

    covariance = matrix @ (q.factor @ tf.linalg.matrix_transpose(q.factor)) @ matrix.T
    mapped = tfd.MultivariateNormalTriL(
        tf.linalg.matvec(matrix, q.mean) + shift, tf.linalg.cholesky(covariance)
    )
    before, z = FULL["triangular"](q), q.points()
    after = tf.linalg.matvec(matrix, z) + shift
    np.testing.assert_allclose(
        weighted_divergence(mapped, mapped_joint, after),
        weighted_divergence(before, log_joint, z),
        rtol=1e-7,  # of the inverse of a matrix whose condition number is some dozens
    )
    fisher = [
        tf.reduce_mean(score_matching_divergence(*arguments)).numpy()
        for arguments in ((before, log_joint, z), (mapped, mapped_joint, after))
    ]
    assert abs(fisher[1] / fisher[0] - 1.0) > 0.1


def test_weighted_is_2_to_4_times_kl_near_the_posterior() -> None:
    """2 for a wrong mean and 4 for a wrong covariance, to first order in how wrong they are."""
    factor, rng = np.linalg.cholesky(SIGMA), np.random.default_rng(3)
    p = tfd.MultivariateNormalTriL(tf.constant(MU), tf.constant(factor))
    size, unit = 1e-4, tf.constant(unit_points())
    mean = size * rng.standard_normal((BATCH, LATENT_DIM))
    wider = size * np.tril(rng.standard_normal((LATENT_DIM, LATENT_DIM)))
    ratios = []
    for moved, scaled in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
        part = tf.constant(factor + scaled * factor @ wider)
        q = tfd.MultivariateNormalTriL(MU + moved * mean @ factor.T, part)
        z = q.mean() + tf.linalg.matvec(part, unit)
        kl = tfd.kl_divergence(q, p)
        ratios.append((divergence(q, p, z).mean(axis=0) / kl).numpy())
    np.testing.assert_allclose(ratios[0], 2.0, rtol=1e-3)
    np.testing.assert_allclose(ratios[1], 4.0, rtol=1e-3)
    assert np.all((ratios[2] > 2.0) & (ratios[2] < 4.0))


def test_weighted_tends_to_1_in_each_dimension_where_variances_vanish() -> None:
    """The mean may be wrong by 100: this is why it is not minimized without the ELBO."""
    p = tfd.MultivariateNormalDiag(ZEROS)
    for stddev, fisher_at_least in ((1e-3, 1e6), (1e-6, 1e12)):
        q = tfd.MultivariateNormalDiag(ZEROS + 100.0, stddev * tf.ones_like(ZEROS))
        z = q.mean() + stddev * tf.constant(unit_points()[:, 0])
        mean = divergence(q, p, z).mean()
        assert abs(mean - LATENT_DIM) < 4.0 * LATENT_DIM * (100.0 * stddev) ** 2 + 1e-6
        assert tf.reduce_mean(score_matching_divergence(q, p.log_prob, z)) > fisher_at_least


def test_the_covariance_of_independent_components_is_known_for_every_family() -> None:
    """Laplace(0, 1) has variance 2, and the Fisher divergence to N(0, 1) of 1 a dimension."""
    q = tfd.Independent(tfd.Laplace(tf.zeros(2, tf.float64), 1.0), 1)
    p = tfd.MultivariateNormalDiag(tf.zeros(2, tf.float64))
    z = q.sample(1000, seed=(3, 4))
    fisher = score_matching_divergence(q, p.log_prob, z)
    np.testing.assert_allclose(divergence(q, p, z), 2.0 * fisher, rtol=ROUNDING)


def test_the_pull_back_of_a_flow_is_the_gradient_with_respect_to_its_noise() -> None:
    """|| grad_eps [log N(eps) - log |det df/deps| - log p(f(eps))] ||^2, written out."""
    base = tfd.Independent(tfd.Normal(ZEROS, ONE), 1)
    bijector = tfb.Chain([tfb.ScaleMatvecTriL(Gaussian(diagonal=False).factor), tfb.SinhArcsinh(
        tf.constant([0.3, -0.2, 0.0], tf.float64), tf.constant([0.8, 1.0, 1.3], tf.float64)
    )])  # fmt: skip
    q = tfd.TransformedDistribution(base, bijector)
    eps = tf.constant(np.random.default_rng(4).standard_normal((10, BATCH, LATENT_DIM)))
    with tf.GradientTape() as tape:
        tape.watch(eps)
        z = bijector.forward(eps)
        log_det = bijector.forward_log_det_jacobian(eps, event_ndims=1)
        log_ratio = base.log_prob(eps) - log_det - log_joint(z)
    expected = tf.reduce_sum(tape.gradient(log_ratio, eps) ** 2, axis=-1)
    np.testing.assert_allclose(weighted_divergence(q, log_joint, z), expected, rtol=1e-7)


def test_gradients_equal_finite_differences_of_a_flow_and_a_nonlinear_model() -> None:
    """All orders are there: of the flow's slopes, of the weight and of a Bernoulli decoder."""
    rng = np.random.default_rng(5)
    x = tf.constant((rng.random((6, 5)) < 0.5).astype(float))
    noise = tf.constant(rng.standard_normal((6, 2)))
    shapes = [(5, 4), (2, 5), (2, 5), (2,)]
    parameters = [tf.Variable(0.5 * rng.standard_normal(shape)) for shape in shapes]
    prior = tfd.MultivariateNormalDiag(tf.zeros(2, tf.float64))

    def objective() -> tf.Tensor:
        encoder, hidden, output, skewness = parameters
        mean, h = tf.split(tf.tanh(x @ encoder), 2, axis=-1)
        bijector = tfb.Shift(mean)(tfb.Scale(tf.exp(h))(tfb.SinhArcsinh(skewness)))
        base = tfd.Independent(tfd.Normal(tf.zeros_like(mean), ONE), 1)
        posterior = tfd.TransformedDistribution(base, bijector)

        def log_likelihood(z: tf.Tensor) -> tf.Tensor:
            logits = tf.tanh(z @ hidden) * output[0] + output[1]
            return tfd.Independent(tfd.Bernoulli(logits=logits), 1).log_prob(x)

        z = bijector.forward(noise)
        terms = smvi_objective(posterior, prior, log_likelihood, 0.7, z, divergence="weighted")
        return tf.reduce_sum(terms.objective)

    with tf.GradientTape() as tape:
        value = objective()
    slopes = tape.gradient(value, parameters)
    assert_slopes(objective, parameters, slopes, rng)


def test_a_posterior_without_a_known_covariance_is_refused() -> None:
    q = tfd.Blockwise([tfd.Normal(tf.zeros(BATCH, tf.float64), ONE)] * LATENT_DIM)
    z = q.sample(seed=(0, 0))
    assert score_matching_divergence(q, log_joint, z).shape == [BATCH]
    with pytest.raises(SMVIError, match=r"^posterior \(.*\) has no known covariance, .*fisher"):
        weighted_divergence(q, log_joint, z)
    assert known_divergences(q) == ("fisher",)
    parts = tfd.Independent(tfd.Normal(tf.zeros((BATCH, LATENT_DIM)), 1.0), 1)
    assert known_divergences(parts) == tuple(DIVERGENCES)


def test_a_divergence_that_is_none_and_lam_inf_with_weighted_are_refused() -> None:
    arguments = (DIAGONAL["diagonal"](Gaussian(diagonal=True)), PRIOR, log_likelihood)
    z = arguments[0].sample(seed=(0, 0))
    with refused("divergence", "kl"):
        smvi_objective(*arguments, 0.5, z, divergence="kl")
    with refused("lam", math.inf):
        smvi_objective(*arguments, math.inf, z, divergence="weighted")


def test_every_divergence_can_be_chosen_and_has_a_name() -> None:
    assert tuple(DIVERGENCES) == tuple(OF_DIVERGENCE) == get_args(DivergenceName)
    assert len({quantity.short for quantity in OF_DIVERGENCE.values()}) == len(DIVERGENCES)
