"""Activations whose value, slope and curvature share one exponential.

The gradient of a divergence of scores needs all three, and TensorFlow's own activations compute an
exponential for each.
"""

from collections.abc import Callable

import tensorflow as tf

__all__ = ["silu", "softplus"]

Function = Callable[[tf.Tensor], tf.Tensor]


def silu(x: tf.Tensor) -> tf.Tensor:
    """Returns x sigmoid(x), which can be differentiated as often as one likes.

        f = x s,    f' = s + p,    f'' = p + 2 s (1 - s - p),    p = f (1 - s),    s = sigmoid(x)

    Args:
        x: float, of any shape.
    """
    s = tf.sigmoid(x)
    value = x * s

    def slope(x: tf.Tensor) -> tf.Tensor:
        return _function(x, s + value * (1.0 - s), curvature)

    def curvature(x: tf.Tensor) -> tf.Tensor:
        p = value * (1.0 - s)
        return _function(x, p + 2.0 * s * (1.0 - s - p), _third_derivative_of_silu)

    return _function(x, value, slope)


def softplus(x: tf.Tensor) -> tf.Tensor:
    """Returns log(1 + e^x), which can be differentiated as often as one likes.

        f' = s,    f'' = s (1 - s),    s = sigmoid(x)

    Args:
        x: float, of any shape.
    """
    return _function(x, tf.nn.softplus(x), _sigmoid)


def _sigmoid(x: tf.Tensor) -> tf.Tensor:
    s = tf.sigmoid(x)
    return _function(x, s, lambda x: _function(x, s * (1.0 - s), _second_derivative_of_sigmoid))


def _third_derivative_of_silu(x: tf.Tensor) -> tf.Tensor:
    s = tf.sigmoid(x)
    t, odd = s * (1.0 - s), 1.0 - 2.0 * s
    return t * (odd * (3.0 + x * odd) - 2.0 * x * t)


def _second_derivative_of_sigmoid(x: tf.Tensor) -> tf.Tensor:
    s = tf.sigmoid(x)
    return s * (1.0 - s) * (1.0 - 2.0 * s)


def _function(x: tf.Tensor, value: tf.Tensor, derivative: Function) -> tf.Tensor:
    """A function of x whose value was computed already, and whose derivative is given."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def function(x: tf.Tensor) -> tuple[tf.Tensor, Function]:
        return tf.identity(value), lambda upstream: upstream * derivative(x)

    return function(x)
