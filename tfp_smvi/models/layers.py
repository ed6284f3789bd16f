"""Fully connected networks that are fast to differentiate twice."""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from tfp_smvi.config import Precision
from tfp_smvi.models.activations import silu, softplus
from tfp_smvi.models.keras_backend import keras
from tfp_smvi.models.products import Products, affine, factor, frozen_affine, plain_affine

__all__ = [
    "MINIMUM_SCALE",
    "Dense",
    "apply",
    "float32_network",
    "fully_connected",
    "initialization_seed",
    "positive",
]

# In place of Keras's.
_ACTIVATIONS = {keras.activations.silu: silu, keras.activations.softplus: softplus}
# The scores divide by the scale: the floor keeps them finite. Trained posteriors have scales of
# 0.01 and more.
MINIMUM_SCALE = 1e-4


def positive(h: tf.Tensor) -> tf.Tensor:
    """Maps a network's output to a scale: softplus(h + log(e - 1)) plus a floor; h = 0 gives 1.

    exp(h) diverges in the first steps with lam >= 0.01: the divergence grows as 1 / scale^2.
    """
    return tf.nn.softplus(h + math.log(math.e - 1.0)) + MINIMUM_SCALE


def fully_connected(
    name: str,
    num_inputs: int,
    hidden_sizes: Sequence[int],
    num_outputs: int,
    activation: str,
    seed: int,
    zero_output: bool = False,
) -> keras.Sequential:
    """Makes a network, float32 [batch, num_inputs] -> float32 [batch, num_outputs].

    Weights and activations are float32 whatever Keras's default dtype or policy is.

    Args:
        name: its name, which also determines the initialization.
        num_inputs: the size of one input.
        hidden_sizes: the units of each hidden layer.
        num_outputs: the size of one output.
        activation: the activation of the hidden layers, as Keras names it.
        seed: the seed of the initialization, any integer.
        zero_output: whether the last layer begins with weights of 0, and the network as 0.
    """

    def dense(units: int, layer: str, activation: str | None) -> Dense:
        key = initialization_seed(seed, name, layer)
        initializer = (
            keras.initializers.Zeros()
            if zero_output and layer == "output"
            else keras.initializers.GlorotUniform(key)
        )
        return Dense(units, activation, kernel_initializer=initializer, name=layer, dtype="float32")

    hidden = [dense(size, f"hidden_{i}", activation) for i, size in enumerate(hidden_sizes)]
    layers = [*hidden, dense(num_outputs, "output", None)]
    return float32_network(name, (num_inputs,), layers)


def float32_network(
    name: str, input_shape: tuple[int, ...], layers: Sequence[keras.Layer]
) -> keras.Sequential:
    """Makes a network of layers, float32 whatever Keras's default dtype or policy is.

    Args:
        name: its name.
        input_shape: the shape of one input.
        layers: its layers, of dtype float32.
    """
    network = keras.Sequential([keras.Input(input_shape, dtype="float32"), *layers], name=name)
    network.dtype_policy = keras.DTypePolicy("float32")
    return network


def initialization_seed(seed: int, network: str, layer: str) -> int:
    """The seed of one layer's initialization, from the user's seed and the names."""
    return zlib.crc32(f"{seed}/{network}/{layer}".encode())


def apply(network: keras.Model, inputs: tf.Tensor, products: Products) -> tf.Tensor:
    """Returns what a network gives, as it does outside of a training.

    Args:
        network: the network; one with other layers than `Dense` computes in float32.
        inputs: float32 [batch, ...].
        products: the dtype of the factors and of the result of each matrix product, forward and in
            gradients of every order. The terms of a product are added in float32, and everything
            else is float32. None for float32 and "plain bfloat16" as TensorFlow has them: slower
            gradients, but such that a SavedModel can hold.
    """
    if products is None or not all(isinstance(layer, Dense) for layer in network.layers):
        return network(inputs, training=False)
    for layer in network.layers:
        inputs = layer(inputs, products=products)
    return inputs


class Dense(keras.layers.Dense):
    """keras.layers.Dense for x: [batch, units], with faster gradients.

    Its weights may be frozen, each precision of the products by itself.
    """

    def freeze(self, products: Precision) -> None:
        """Keeps the kernel and its transpose, as factors; call it again when the weights change."""
        kernel = factor(tf.convert_to_tensor(self.kernel), products)
        factors = (kernel, tf.transpose(kernel))
        if products not in self._frozen:
            variables = tuple(tf.Variable(matrix, trainable=False) for matrix in factors)
            self._frozen = {**self._frozen, products: variables}
        for variable, matrix in zip(self._frozen[products], factors, strict=True):
            variable.assign(matrix)

    def freeze_again(self) -> None:
        """Updates what `freeze` keeps, in all precisions, after a change of the weights."""
        for products in self._frozen:
            self.freeze(products)

    _frozen: Mapping[Precision, tuple[tf.Variable, ...]] = {}

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, products: Products = None
    ) -> tf.Tensor:
        """Returns activation(inputs kernel + bias), with `products` as in `apply`."""
        if products is None:
            return super().call(inputs)
        if products == "plain bfloat16":
            return self.activation(plain_affine(inputs, self.kernel.value, self.bias.value))
        inputs, bias = (tf.convert_to_tensor(t, self.compute_dtype) for t in (inputs, self.bias))
        if products in self._frozen:
            kernel, transposed = map(tf.convert_to_tensor, self._frozen[products])
            outputs = frozen_affine(inputs, kernel, transposed, bias, products)
        else:
            kernel = tf.convert_to_tensor(self.kernel, self.compute_dtype)
            outputs = affine(inputs, kernel, bias, products)
        own: Callable[[tf.Tensor], tf.Tensor] = self.activation
        return _ACTIVATIONS.get(own, own)(outputs)
