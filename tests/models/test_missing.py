"""Missing entries of x against the exact marginal of a linear-Gaussian model."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support.exact import LinearGaussianModel
from tfp_smvi.config import ArchitectureName, ModelConfig
from tfp_smvi.inference.ais import annealed_importance_sampling
from tfp_smvi.models.likelihoods import Observed
from tfp_smvi.models.vae import VAE
from tfp_smvi.objectives.divergences import score_matching_divergence
from tfp_smvi.objectives.smvi import elbo

tfd = tfp.distributions
EXACT = LinearGaussianModel.simulate(
    6, latent_dim=2, observed_dim=8, weight_scale=1.0, noise=0.7, seed=0
)
MISSING = np.random.default_rng(1).random(EXACT.x.shape) < 0.4


def log_likelihood(z: tf.Tensor) -> tf.Tensor:
    """log p(x|z) of x with NaN, by the distribution of the models: [..., batch]."""
    x = tf.constant(np.where(MISSING, np.nan, EXACT.x), z.dtype)
    mean = tf.linalg.matvec(tf.constant(EXACT.weights, z.dtype), z)
    return Observed(tfd.Normal(mean, EXACT.noise), reinterpreted_batch_ndims=1).log_prob(x)


def log_joint(z: tf.Tensor) -> tf.Tensor:
    return EXACT.prior_distribution().log_prob(z) + log_likelihood(z)


def observed_parts() -> list[LinearGaussianModel]:
    """The exact model of the observed entries of each example."""
    return [
        LinearGaussianModel(EXACT.weights[~gone], EXACT.noise, z[None], x[~gone][None])
        for gone, z, x in zip(MISSING, EXACT.z, EXACT.x, strict=True)
    ]


def exact_posterior() -> tfd.Distribution:
    moments = [part.posterior() for part in observed_parts()]
    mean, covariance = (np.stack(values) for values in zip(*moments, strict=True))
    factor = np.linalg.cholesky(covariance).astype(np.float32)
    return tfd.MultivariateNormalTriL(mean[:, 0].astype(np.float32), factor)


def test_at_the_exact_posterior_bound_and_divergence_are_exact() -> None:
    """Every draw of log p(x, z) - log q(z) is log p(x_observed), and the scores are equal.

    float32 rounds terms of at most 100 nats, and scores of at most 100; a missing entry that counts
    as 0 is worth about 1 nat.
    """
    truth = np.array([part.log_likelihood()[0] for part in observed_parts()])
    q = exact_posterior()
    z = q.sample(50, seed=(0, 0))
    np.testing.assert_allclose(
        log_joint(z) - q.log_prob(z), np.broadcast_to(truth, (50, 6)), atol=1e-3
    )
    np.testing.assert_allclose(score_matching_divergence(q, log_joint, z), 0.0, atol=1e-6)
    # With log p(x|z) and a Kullback-Leibler divergence, the mean over draws.
    bound = elbo(q, EXACT.prior_distribution(), log_likelihood, q.sample(4000, seed=(0, 1))).elbo
    error = np.std(bound, axis=0) / np.sqrt(4000.0)
    assert np.all(np.abs(np.mean(bound, axis=0) - truth) < 5.0 * error)


def test_annealed_estimates_are_those_of_the_observed_part() -> None:
    """Within 5 standard errors over 200 chains, each of which must be below 0.1 nats."""
    truth = np.array([part.log_likelihood()[0] for part in observed_parts()])
    result = annealed_importance_sampling(
        log_joint,
        EXACT.prior_distribution(),
        num_chains=200,
        num_temperatures=100,
        num_leapfrog_steps=3,
        step_size=0.2,
        seed=(0, 2),
    )
    error = result.log_normalizer_standard_error().numpy()
    assert np.all(error < 0.1)
    assert np.all(np.abs(result.log_normalizer() - truth) < 5.0 * error)


@pytest.mark.parametrize("architecture", ["dense", "conv"])
def test_the_encoder_sees_which_entries_are_missing(architecture: ArchitectureName) -> None:
    """The encoder sees 0 for a missing entry: beside an entry of 0, only the mask differs."""
    shape = (9, 10, 2)
    with_mask, without = (
        VAE(ModelConfig("gaussian", 3, (8,), architecture=architecture, missing=missing), shape)
        for missing in (True, False)
    )
    x = np.random.default_rng(0).standard_normal((1, *shape), np.float32)
    x[0, 4, 5, 1] = 0.0
    y = x.copy()
    y[0, 4, 5, 1] = np.nan
    means = [with_mask.encode(tf.constant(values)).mean().numpy() for values in (x, y)]
    assert np.isfinite(means).all()
    assert np.abs(means[0] - means[1]).max() > 1e-4
    # Twice as many inputs or channels: x, and whether it is observed.
    inputs = [
        next(iter(model.named_variables.values())).shape[-2] for model in (with_mask, without)
    ]
    assert inputs == ([4, 2] if architecture == "conv" else [360, 180])
