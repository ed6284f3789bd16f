"""Networks of a user's function: what is refused, and what a model does with the others."""

import random
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfp_smvi.config import ModelConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.models.imports import UserFunction
from tfp_smvi.models.vae import VAE

CONFIG = ModelConfig(likelihood="gaussian", latent_dim=3, model="my_model:build")
SHAPE = (4, 5, 1)


def network(num_inputs: int, num_outputs: int, *others: keras.Layer) -> keras.Sequential:
    return keras.Sequential([keras.Input([num_inputs]), *others, layers.Dense(num_outputs)])


def encoder(*others: keras.Layer) -> keras.Sequential:
    return network(20, 6, *others)


def decoder(*others: keras.Layer) -> keras.Sequential:
    return network(3, 40, *others)


def model_of(build: Any, seed: int = 0, config: ModelConfig = CONFIG) -> VAE:
    return VAE(config, SHAPE, seed, UserFunction("my_model:build", build, __file__, None, None))


class Subclassed(keras.Model):
    """A model without a declared input, with its own axes."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.flatten, self.dense = layers.Flatten(), layers.Dense(int(np.prod(shape)))
        self.shape_out = layers.Reshape(shape)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self.shape_out(self.dense(self.flatten(x)))


class Noise(keras.Layer):
    """Random by TensorFlow's own generator, of which Keras knows nothing."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x + tf.random.normal(tf.shape(x))


class Eager(keras.Layer):
    """Works only outside of a graph."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.constant(x.numpy())


@pytest.mark.parametrize(
    "build",
    [
        lambda: (encoder(), decoder()),
        lambda: [encoder(), decoder()],
        lambda: (Subclassed(6), Subclassed(*SHAPE, 2)),
        lambda: (
            keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(6)]),
            keras.Sequential([keras.Input([3]), layers.Dense(40), layers.Reshape([4, 5, 2])]),
        ),
        lambda: (encoder(layers.LayerNormalization(), layers.Dropout(0.0)), decoder()),
    ],
)
def test_networks_of_all_kinds_make_a_model(build: Any) -> None:
    model = model_of(lambda shape, config: build())
    x = tf.random.stateless_normal((7, *SHAPE), seed=(0, 0))
    z = model.encode(x).sample(2, seed=(0, 0))
    assert model.log_joint(x, z).shape == (2, 7)
    names = list(model.named_variables)
    assert names[0] == "encoder/000/kernel" or names[0] == "encoder/000/gamma"
    assert names == list(model.copy().named_variables)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "returns NoneType; give encoder, decoder: two models of Keras 3"),
        ((), "returns nothing; give encoder, decoder"),
        ((encoder, decoder), "returns function, function; give encoder, decoder"),
        (lambda: (encoder(), decoder(), 3), "returns Sequential, Sequential, int; give"),
        (
            lambda: (network(20, 7), decoder()),
            r"returns an encoder with outputs \[batch, 7\]; give encoder: float32 \[batch, 20\] -> "
            r"\[batch, 6\]",
        ),
        (
            lambda: (encoder(), network(3, 20)),
            r"returns a decoder with outputs \[batch, 20\]; give decoder: float32 \[batch, 3\] -> "
            r"\[batch, 4, 5, 1, 2\] or \[batch, 40\]",
        ),
        (lambda: (network(19, 6), decoder()), "returns an encoder that fails: ValueError"),
        (
            lambda: (encoder(Eager()), decoder()),
            r"raises AttributeError, line \d+ of test_own\.py \(",
        ),
        (lambda: (encoder(layers.Dropout(0.5)), decoder()), "changes .*seed_generator_state when"),
        (
            lambda: (encoder(), decoder(layers.BatchNormalization())),
            "changes .*moving_mean, .*in t",
        ),
        (lambda: (encoder(), decoder(Noise())), "a decoder that gives other outputs at the same x"),
        (lambda: (encoder(layers.Dense(4, dtype="float64")), decoder()), "variables of float64"),
        (
            lambda: (
                keras.Sequential([encoder(), layers.Activation("linear", dtype="float16")]),
                decoder(),
            ),
            "returns an encoder of float16",
        ),
    ],
)
def test_what_makes_no_model_is_refused_in_one_line(returned: Any, message: str) -> None:
    tf.random.set_seed(0)  # with which new graphs give the same numbers

    def build(image_shape: tuple[int, ...], config: ModelConfig) -> Any:
        return returned() if callable(returned) else returned

    with pytest.raises(SMVIError, match=message) as caught:
        model_of(build)
    assert caught.value.field == "model"
    assert "\n" not in str(caught.value)


def test_weights_follow_from_the_seed_and_the_users_generators_stay() -> None:
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    first, again, other = (model_of(lambda *_: (encoder(), decoder()), seed) for seed in (1, 1, 2))
    assert random.getstate() == states[0]
    np.testing.assert_equal(np.random.get_state(), states[1])  # noqa: NPY002
    for name, variable in first.named_variables.items():
        np.testing.assert_array_equal(variable, again.named_variables[name])
        if name.endswith("kernel"):
            assert not np.array_equal(variable, other.named_variables[name])


def test_constants_are_kept_and_not_trained() -> None:
    def build(*_: Any) -> tuple[keras.Model, keras.Model]:
        fixed = layers.Dense(5)
        fixed.trainable = False
        return encoder(fixed), decoder()

    model = model_of(build)
    names = list(model.named_variables)
    constants = names[:2]
    kept = {id(model.named_variables[name]) for name in constants}
    trained = {id(variable) for variable in model.trainable_variables}
    assert not kept & trained
    assert len(trained) == len(names) - 2


def test_a_function_must_make_new_networks() -> None:
    networks = encoder(), decoder()
    with pytest.raises(SMVIError, match="returns the same networks at every call"):
        model_of(lambda *_: networks).copy()


def test_a_frozen_network_is_not_trained() -> None:
    model = model_of(lambda *_: (encoder(), decoder()))
    for frozen, kept in (("decoder", "encoder/"), ("encoder", "decoder/"), (None, "")):
        model.frozen = frozen
        expected = [v for name, v in model.named_variables.items() if name.startswith(kept)]
        assert [id(v) for v in model.trainable_variables] == [id(v) for v in expected]
