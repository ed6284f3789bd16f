"""Fully connected networks on matrix products that are fast to differentiate twice."""

import math
import zlib
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfp_smvi.models.keras_backend import keras

__all__ = ["MINIMUM_SCALE", "Dense", "fully_connected", "positive"]

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
) -> keras.Sequential:
    """Makes a network, [batch, num_inputs] -> float32 [batch, num_outputs].

    Args:
        name: its name, which also determines the initialization.
        num_inputs: the size of one input.
        hidden_sizes: the units of each hidden layer.
        num_outputs: the size of one output.
        activation: the activation of the hidden layers, as Keras names it.
        seed: the seed of the initialization, any integer.
    """

    def dense(units: int, layer: str, activation: str | None) -> Dense:
        key = zlib.crc32(f"{seed}/{name}/{layer}".encode())
        return Dense(
            units, activation, kernel_initializer=keras.initializers.GlorotUniform(key), name=layer
        )

    hidden = [dense(size, f"hidden_{i}", activation) for i, size in enumerate(hidden_sizes)]
    # The distributions are built in float32 whatever the precision of the products.
    output = [
        dense(num_outputs, "output", None),
        keras.layers.Activation("linear", dtype="float32"),
    ]
    return keras.Sequential([keras.Input((num_inputs,)), *hidden, *output], name=name)


class Dense(keras.layers.Dense):
    """keras.layers.Dense for x: [batch, units], with the faster gradient.

    Attributes:
        transposed: the kernel's transpose, if the weights do not change any more; else None.
    """

    transposed: tf.Tensor | None = None

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns activation(inputs kernel + bias)."""
        inputs, kernel, bias = (
            tf.convert_to_tensor(t, self.compute_dtype) for t in (inputs, self.kernel, self.bias)
        )
        if self.transposed is not None:
            return self.activation(_frozen_affine(inputs, kernel, bias, self.transposed))
        return self.activation(_affine(inputs, kernel, bias))


Gradient = Callable[[tf.Tensor], tuple[tf.Tensor | None, ...]]


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _affine(x: tf.Tensor, w: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """x w + b, whose gradient is made of the products that oneDNN is fastest at.

    (w y^T)^T takes half the time of y w^T, and 1^T y a third of the sum over the batch.
    """

    def gradient(y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        ones = tf.ones([1, tf.shape(y)[0]], y.dtype)
        gradient_x = tf.transpose(tf.matmul(w, y, transpose_b=True))
        return gradient_x, tf.matmul(x, y, transpose_a=True), tf.matmul(ones, y)[0]

    return tf.nn.bias_add(tf.matmul(x, w), b), gradient


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _frozen_affine(
    x: tf.Tensor, w: tf.Tensor, b: tf.Tensor, transposed: tf.Tensor
) -> tuple[tf.Tensor, Gradient]:
    """x w + b with a gradient only with respect to x; with w^T given it transposes nothing."""

    def gradient(y: tf.Tensor) -> tuple[tf.Tensor, None, None, None]:
        return tf.matmul(y, transposed), None, None, None

    return tf.nn.bias_add(tf.matmul(x, w), b), gradient
