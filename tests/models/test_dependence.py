"""How much the latents of an example say about it."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.models.dependence import measure_dependence, reconstruction_change

NOISE = 0.7
X = tf.random.stateless_normal([50, 5], [1, 2])


class Linear:
    """q(z|x) = N(A x, I), p(x|z) = N(W z, NOISE^2 I)."""

    def __init__(self, scale=1.0):
        rng = np.random.default_rng(0)
        self.weights = (scale * rng.standard_normal((5, 3))).astype(np.float32)

    def encode(self, x):
        return tfd.Independent(tfd.Normal(x @ self.weights, 1.0), 1)

    def decode(self, z):
        return tfd.Independent(tfd.Normal(z @ self.weights.T, NOISE), 1)


def test_the_change_is_the_difference_of_squares_of_a_gaussian_model():
    """log p(x|z) = -|x - W z|^2 / 2 noise^2 + constant."""
    model = Linear()
    z = model.encode(X).mean().numpy()
    own, other = (
        np.sum((X - latents @ model.weights.T) ** 2, axis=1) for latents in (z, np.roll(z, 1, 0))
    )
    expected = np.abs(other - own) / (2.0 * NOISE**2)
    # Sums of squares up to 1,000, in float32.
    change = reconstruction_change(model, X, tf.constant(z))
    np.testing.assert_allclose(change, expected, rtol=1e-4, atol=1e-2)
    found = measure_dependence(model, X)
    assert found.active_units == 3
    assert found.reconstruction_change == pytest.approx(expected.mean(), rel=1e-4)


def test_a_decoder_that_does_not_see_z_has_no_change():
    model = Linear(0.0)
    assert np.all(reconstruction_change(model, X, tf.random.stateless_normal([50, 3], [1, 3])) == 0)
    assert measure_dependence(model, X) == (0, 0.0)


def test_one_example_tells_nothing():
    assert measure_dependence(Linear(), X[:1]) == (None, None)
