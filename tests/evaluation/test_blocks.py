"""Blocks of other sizes, such as those of a GPU."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.config import AISConfig, EvaluateConfig, ModelConfig
from tfp_smvi.data import Dataset
from tfp_smvi.evaluation import subjects
from tfp_smvi.evaluation.estimator import BlockEstimator
from tfp_smvi.evaluation.outside import OutsideModel
from tfp_smvi.evaluation.pipeline import evaluate
from tfp_smvi.models.vae import VAE

SMALL = EvaluateConfig(
    AISConfig(
        num_chains=8,
        num_temperatures=16,
        num_segments=2,
        num_pilot_chains=2,
        num_pilot_temperatures=4,
    ),
    num_examples=70,
    num_elbo_samples=64,
    num_divergence_samples=8,
    num_importance_samples=64,
    num_simulated=20,
    num_calibration=0,
)


class Exact:
    """p(z) = N(0, 1), p(x|z) = N(z, 1), and the exact q(z|x) = N(x / 2, 1/2)."""

    def __init__(self) -> None:
        self.prior = tfd.MultivariateNormalDiag(tf.zeros(1), tf.ones(1))

    def encode(self, x: tf.Tensor) -> tfd.Distribution:
        return tfd.MultivariateNormalDiag(x / 2.0, 0.5**0.5 * tf.ones_like(x))

    def decode(self, z: tf.Tensor) -> tfd.Distribution:
        return tfd.MultivariateNormalDiag(z, tf.ones_like(z))

    def log_joint(self, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        return self.prior.log_prob(z) + self.decode(z).log_prob(x)


@pytest.mark.slow
@pytest.mark.parametrize("size", [7, 130])
def test_a_block_of_any_size_has_the_exact_numbers(size: int) -> None:
    """All weights are p(x), N(x; 0, 2), up to rounding."""
    estimator = BlockEstimator(Exact(), dataclasses.replace(SMALL, block_size=size))
    x = tf.random.stateless_normal([size, 1], (1, 2))
    exact = tfd.Normal(0.0, 2.0**0.5).log_prob(x[:, 0])
    seed = tf.constant([3, 4])
    np.testing.assert_allclose(estimator.annealed(x, seed)["log_likelihood"], exact, atol=1e-4)
    np.testing.assert_allclose(estimator.bounds(x, seed)["iwae_bound"], exact, atol=1e-4)
    bracket = estimator.bracketed(seed)
    assert bracket["lower_bound"].shape == (size,)
    np.testing.assert_allclose(bracket["upper_bound"], bracket["lower_bound"], atol=1e-4)


@pytest.mark.slow
def test_a_gpu_has_larger_blocks(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each estimate agrees with that of other blocks within their errors, at the same bits."""
    vae = VAE(ModelConfig("bernoulli", 3, (8,)), digits.image_shape)
    small = evaluate(OutsideModel(vae, digits, tmp_path / "small", binarize=True), SMALL)
    monkeypatch.setattr(subjects, "uses_gpu", lambda: True)
    large = evaluate(OutsideModel(vae, digits, tmp_path / "large", binarize=True), SMALL)
    assert small is not None
    assert large is not None
    assert (small.settings.block_size, large.settings.block_size) == (None, 500)
    blocks = [len([*(tmp_path / run).glob("evaluation/ann*/test-*")]) for run in ("small", "large")]
    assert blocks == [2, 1]
    ours, theirs = (np.load(tmp_path / run / "evaluation.npz") for run in ("small", "large"))
    for name in ("elbo", "log_likelihood"):
        values = [arrays[f"test_{name}"] for arrays in (ours, theirs)]
        errors = [arrays[f"test_{name}_error"] for arrays in (ours, theirs)]
        assert values[0].shape == (70,)
        scores = (values[0] - values[1]) / np.hypot(*errors)
        # The mean of 70 scores has an error of 1/8; errors from 8 chains are themselves noisy.
        assert abs(np.mean(scores)) < 0.75, name
        assert 0.1 < np.mean(scores**2) < 4.0, name
    # A result for which no size was asked has any; one that was asked is another result.
    assert large.settings.answers(SMALL)
    assert not large.settings.answers(dataclasses.replace(SMALL, block_size=50))
    assert not large.settings.answers(dataclasses.replace(SMALL, seed=1))
