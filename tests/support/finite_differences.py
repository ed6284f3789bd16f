"""Gradients held against central differences."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

__all__ = ["assert_slopes"]


def assert_slopes(
    value: Callable[[], tf.Tensor],
    parameters: Sequence[tf.Variable],
    slopes: Sequence[tf.Tensor],
    rng: np.random.Generator,
) -> None:
    """Asserts that slopes are those of a value, in a random direction of each parameter.

    Args:
        value: a float64 scalar of the parameters.
        parameters: float64; they have their values again at the end.
        slopes: the gradient of the value with respect to each.
        rng: draws the directions.
    """
    step = 1e-5  # the error of the central difference is then of the order 1e-10
    for parameter, slope in zip(parameters, slopes, strict=True):
        origin, direction = parameter.numpy(), rng.standard_normal(parameter.shape)
        values = []
        for sign in (1.0, -1.0):
            parameter.assign(origin + sign * step * direction)
            values.append(float(value()))
        parameter.assign(origin)
        difference = (values[0] - values[1]) / (2.0 * step)
        np.testing.assert_allclose(np.sum(slope * direction), difference, rtol=1e-6)
