"""Values and derivatives of the activations against formulas in float64."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from tfp_smvi.models.activations import silu, softplus
from tfp_smvi.models.keras_backend import keras
from tfp_smvi.models.layers import Dense

X = np.linspace(-30.0, 30.0, 481)
S = 1.0 / (1.0 + np.exp(-X))
T = S * (1.0 - S)  # the derivative of S
ODD = 1.0 - 2.0 * S

EXACT = {
    silu: [X * S, S + X * T, T * (2.0 + X * ODD), T * (ODD * (3.0 + X * ODD) - 2.0 * X * T)],
    softplus: [np.logaddexp(0.0, X), S, T, T * ODD],
}


def derivatives(function: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, order: int) -> list:
    """The function and its derivatives up to an order."""
    if order == 0:
        return [function(x)]
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = derivatives(function, x, order - 1)
    return [*values, tape.gradient(values[-1], x)]


@pytest.mark.parametrize("mode", [lambda f: f, tf.function, tf.function(jit_compile=True)])
@pytest.mark.parametrize("activation", EXACT)
def test_three_derivatives_are_exact(activation, mode) -> None:
    """Within a few roundings of float32 of the largest term, which is at most 31."""
    x = tf.constant(X, tf.float32)
    found = mode(lambda x: derivatives(activation, x, 3))(x)
    for value, exact in zip(found, EXACT[activation], strict=True):
        np.testing.assert_allclose(value, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("activation", EXACT)
def test_a_dense_layer_has_them(activation) -> None:
    """One sigmoid serves a value and two derivatives; Keras's own have one for each."""
    layer = Dense(3, activation.__name__, kernel_initializer="ones")
    layer.build((None, 3))

    @tf.function(input_signature=[tf.TensorSpec([7, 3])], autograph=False)
    def curvature(x: tf.Tensor) -> list:
        return derivatives(lambda x: layer(x, products="float32"), x, 2)

    x = tf.reshape(tf.linspace(-2.0, 2.0, 21), [7, 3])
    own = curvature(x)
    keras_activation = getattr(keras.activations, activation.__name__)
    for found, other in zip(
        own, derivatives(lambda x: keras_activation(x @ tf.ones([3, 3])), x, 2), strict=True
    ):
        np.testing.assert_allclose(found, other, rtol=1e-5, atol=1e-5)
    names = [op.type for op in curvature.get_concrete_function().graph.get_operations()]
    assert names.count("Sigmoid") == 1
