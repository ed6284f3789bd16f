"""The deep latent variable model: all its parts are TFP distributions, so that the maths reads as in the paper.

References:
    [1] D. Levy and S. Ermon. Trading-off Learning and Inference in Deep Latent Variable Models.
    Sections 4 and 5.
"""

import math
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.config import ModelConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.models.keras_backend import keras

__all__ = ["LIKELIHOODS", "VAE", "Likelihood"]

# The scores divide by the scale: the floor keeps them finite. Trained posteriors have scales of
# 0.01 and more.
MINIMUM_SCALE = 1e-4


def positive(h: tf.Tensor) -> tf.Tensor:
    """Maps a network's output to a scale: softplus(h + log(e - 1)) plus a floor, so that h = 0 gives 1.

    exp(h) diverges in the first steps with lam >= 0.01: the divergence grows as 1 / scale^2.
    """
    return tf.nn.softplus(h + math.log(math.e - 1.0)) + MINIMUM_SCALE


class LogitBernoulli(tfd.Bernoulli):
    """tfd.Bernoulli with the log density x * logits - softplus(logits): one transcendental a pixel, not two."""

    def _log_prob(self, event: tf.Tensor) -> tf.Tensor:
        logits = self.logits
        return tf.cast(event, logits.dtype) * logits - tf.nn.softplus(logits)


class Likelihood(NamedTuple):
    """How the decoder's output becomes p(x|z).

    Attributes:
        num_outputs: outputs of the decoder for each dimension of x.
        distribution: output: float [..., *image_shape, num_outputs] -> distribution of batch shape
            [..., *image_shape].
    """

    num_outputs: int
    distribution: Callable[[tf.Tensor], tfd.Distribution]


def _bernoulli(output: tf.Tensor) -> tfd.Distribution:
    return LogitBernoulli(logits=output[..., 0], dtype=tf.float32)


def _gaussian(output: tf.Tensor) -> tfd.Distribution:
    mean, h = tf.unstack(output, axis=-1)
    return tfd.Normal(mean, positive(h))


LIKELIHOODS: dict[str, Likelihood] = {
    "bernoulli": Likelihood(1, _bernoulli),
    "gaussian": Likelihood(2, _gaussian),
}


def _diagonal_gaussian(mean: tf.Tensor, stddev: tf.Tensor, name: str) -> tfd.Independent:
    """N(mean, diag(stddev^2)), without the matrix transposes of tfd.MultivariateNormalDiag."""
    return tfd.Independent(tfd.Normal(mean, stddev), reinterpreted_batch_ndims=1, name=name)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _affine(x: tf.Tensor, w: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """x w + b, whose gradient is made of the products that oneDNN is fastest at.

    (w y^T)^T takes half the time of y w^T, and 1^T y a third of the sum over the batch.
    """

    def gradient(y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        ones = tf.ones([1, tf.shape(y)[0]], y.dtype)
        by_x = tf.transpose(tf.matmul(w, y, transpose_b=True))
        return by_x, tf.matmul(x, y, transpose_a=True), tf.matmul(ones, y)[0]

    return tf.nn.bias_add(tf.matmul(x, w), b), gradient


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _frozen_affine(
    x: tf.Tensor, w: tf.Tensor, b: tf.Tensor, transposed: tf.Tensor
) -> tuple[tf.Tensor, Any]:
    """x w + b, whose gradient is by x alone and needs w^T, in which no product is transposed."""

    def gradient(y: tf.Tensor) -> tuple[tf.Tensor, None, None, None]:
        return tf.matmul(y, transposed), None, None, None

    return tf.nn.bias_add(tf.matmul(x, w), b), gradient


class Dense(keras.layers.Dense):
    """keras.layers.Dense for x: [batch, units], with the faster gradient.

    Attributes:
        transposed: the kernel's transpose, where the weights are not to change any more.
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


def _network(
    name: str,
    num_inputs: int,
    config: ModelConfig,
    hidden_sizes: tuple[int, ...],
    num_outputs: int,
    seed: int,
) -> keras.Sequential:
    """A fully connected network, [batch, num_inputs] -> [batch, num_outputs], initialized from the seed."""

    def dense(units: int, layer: str, activation: str | None) -> Dense:
        key = zlib.crc32(f"{seed}/{name}/{layer}".encode())
        return Dense(
            units, activation, kernel_initializer=keras.initializers.GlorotUniform(key), name=layer
        )

    hidden = [dense(size, f"hidden_{i}", config.activation) for i, size in enumerate(hidden_sizes)]
    # The distributions are built in float32 whatever the precision of the products.
    output = [
        dense(num_outputs, "output", None),
        keras.layers.Activation("linear", dtype="float32"),
    ]
    return keras.Sequential([keras.Input((num_inputs,)), *hidden, *output], name=name)


def _floats(
    name: str, values: Any, event_shape: tuple[int, ...], batch_rank: int | None = None
) -> tf.Tensor:
    """Returns values as a tensor, or raises an SMVIError unless they are floats [..., *event_shape]."""
    values = tf.convert_to_tensor(values)
    if not values.dtype.is_floating:
        raise SMVIError(
            f"{name} has dtype {values.dtype.name}: give floats, such as grey levels of 0 to 255 divided by 255"
        )
    shape, rank = values.shape, len(event_shape)
    known = shape.rank is not None
    if known and (
        not shape[-rank:].is_compatible_with(event_shape)
        or batch_rank not in (None, shape.rank - rank)
    ):
        wanted = ", ".join(map(str, ("..." if batch_rank is None else "batch", *event_shape)))
        raise SMVIError(f"{name} has shape {tuple(shape)}: give [{wanted}], as the model has it")
    return values


class VAE:
    """p(z) = N(0, I), q(z|x) = N(mean(x), diag(stddev(x)^2)) and p(x|z) from LIKELIHOODS.

    Args:
        config: the architecture; its likelihood must be given.
        image_shape: shape of one x.
        seed: seed of the weights' initialization, any integer.

    Attributes:
        encoder: Keras model, x: float32 [batch, prod(image_shape)] -> [batch, 2 * latent_dim].
        decoder: Keras model, z: float32 [batch, latent_dim] -> [batch, prod(image_shape) *
            num_outputs].
    """

    def __init__(self, config: ModelConfig, image_shape: tuple[int, ...], seed: int = 0) -> None:
        """Builds the networks."""
        if config.likelihood is None:
            raise ValueError(f"config.likelihood is None; give one of {', '.join(LIKELIHOODS)}.")
        self.config = config
        self.image_shape = tuple(image_shape)
        self.likelihood = LIKELIHOODS[config.likelihood]
        size, sizes = math.prod(self.image_shape), config.hidden_sizes
        self.encoder = _network("encoder", size, config, sizes, 2 * config.latent_dim, seed)
        outputs = size * self.likelihood.num_outputs
        self.decoder = _network("decoder", config.latent_dim, config, sizes[::-1], outputs, seed)
        self.prior = _diagonal_gaussian(
            tf.zeros(config.latent_dim), tf.ones(config.latent_dim), "prior"
        )

    def copy(self) -> "VAE":
        """Returns a model of the same architecture and weights, with variables of its own."""
        twin = VAE(self.config, self.image_shape)
        for name, variable in twin.named_variables.items():
            variable.assign(self.named_variables[name])
        return twin

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        """The weights of both networks, as tf.Variables in a fixed order."""
        return list(self.named_variables.values())

    @property
    def named_variables(self) -> dict[str, tf.Variable]:
        """The weights by name, such as "encoder/hidden_0/kernel"."""
        networks = (self.encoder, self.decoder)
        return {v.path: v.value for network in networks for v in network.trainable_variables}

    def freeze_decoder(self) -> None:
        """Prepares for many gradients of log p(x|z) by z; the decoder's weights must not change any more.

        Graphs traced from now on give no gradient by its weights.
        """
        for layer in self.decoder.layers:
            if isinstance(layer, Dense):
                layer.transposed = tf.transpose(layer.kernel.value)

    def encode(self, x: tf.Tensor) -> tfd.Independent:
        """Returns q(z|x) = N(mean(x), diag(stddev(x)^2)).

        Args:
            x: float32 [batch, *image_shape]; intensities in [0, 1] unless the model is of
                real-valued data.

        Returns:
            A distribution of batch shape [batch] and event shape [latent_dim].

        Raises:
            SMVIError: x has another shape or dtype.
        """
        x = _floats("x", x, self.image_shape, batch_rank=1)
        mean, h = tf.split(
            self.encoder(tf.reshape(x, [-1, math.prod(self.image_shape)])), 2, axis=-1
        )
        return _diagonal_gaussian(mean, positive(h), "posterior")

    def decode(self, z: tf.Tensor) -> tfd.Distribution:
        """Returns p(x|z).

        Args:
            z: float32 [..., latent_dim].

        Returns:
            A distribution of batch shape [...] and event shape image_shape.

        Raises:
            SMVIError: z has another shape or dtype.
        """
        z = _floats("z", z, (self.config.latent_dim,))
        output = self.decoder(tf.reshape(z, [-1, self.config.latent_dim]))
        shape = tf.concat(
            [tf.shape(z)[:-1], self.image_shape, [self.likelihood.num_outputs]], axis=0
        )
        pixels = self.likelihood.distribution(tf.reshape(output, shape))
        return tfd.Independent(
            pixels, reinterpreted_batch_ndims=len(self.image_shape), name="likelihood"
        )

    def log_joint(self, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        """Returns log p(x, z) = log p(z) + log p(x|z), in nats.

        Args:
            x: float32 [batch, *image_shape].
            z: float32 [..., batch, latent_dim].

        Returns:
            float32 [..., batch].
        """
        return self.prior.log_prob(z) + self.decode(z).log_prob(x)
