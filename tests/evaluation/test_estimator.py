"""The estimates of a block where the KL divergence is sampled."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_smvi.config import BLOCK_SIZE, EvaluateConfig, ModelConfig
from tfp_smvi.evaluation.estimator import BlockEstimator
from tfp_smvi.models.posteriors import diagonal_gaussian
from tfp_smvi.models.vae import VAE
from tfp_smvi.objectives.smvi import elbo

X = tf.cast(tf.random.stateless_uniform((BLOCK_SIZE, 6), (0, 1)) < 0.5, tf.float32)
CONFIG = EvaluateConfig(num_elbo_samples=500, num_divergence_samples=8, num_importance_samples=16)
NUM_DRAWS = 4000


class DiagonalModel:
    """The same model with a diagonal q(z|x) of the same moments, whose KL is analytic."""

    def __init__(self, model: VAE) -> None:
        self.prior, self.decode, self.log_joint = model.prior, model.decode, model.log_joint
        self._model = model

    def encode(self, x):
        q = self._model.encode(x)
        return diagonal_gaussian(q.mean(), q.stddev(), "posterior")


@pytest.fixture
def model() -> VAE:
    """A model whose posterior is a flow that is not trained yet: the diagonal Gaussian."""
    return VAE(ModelConfig("bernoulli", 3, (8,), posterior="flow", flow_layers=2), (6,))


def bounds(model) -> dict[str, np.ndarray]:
    return BlockEstimator(model, CONFIG).bounds(X, tf.constant([1, 2]))


def check_scores(scores: np.ndarray, least: float) -> None:
    """Checks 50 values that are normal of variance 1 if estimates and errors are right.

    4 standard errors is passed in 1 of 300 seeds; the mean square is 1 with an error of 0.2.
    """
    assert np.abs(scores).max() < 4.0
    assert least < np.mean(scores**2) < 1.8


@pytest.mark.slow
def test_the_kl_divergence_of_a_flow_that_is_the_diagonal_gaussian_has_no_noise(model):
    sampled, exact = bounds(model), bounds(DiagonalModel(model))
    assert "kl_error" not in exact
    # Rounding of squares of at most 20.
    np.testing.assert_allclose(sampled["kl"], exact["kl"], atol=1e-4)
    assert sampled["kl_error"].max() < 1e-5
    # As in training, at any draw.
    q = model.encode(X)
    bound = elbo(q, model.prior, lambda z: model.decode(z).log_prob(X), q.sample(seed=(5, 5)))
    np.testing.assert_allclose(bound.kl, exact["kl"], atol=1e-4)
    errors = np.hypot(sampled["elbo_error"], exact["elbo_error"])
    # The ELBOs share their draws.
    check_scores((sampled["elbo"] - exact["elbo"]) / errors, 0.0)


@pytest.mark.slow
def test_the_sampled_kl_divergence_and_the_elbo_of_a_flow_are_those_of_log_densities(model):
    """Against 4,000 draws of log q(z|x) - log p(z) and of log p(x, z) - log q(z|x)."""
    for name, variable in model.named_variables.items():
        if "flow" in name:
            noise = tf.random.stateless_normal(variable.shape, (3, len(name)), stddev=0.5)
            variable.assign_add(noise)
    q, sampled = model.encode(X), bounds(model)
    # The errors of 500 draws, which are tested, are almost 3 times as large.
    z = tf.identity(q.sample(NUM_DRAWS, seed=(5, 5)))
    log_q = q.log_prob(z)
    truths = {"kl": log_q - model.prior.log_prob(z), "elbo": model.log_joint(X, z) - log_q}
    for name, draws in truths.items():
        error = np.std(draws, axis=0) / NUM_DRAWS**0.5
        assert sampled[f"{name}_error"].min() > 1e-4
        scores = (sampled[name] - np.mean(draws, axis=0)) / np.hypot(
            error, sampled[f"{name}_error"]
        )
        check_scores(scores, 0.4)
