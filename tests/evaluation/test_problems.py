"""Annealed chains that gradients of products in bfloat16 move."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfp_smvi.config import AISConfig, EvaluateConfig, LeapfrogPrecision, ModelConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import Dataset
from tfp_smvi.evaluation import subjects
from tfp_smvi.evaluation.blocks import KINDS
from tfp_smvi.evaluation.estimator import BlockEstimator
from tfp_smvi.evaluation.subjects import Subject
from tfp_smvi.models.vae import VAE

NUM_EXAMPLES = 40
AIS = AISConfig(num_chains=16, num_temperatures=24, num_segments=2, num_pilot_temperatures=16)
CONFIG = EvaluateConfig(AIS, block_size=NUM_EXAMPLES)


def with_precision(config: EvaluateConfig, precision: LeapfrogPrecision) -> EvaluateConfig:
    """The settings with another precision."""
    ais = dataclasses.replace(config.ais, leapfrog_precision=precision)
    return dataclasses.replace(config, ais=ais)


@pytest.fixture(scope="module")
def model() -> VAE:
    """One latent; the weights are so large that the posterior is far from q(z|x)."""
    model = VAE(ModelConfig("bernoulli", 1, (16,)), (4, 4))
    for i, variable in enumerate(model.decoder.trainable_variables):
        variable.assign(0.7 * tf.random.stateless_normal(variable.shape, (3, i)))
    return model


@pytest.mark.slow
def test_both_precisions_estimate_the_likelihood_of_quadrature(model: VAE) -> None:
    """And accept as many moves: at most 0.02 fewer."""
    x = tf.cast(tf.random.stateless_uniform([NUM_EXAMPLES, 4, 4], (1, 2)) < 0.5, tf.float32)
    grid = tf.linspace(-8.0, 8.0, 4001)[:, tf.newaxis, tf.newaxis]
    densities = model.log_joint(x, tf.tile(grid, [1, NUM_EXAMPLES, 1]))
    exact = tf.reduce_logsumexp(tf.cast(densities, tf.float64), axis=0) + np.log(16.0 / 4000)
    found = {
        precision: BlockEstimator(model, with_precision(CONFIG, precision)).annealed(
            x, tf.constant([5, 6])
        )
        for precision in ("float32", "bfloat16")
    }
    for estimates in found.values():
        scores = (estimates["log_likelihood"] - exact) / estimates["log_likelihood_error"]
        # Of a mean of 40 scores; errors of 16 chains are noisy, and log mean(w) is low.
        assert abs(np.mean(scores)) < 5.0 * np.std(scores) / NUM_EXAMPLES**0.5 + 0.3
    rates = [np.mean(estimates["acceptance_rate"]) for estimates in found.values()]
    assert rates[1] > rates[0] - 0.02
    # They did move otherwise.
    assert np.any(found["float32"]["log_likelihood"] != found["bfloat16"]["log_likelihood"])


def test_auto_is_float32() -> None:
    """A result of either answers for both; one of bfloat16 does not for float32."""
    float32, reduced = (with_precision(CONFIG, name) for name in ("float32", "bfloat16"))
    assert CONFIG.answers(CONFIG)
    assert CONFIG.answers(float32)
    assert reduced.answers(CONFIG)
    assert not reduced.answers(float32)
    assert not CONFIG.answers(reduced)


@pytest.mark.parametrize("architecture", ["conv", "own"])
def test_other_decoders_have_their_own_precision(
    architecture: str, model: VAE, digits: Dataset, tmp_path: Path
) -> None:
    """The products of a convolution or of a model from outside are not set here."""

    class Own:
        """A model from outside, with what an evaluation takes of one."""

        prior, encode, decode, log_joint = model.prior, model.encode, model.decode, model.log_joint

    conv = ModelConfig("bernoulli", 2, architecture="conv")
    other = Own() if architecture == "own" else VAE(conv, (8, 8, 1))
    subject = Subject(tmp_path, other, digits, True, {})
    assert subject.resolve(CONFIG) == CONFIG
    with pytest.raises(SMVIError, match="dense layers") as caught:
        subject.resolve(with_precision(CONFIG, "bfloat16"))
    assert caught.value.field == "leapfrog_precision"


@pytest.mark.parametrize("multiplies", [True, False])
def test_the_processor_and_the_decoder_decide_what_is_not_asked_for(
    multiplies: bool, model: VAE, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The precision is in the settings, which a result and the files of its blocks are known by."""
    monkeypatch.setattr(subjects, "multiplies_bfloat16", lambda: multiplies)
    subject = Subject(tmp_path, model, digits, True, {})
    assert subject.resolve(CONFIG) == CONFIG
    num_weights = sum(layer.count_params() for layer in model.decoder.layers)
    monkeypatch.setattr(subjects, "MIN_WEIGHTS_FOR_BFLOAT16", num_weights)
    reduced = with_precision(CONFIG, "bfloat16")
    assert subject.resolve(CONFIG) == (reduced if multiplies else CONFIG)
    for kind in ("annealed", "bracket"):  # a float32 evaluation goes on wherever it began
        key = KINDS[kind].key
        assert key(with_precision(CONFIG, "float32")) == key(CONFIG) != key(reduced)
    for precision in ("float32", "bfloat16"):
        asked = with_precision(CONFIG, precision)
        assert subject.resolve(asked) == asked
