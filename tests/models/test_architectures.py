"""The stock networks: their shapes, their weights, and the gradients that the objective needs."""

from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

from tfp_smvi.config import ArchitectureName, ModelConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.models.architectures import ARCHITECTURES, network_shapes
from tfp_smvi.models.likelihoods import LIKELIHOODS
from tfp_smvi.models.vae import VAE
from tfp_smvi.objectives.smvi import smvi_objective


def conv(
    image_shape: tuple[int, ...] = (8, 8, 1), likelihood: str = "bernoulli", seed: int = 0
) -> VAE:
    config = ModelConfig(
        likelihood=likelihood,
        latent_dim=3,
        hidden_sizes=(5,),
        architecture="conv",
        num_categories=3 if likelihood == "categorical" else None,
    )
    return VAE(config, image_shape, seed)


def test_every_architecture_can_be_chosen() -> None:
    assert tuple(ARCHITECTURES) == get_args(ArchitectureName)


@pytest.mark.parametrize("likelihood", list(LIKELIHOODS))
@pytest.mark.parametrize(
    "image_shape", [(1, 1, 1), (5, 7), (3, 40, 2), (8, 8, 3), (17, 9, 1), (33, 20, 4)]
)
def test_conv_takes_images_of_any_size_and_number_of_channels(
    image_shape: tuple[int, ...], likelihood: str
) -> None:
    model = conv(image_shape, likelihood)
    x = tf.random.stateless_uniform((2, *image_shape), seed=(0, 0))
    z = model.encode(x).sample(4, seed=(0, 0))
    assert z.shape == (4, 2, 3)
    assert model.decode(z).sample(seed=(0, 0)).shape == (4, 2, *image_shape)
    assert np.isfinite(model.log_joint(tf.round(x), z)).all()


def test_every_pixel_is_decoded_from_z() -> None:
    """The layers before the cropping are larger than the image by up to a pixel at two edges."""
    model = conv((17, 9, 1))
    one, other = (model.decode(tf.fill([1, 3], value)).mean() for value in (-2.0, 2.0))
    assert np.all(one != other)


@pytest.mark.parametrize("shape", [(6,), (2, 3, 4, 1)])
def test_conv_refuses_what_is_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(SMVIError, match="architecture = 'conv' needs images") as caught:
        conv(shape)
    assert caught.value.field == "architecture"


def test_weights_of_conv_follow_from_the_seed() -> None:
    first, again, other = conv(seed=1), conv(seed=1), conv(seed=2)
    assert {"encoder/convolution_0/kernel", "decoder/convolution_1/bias"} <= {
        *first.named_variables
    }
    for name, variable in first.named_variables.items():
        np.testing.assert_array_equal(variable, again.named_variables[name])
        if name.endswith("kernel"):
            assert not np.array_equal(variable, other.named_variables[name])


def test_the_score_of_conv_is_that_of_finite_differences() -> None:
    """Central differences in float32: at a step of 0.01 both errors are about 1e-3."""
    model, step = conv(), 1e-2
    x = tf.round(tf.random.stateless_uniform((1, 8, 8, 1), seed=(1, 1)))
    z = tf.random.stateless_normal((1, 3), seed=(2, 2))
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = model.log_joint(x, z)
    score = tape.gradient(value, z)[0]
    for i in range(3):
        shift = step * tf.one_hot([i], 3)
        difference = (model.log_joint(x, z + shift) - model.log_joint(x, z - shift)) / (2 * step)
        np.testing.assert_allclose(score[i], difference[0], rtol=1e-2, atol=1e-2)


def test_the_divergence_reaches_all_weights_of_conv() -> None:
    model = conv()
    x = tf.round(tf.random.stateless_uniform((3, 8, 8, 1), seed=(1, 1)))
    with tf.GradientTape() as tape:
        q = model.encode(x)
        objective = smvi_objective(
            q, model.prior, lambda z: model.decode(z).log_prob(x), 1.0, q.sample(seed=(0, 0))
        )
        divergence = tf.reduce_sum(objective.divergence)
    gradients = tape.gradient(divergence, model.trainable_variables)
    for name, gradient in zip(model.named_variables, gradients, strict=True):
        if name != "decoder/convolution_1/bias":  # the score does not depend on it directly
            assert gradient is not None, name
            assert np.any(gradient != 0.0), name


def test_network_shapes_are_those_of_the_networks() -> None:
    config = ModelConfig(posterior="full", likelihood="gaussian", latent_dim=4, hidden_sizes=(3,))
    shapes = network_shapes((5, 2), config)
    model = VAE(config, (5, 2))
    assert model.encoder.output_shape == (None, shapes.encoder_outputs)
    assert model.decoder.output_shape == (None, shapes.decoder_size)


@pytest.mark.parametrize(("architecture", "sizes"), [("dense", (1024, 1024)), ("conv", (256,))])
def test_hidden_sizes_have_a_default_for_each_architecture(
    architecture: ArchitectureName, sizes: tuple[int, ...]
) -> None:
    assert ModelConfig(architecture=architecture).hidden_sizes == sizes
