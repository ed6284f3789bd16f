"""The estimates of a block where the KL divergence is sampled."""

import numpy as np
import tensorflow as tf

from tfp_smvi.config import EvaluateConfig, ModelConfig
from tfp_smvi.evaluation.estimator import BLOCK_SIZE, BlockEstimator
from tfp_smvi.models.posteriors import diagonal_gaussian
from tfp_smvi.models.vae import VAE


class DiagonalModel:
    """The same model with a diagonal q(z|x) of the same moments, whose KL is analytic."""

    def __init__(self, model: VAE) -> None:
        self.prior, self.decode, self.log_joint = model.prior, model.decode, model.log_joint
        self._model = model

    def encode(self, x):
        q = self._model.encode(x)
        return diagonal_gaussian(q.mean(), q.stddev(), "posterior")


def test_a_sampled_kl_divergence_agrees_with_the_analytic_one():
    """A flow that is not trained yet is the diagonal Gaussian."""
    model = VAE(ModelConfig("bernoulli", 3, (8,), posterior="flow", flow_layers=2), (6,))
    x = tf.cast(tf.random.stateless_uniform((BLOCK_SIZE, 6), (0, 1)) < 0.5, tf.float32)
    config = EvaluateConfig(
        num_elbo_samples=500, num_divergence_samples=8, num_importance_samples=16
    )
    sampled, exact = (
        BlockEstimator(m, config).bounds(x, tf.constant([1, 2]))
        for m in (model, DiagonalModel(model))
    )
    assert "kl_error" not in exact
    kl = (sampled["kl"] - exact["kl"]) / sampled["kl_error"]
    elbo = (sampled["elbo"] - exact["elbo"]) / np.hypot(sampled["elbo_error"], exact["elbo_error"])
    for scores in (kl, elbo):
        # Of 50 normal numbers, 4 standard errors is passed in 1 of 300 seeds.
        assert np.abs(scores).max() < 4.0
        # Their mean square is 1 with a standard error of 0.2, if the errors are right; the ELBOs
        # share their draws.
        assert 0.0 < np.mean(scores**2) < 1.8
    assert np.mean(kl**2) > 0.4
