"""Features of the best q(z|x): better than the encoder's, and written as all features are."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tests.support import runs
from tests.support.errors import refused
from tests.support.runs import ReferenceRun
from tfp_smvi.data import Dataset
from tfp_smvi.engines.recipes import Recipe
from tfp_smvi.features.refined import RefinedEncoder
from tfp_smvi.runs.loading import load_run

COUNT, STEPS = 60, 100


@pytest.fixture(scope="module")
def encoder(reference: ReferenceRun) -> RefinedEncoder:
    return RefinedEncoder(reference.run_dir, STEPS, COUNT, warn=lambda line: None)


def test_the_elbo_of_refined_features_is_higher(
    encoder: RefinedEncoder, reference: ReferenceRun, digits: Dataset
) -> None:
    """Catches moments in other units or rows in another order, also in the second part of 50.

    Both are diagonal Gaussians with the same noise, so that a mean gain of 0.04 nat shows.
    """
    x = digits.test.images(np.arange(COUNT))
    features = encoder.encode("serving_default", x)
    model = load_run(reference.run_dir, warn=lambda line: None).model
    start = model.encode(tf.constant(x))
    noise = tf.random.stateless_normal([128, *features.mean.shape], seed=(0, 1))

    def elbo(mean: tf.Tensor, stddev: tf.Tensor) -> np.ndarray:
        z = mean + stddev * noise
        log_q = tfd.MultivariateNormalDiag(mean, stddev).log_prob(z)
        return (model.log_joint(tf.constant(x), z) - log_q).numpy()

    gain = elbo(features.mean, features.stddev) - elbo(start.mean(), start.stddev())
    error = gain.std(axis=0, ddof=1) / np.sqrt(len(gain))
    assert gain.mean() > 5.0 * gain.std(ddof=1) / np.sqrt(gain.size)
    assert (gain.mean(axis=0) > -0.05 - 5.0 * error).all()
    grey = np.rint(255 * x).astype(np.uint8)
    np.testing.assert_allclose(encoder.encode("uint8", grey).mean, features.mean, atol=0.1)


def test_a_task_makes_the_same_encoder(encoder: RefinedEncoder) -> None:
    """Its identity has all that its features depend on."""
    recipe = Recipe.from_json(json.loads(json.dumps(encoder.recipe.to_json())))
    assert recipe.make().identity == encoder.identity


def test_the_command_writes_them(
    encoder: RefinedEncoder,
    reference: ReferenceRun,
    digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tfp_smvi.features.refined.RefinedEncoder", lambda *a, **k: encoder)
    x = digits.test.images(np.arange(COUNT))
    np.save(tmp_path / "x.npy", x)
    output = tmp_path / "features.npz"
    arguments = ("features", str(tmp_path / "x.npy"), "--output", str(output))
    arguments += ("--run-dir", str(reference.run_dir), "--refine", str(STEPS))
    assert runs.call(*arguments, "--batch-size", str(COUNT)) == 0
    expected = encoder.encode("serving_default", x)
    with np.load(output) as features:
        np.testing.assert_array_equal(features["mean"], expected.mean)
        np.testing.assert_array_equal(features["stddev"], expected.stddev)


def test_a_number_of_steps_below_one_is_refused(reference: ReferenceRun) -> None:
    with refused("refine", 0):
        RefinedEncoder(reference.run_dir, 0, COUNT)
