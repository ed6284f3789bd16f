"""The deep latent variable model, whose parts are TFP distributions: the maths of the paper.

References:
    [1] D. Levy and S. Ermon. Trading-off Learning and Inference in Deep Latent Variable Models.
        Sections 4 and 5.
"""

import copy
import math

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.config import ModelConfig, Precision
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.models.keras_backend import keras
from tfp_smvi.models.layers import Dense, apply, fully_connected
from tfp_smvi.models.likelihoods import LIKELIHOODS, Observed, likelihood_of
from tfp_smvi.models.posteriors import POSTERIORS, diagonal_gaussian

__all__ = ["VAE"]


class VAE:
    """p(z) = N(0, I), q(z|x) from POSTERIORS and p(x|z) from LIKELIHOODS.

    Args:
        config: the architecture; its likelihood must be given.
        image_shape: shape of one x.
        seed: seed of the weights' initialization, any integer.

    Attributes:
        prior: p(z), event shape [latent_dim].
        encoder: Keras model, x: float32 [batch, prod(image_shape)] -> [batch, num_outputs of the
            posterior]; if x may have missing entries, they are 0, and which of them are observed
            follows: [batch, 2 * prod(image_shape)].
        decoder: Keras model, z: float32 [batch, latent_dim] -> [batch, prod(image_shape) *
            num_outputs of the likelihood].
    """

    def __init__(self, config: ModelConfig, image_shape: tuple[int, ...], seed: int = 0) -> None:
        """Builds the networks."""
        if config.likelihood is None:
            raise ValueError(f"config.likelihood is None; give one of {', '.join(LIKELIHOODS)}.")
        self._products: Precision = "float32"
        self.config = config
        self.image_shape = tuple(image_shape)
        self.posterior = POSTERIORS[config.posterior](config, seed)
        self.likelihood = likelihood_of(config)
        latent_dim, size, sizes = config.latent_dim, math.prod(image_shape), config.hidden_sizes
        self.prior = diagonal_gaussian(tf.zeros(latent_dim), tf.ones(latent_dim), "prior")
        inputs = 2 * size if config.missing else size
        self.encoder = fully_connected(
            "encoder", inputs, sizes, self.posterior.num_outputs, config.activation, seed
        )
        outputs = size * self.likelihood.num_outputs
        self.decoder = fully_connected(
            "decoder", latent_dim, sizes[::-1], outputs, config.activation, seed
        )

    def encode(self, x: tf.Tensor) -> tfd.Distribution:
        """Returns q(z|x), of the configuration's posterior.

        Args:
            x: float32 [batch, *image_shape], of the kind of values that the model is of; missing
                entries are NaN.

        Returns:
            A distribution of batch shape [batch] and event shape [latent_dim], which has a mean and
            a stddev.

        Raises:
            SMVIError: x has another shape or dtype.
        """
        x = _floats("x", x, self.image_shape, batch_rank=1)
        x = tf.reshape(self.likelihood.encoder_input(x), [-1, math.prod(self.image_shape)])
        if self.config.missing:
            missing = tf.math.is_nan(x)
            x = tf.concat([tf.where(missing, 0.0, x), 1.0 - tf.cast(missing, x.dtype)], axis=-1)
        output = apply(self.encoder, x, self._products)
        return self.posterior.distribution(output, self._products)

    def decode(self, z: tf.Tensor) -> tfd.Distribution:
        """Returns p(x|z), whose log density is that of the observed entries of x.

        Args:
            z: float32 [..., latent_dim].

        Returns:
            A distribution of batch shape [...] and event shape image_shape.

        Raises:
            SMVIError: z has another shape or dtype.
        """
        z = _floats("z", z, (self.config.latent_dim,))
        latent = tf.reshape(z, [-1, self.config.latent_dim])
        output = apply(self.decoder, latent, self._products)
        shape = tf.concat(
            [tf.shape(z)[:-1], self.image_shape, [self.likelihood.num_outputs]], axis=0
        )
        pixels = self.likelihood.distribution(tf.reshape(output, shape))
        joint = Observed if self.config.missing else tfd.Independent
        return joint(pixels, reinterpreted_batch_ndims=len(self.image_shape), name="likelihood")

    def log_joint(self, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        """Returns log p(x, z) = log p(z) + log p(x|z), in nats.

        Args:
            x: float32 [batch, *image_shape].
            z: float32 [..., batch, latent_dim].

        Returns:
            float32 [..., batch].

        Raises:
            SMVIError: x or z has another shape or dtype.
        """
        x = _floats("x", x, self.image_shape)
        return self.prior.log_prob(z) + self.decode(z).log_prob(x)

    def copy(self) -> "VAE":
        """Returns a model of the same architecture and weights, with separate variables."""
        twin = VAE(self.config, self.image_shape)
        for name, variable in twin.named_variables.items():
            variable.assign(self.named_variables[name])
        return twin

    def with_products(self, precision: Precision) -> "VAE":
        """Returns a model with the same variables whose matrix products are in a precision.

        All else is float32: weights, biases, activations, densities and their sums.
        """
        view = copy.copy(self)
        view._products = precision
        return view

    @property
    def networks(self) -> tuple[keras.Sequential, ...]:
        """The encoder, the decoder, and those of the posterior."""
        return (self.encoder, self.decoder, *self.posterior.networks)

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        """The weights of all networks, as tf.Variables in a fixed order."""
        return list(self.named_variables.values())

    @property
    def named_variables(self) -> dict[str, tf.Variable]:
        """The weights by name, such as "encoder/hidden_0/kernel"."""
        # Their paths would begin with the name scope that the model was built in.
        return {
            f"{network.name}/{layer.name}/{variable.name}": variable.value
            for network in self.networks
            for layer in network.layers
            for variable in layer.trainable_variables
        }

    def freeze_decoder(self) -> None:
        """Speeds up gradients of log p(x|z) with respect to z; the decoder must not change then.

        Graphs traced from now on give no gradient with respect to the decoder's weights.
        """
        for layer in self.decoder.layers:
            if isinstance(layer, Dense):
                layer.transposed = tf.transpose(layer.kernel.value)


def _floats(
    name: str, values: tf.Tensor, event_shape: tuple[int, ...], batch_rank: int | None = None
) -> tf.Tensor:
    """Returns floats [..., *event_shape] as a tensor; raises an SMVIError for any other values."""
    values = tf.convert_to_tensor(values)
    if not values.dtype.is_floating:
        raise SMVIError(
            f"has dtype {values.dtype.name}",
            field=name,
            remedy="give floats, such as grey levels of 0 to 255 divided by 255",
        )
    shape, rank = values.shape, len(event_shape)
    known = shape.rank is not None
    if known and (
        not shape[-rank:].is_compatible_with(event_shape)
        or batch_rank not in (None, shape.rank - rank)
    ):
        wanted = ", ".join(map(str, ("..." if batch_rank is None else "batch", *event_shape)))
        raise SMVIError(
            f"has shape {tuple(shape)}", field=name, remedy=f"give [{wanted}], the model's shape"
        )
    return values
