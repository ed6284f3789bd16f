"""Reconstructions, new examples and ways between two examples, against the model's own parts."""

import numpy as np
import pytest
import tensorflow as tf

from tests.support.errors import refused
from tfp_smvi.config import ModelConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.models.exploring import generate, interpolate, reconstruct
from tfp_smvi.models.likelihoods import LIKELIHOODS
from tfp_smvi.models.vae import VAE

SHAPE = (4, 5, 1)
# float32 rounding of sums of some dozen terms.
ROUNDING = 1e-5


def small_model(likelihood: str = "bernoulli") -> VAE:
    num_categories = 5 if likelihood == "categorical" else None
    settings = {"latent_dim": 3, "hidden_sizes": (16,), "num_categories": num_categories}
    return VAE(ModelConfig(likelihood=likelihood, **settings), SHAPE)


def bits(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (count, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("likelihood", list(LIKELIHOODS))
def test_they_have_the_shape_of_the_data_under_every_likelihood(likelihood: str) -> None:
    model, x = small_model(likelihood), bits(3)
    results = [reconstruct(model, x), generate(model, 3), interpolate(model, x[0], x[1], 3)]
    assert [(result.shape, result.dtype) for result in results] == [((3, *SHAPE), np.float32)] * 3
    if likelihood == "categorical":  # classes, and not their mean
        assert {*np.unique(np.concatenate(results))} <= {0.0, 1.0, 2.0, 3.0, 4.0}


def test_the_ends_of_a_way_are_reconstructions_and_its_middle_is_between_them() -> None:
    model, x = small_model(), bits(2)
    way = interpolate(model, x[0], x[1], 5)
    np.testing.assert_allclose(way[[0, -1]], reconstruct(model, x), rtol=ROUNDING)
    middle = tf.reduce_mean(model.encode(x).mean(), axis=0, keepdims=True)
    np.testing.assert_allclose(way[[2]], model.decode(middle).mean(), rtol=ROUNDING)


def test_one_seed_gives_the_same_examples_and_another_seed_others() -> None:
    model = small_model()
    np.testing.assert_array_equal(generate(model, 4, seed=1), generate(model, 4, seed=1))
    assert not np.array_equal(generate(model, 4, seed=1), generate(model, 4, seed=2))


def test_a_model_without_a_likelihood_of_ours_gives_means() -> None:
    class Other:
        """The members that any trainable model has."""

        def __init__(self) -> None:
            model = small_model()
            self.prior, self.encode, self.decode = model.prior, model.encode, model.decode

    x = bits(2)
    np.testing.assert_array_equal(reconstruct(Other(), x), reconstruct(small_model(), x))


def test_no_examples_and_other_shapes_are_refused() -> None:
    model, x = small_model(), bits(2)
    for call in (lambda: generate(model, 0), lambda: interpolate(model, x[0], x[1], 0)):
        with pytest.raises(SMVIError) as caught:
            call()
        assert (caught.value.field, caught.value.value) == ("num_examples", 0)
    for number in (2.5, True):  # Python would take them for 2 and 1
        with refused("num_examples", number):
            generate(model, number)  # type: ignore[arg-type]
    with pytest.raises(SMVIError, match="shape"):
        reconstruct(model, x[0])
    with pytest.raises(SMVIError, match="shape"):
        interpolate(model, x, x)
