"""Conditional normalizing flows: coupling layers whose networks see features of x.

References:
    [1] L. Dinh, J. Sohl-Dickstein, S. Bengio. Density estimation using Real NVP. ICLR 2017.
    [2] C. Durkan, A. Bekasov, I. Murray, G. Papamakarios. Neural Spline Flows. NeurIPS 2019.
    [3] D. Rezende, S. Mohamed. Variational Inference with Normalizing Flows. ICML 2015.
"""

from typing import Any

import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_smvi.config import Activation, FlowTransform, Precision
from tfp_smvi.models.keras_backend import keras
from tfp_smvi.models.layers import apply, fully_connected

__all__ = ["CouplingFlow", "flow_distribution"]

# Of a coupling network; the decoder is many times as large.
HIDDEN_SIZES = (128, 128)
# Splines act on [-BOUND, BOUND], and are the identity outside; beyond lies 1e-5 of N(0, 1).
BOUND = 4.5
NUM_BINS = 8
# Scales, slopes at knots and, but for a factor, sizes of bins lie within exp(-MAX_LOG) and
# exp(MAX_LOG): no layer can collapse or explode, and float32 inverts all of them.
MAX_LOG = 1.5
# Antithetic pairs of fixed draws for the moments: their mean misses by a tenth of the skew.
NUM_PAIRS = 64
MOMENT_SEED = (0, 0)


class CouplingFlow:
    """Invertible maps of [latent_dim], conditioned on features; the identity when made.

    Layers in turn transform one half of the coordinates given the other [1], by an affine map with
    bounded scales, or by rational-quadratic splines [2].

    Args:
        latent_dim: the coordinates, at least 2.
        num_features: the features of x.
        num_layers: the coupling layers.
        transform: "spline" or "affine".
        activation: of the hidden layers of the networks, as Keras names it.
        seed: the seed of the weights' initialization, any integer.

    Attributes:
        networks: a network for each layer.
    """

    def __init__(
        self,
        latent_dim: int,
        num_features: int,
        num_layers: int,
        transform: FlowTransform,
        activation: Activation,
        seed: int,
    ) -> None:
        """Builds the networks."""
        self._transform = _TRANSFORMS[transform]
        self._sizes = [latent_dim // 2, latent_dim - latent_dim // 2]
        self.networks: list[keras.Sequential] = []
        for number in range(num_layers):
            given, changed = self._split(number)
            outputs = changed * _NUM_PARAMETERS[transform]
            inputs = given + num_features
            name = f"flow_{number}"
            network = fully_connected(
                name, inputs, HIDDEN_SIZES, outputs, activation, seed, zero_output=True
            )
            self.networks.append(network)

    def bijector(self, features: tf.Tensor, products: Precision) -> tfb.Bijector:
        """Returns the map given features, float32 [batch, num_features].

        It takes [..., batch, latent_dim]. Its networks compute products as
        `tfp_smvi.models.layers.apply` does.
        """
        layers = []
        for number, network in enumerate(self.networks):
            given, _ = self._split(number)

            def coupling(
                given: tf.Tensor,
                num_changed: int,
                network: keras.Sequential = network,
                **conditions: Any,
            ) -> tfb.Bijector:
                inputs = _append(given, features)
                flat = tf.reshape(inputs, [-1, inputs.shape[-1]])
                output = apply(network, flat, products)
                shape = tf.concat([tf.shape(inputs)[:-1], [num_changed, -1]], axis=0)
                parameters = tf.reshape(output, shape)
                parameters = tf.ensure_shape(
                    parameters, [*inputs.shape[:-1], num_changed, output.shape[-1] // num_changed]
                )
                return self._transform(parameters)

            # A negative number masks the coordinates at the end.
            masked = given if number % 2 == 0 else -given
            layers.append(tfb.RealNVP(num_masked=masked, bijector_fn=coupling))
        return tfb.Chain(layers[::-1])

    def _split(self, number: int) -> tuple[int, int]:
        """How many coordinates a layer is given, and how many it changes."""
        first, second = self._sizes
        return (first, second) if number % 2 == 0 else (second, first)


def flow_distribution(
    shift: tf.Tensor, scale: tf.Tensor, flow: tfb.Bijector
) -> tfd.TransformedDistribution:
    """Returns the distribution of shift + scale * f(eps), eps ~ N(0, I) [3].

    The density at any z is exact, through the inverse. Mean and standard deviation are those of
    fixed draws, the same at every call, and differentiable.

    Args:
        shift: float32 [batch, latent_dim].
        scale: float32 [batch, latent_dim], positive.
        flow: the bijector f of [..., batch, latent_dim].

    Returns:
        A distribution of batch shape [batch] and event shape [latent_dim].
    """
    noise = tfd.Normal(tf.zeros_like(shift), tf.ones_like(scale))
    base = tfd.Independent(noise, reinterpreted_batch_ndims=1)
    bijector = tfb.Chain([tfb.Shift(shift), tfb.Scale(scale), flow])
    return _FlowDistribution(base, bijector, name="posterior")


class _FlowDistribution(tfd.TransformedDistribution):
    """A transformed distribution whose moments are those of fixed draws."""

    def _mean(self, **conditions: Any) -> tf.Tensor:
        return tf.reduce_mean(self._moment_draws(), axis=0)

    def _variance(self, **conditions: Any) -> tf.Tensor:
        draws = self._moment_draws()
        mean = tf.reduce_mean(draws, axis=0)
        return tf.reduce_mean(tf.square(draws - mean), axis=0)

    def _stddev(self, **conditions: Any) -> tf.Tensor:
        return tf.sqrt(self._variance())

    def _moment_draws(self) -> tf.Tensor:
        """Draws of antithetic pairs, scaled to have exactly the variance of N(0, I)."""
        dim = self.event_shape[-1]
        eps = tf.random.stateless_normal([NUM_PAIRS, 1, dim], MOMENT_SEED, dtype=self.dtype)
        eps /= tf.sqrt(tf.reduce_mean(tf.square(eps), axis=0))
        eps = tf.concat([eps, -eps], axis=0)
        shape = tf.concat([[2 * NUM_PAIRS], self.batch_shape_tensor(), [dim]], axis=0)
        return self.bijector.forward(tf.broadcast_to(eps, shape))


def _affine(parameters: tf.Tensor) -> tfb.Bijector:
    """x -> exp(s) x + t, from [..., 2]."""
    shift, h = tf.unstack(parameters, axis=-1)
    return tfb.Chain([tfb.Shift(shift), tfb.Scale(log_scale=_bounded(h))])


def _spline(parameters: tf.Tensor) -> tfb.Bijector:
    """A monotone rational-quadratic spline, from [..., 3 NUM_BINS - 1]."""
    widths, heights, slopes = tf.split(parameters, [NUM_BINS, NUM_BINS, NUM_BINS - 1], axis=-1)
    return tfb.RationalQuadraticSpline(
        bin_widths=_bins(widths),
        bin_heights=_bins(heights),
        knot_slopes=tf.exp(_bounded(slopes)),
        range_min=-BOUND,
    )


def _bins(h: tf.Tensor) -> tf.Tensor:
    """Sizes of bins that fill [-BOUND, BOUND]; equal at h = 0."""
    return 2.0 * BOUND * tf.nn.softmax(_bounded(h))


def _bounded(h: tf.Tensor) -> tf.Tensor:
    return MAX_LOG * tf.tanh(h / MAX_LOG)


def _append(values: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
    """[..., batch, n] and [batch, m] -> [..., batch, n + m]."""
    shape = tf.concat([tf.shape(values)[:-1], [features.shape[-1]]], axis=0)
    repeated = tf.broadcast_to(features, shape)
    return tf.concat([values, repeated], axis=-1)


_TRANSFORMS = {"affine": _affine, "spline": _spline}
_NUM_PARAMETERS = {"affine": 2, "spline": 3 * NUM_BINS - 1}
