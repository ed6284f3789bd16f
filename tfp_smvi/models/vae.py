"""The deep latent variable model, whose parts are TFP distributions: the maths of the paper.

References:
    [1] D. Levy and S. Ermon. Trading-off Learning and Inference in Deep Latent Variable Models.
        Sections 4 and 5.
"""

import copy
import math

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.config import ModelConfig, NetworkName
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.models.architectures import ARCHITECTURES, input_shape_of, shapes_of
from tfp_smvi.models.imports import UserFunction, import_function
from tfp_smvi.models.keras_backend import keras
from tfp_smvi.models.layers import Dense, apply
from tfp_smvi.models.likelihoods import LIKELIHOODS, Observed, likelihood_of
from tfp_smvi.models.own import own_networks
from tfp_smvi.models.posteriors import POSTERIORS, diagonal_gaussian
from tfp_smvi.models.products import Products

__all__ = ["VAE"]


class VAE:
    """p(z) = N(0, I), q(z|x) from POSTERIORS and p(x|z) from LIKELIHOODS.

    Args:
        config: the settings; the likelihood must be given.
        image_shape: shape of one x.
        seed: seed of the weights' initialization, any integer.
        function: the function that makes the networks, if `config.model` names one; None imports
            it.

    Attributes:
        prior: p(z), event shape [latent_dim].
        encoder: Keras model, x: float32 [batch, ...] -> [batch, num_outputs of the posterior]; if x
            may have missing entries, they are 0, and which of them are observed follows on the last
            axis.
        decoder: Keras model, z: float32 [batch, latent_dim] -> [batch, ...], num_outputs of the
            likelihood for each entry of x, which are the last axis.
        frozen: the network whose weights are not trained; None for neither. The networks of the
            posterior belong to the encoder.

    Raises:
        SMVIError: the architecture cannot take such x, or the function is not usable.
    """

    def __init__(
        self,
        config: ModelConfig,
        image_shape: tuple[int, ...],
        seed: int = 0,
        function: UserFunction | None = None,
    ) -> None:
        """Builds the networks."""
        if config.likelihood is None:
            raise ValueError(f"config.likelihood is None; give one of {', '.join(LIKELIHOODS)}.")
        if config.model is not None and function is None:
            function = import_function(config.model)
        self._products: Products = "float32"
        self.config = config
        self.image_shape = tuple(image_shape)
        self.frozen: NetworkName | None = None
        self.posterior = POSTERIORS[config.posterior](config, seed)
        self.likelihood = likelihood_of(config)
        latent_dim = config.latent_dim
        self.prior = diagonal_gaussian(tf.zeros(latent_dim), tf.ones(latent_dim), "prior")
        shapes = shapes_of(self.image_shape, config, self.posterior)
        self._function = function
        if function is None:
            assert config.architecture is not None
            networks = ARCHITECTURES[config.architecture](shapes, config, seed)
        else:
            networks = own_networks(function, shapes, config, seed)
        self.encoder, self.decoder = networks
        self._input_shape = input_shape_of(self.encoder, shapes.input_shape)

    def __repr__(self) -> str:
        """Such as "VAE(x: (28, 28, 1), bernoulli; z: 50, diagonal; 3846768 weights)"."""
        count = sum(math.prod(variable.shape) for variable in self.named_variables.values())
        config = self.config
        return (
            f"VAE(x: {self.image_shape}, {config.likelihood}; z: {config.latent_dim}, "
            f"{config.posterior}; {count} weights)"
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
        x = self.likelihood.encoder_input(x)
        if self.config.missing:
            missing = tf.math.is_nan(x)
            parts = [tf.where(missing, 0.0, x), 1.0 - tf.cast(missing, x.dtype)]
            # An image without an axis of channels gets one.
            x = tf.stack(parts, -1) if len(self.image_shape) == 2 else tf.concat(parts, -1)
        x = tf.reshape(x, [-1, *self._input_shape])
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
        """Returns a model of the same architecture and weights, with separate variables.

        Raises:
            SMVIError: a user's function gives the same networks at every call.
        """
        twin = VAE(self.config, self.image_shape, function=self._function)
        twin.frozen = self.frozen
        if twin.encoder is self.encoder or twin.decoder is self.decoder:
            raise SMVIError(
                "returns the same networks at every call",
                field="model",
                value=self.config.model,
                remedy="make them in the function, so that each call returns new ones",
            )
        twin.assign(self)
        return twin

    def assign(self, other: "VAE") -> None:
        """Takes the weights of a model of the same architecture, also for a frozen decoder."""
        weights = other.named_variables
        for name, variable in self.named_variables.items():
            variable.assign(weights[name])
        for layer in self.decoder.layers:
            if isinstance(layer, Dense):
                layer.freeze_again()

    def with_products(self, precision: Products) -> "VAE":
        """Returns a model with the same variables whose matrix products are in a precision.

        All else is float32: weights, biases, activations, densities and their sums. TensorFloat-32
        is a mode of the device: see `tfp_smvi.core.runtime.tf32_products`. None and "plain
        bfloat16" are for an export, as in `tfp_smvi.models.layers.apply`.
        """
        view = copy.copy(self)
        view._products = "float32" if precision == "tf32" else precision
        return view

    @property
    def networks(self) -> dict[str, keras.Model]:
        """The encoder, the decoder, and those of the posterior, by name."""
        others = {network.name: network for network in self.posterior.networks}
        return {"encoder": self.encoder, "decoder": self.decoder, **others}

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        """The weights that are trained, as tf.Variables in a fixed order."""
        return [
            variable.value
            for network, variables in self._variables().items()
            if (network == "decoder") != (self.frozen == "decoder") or self.frozen is None
            for variable in variables.values()
            if variable.trainable
        ]

    @property
    def named_variables(self) -> dict[str, tf.Variable]:
        """All weights by name, such as "encoder/hidden_0/kernel"."""
        return {
            f"{network}/{name}": variable.value
            for network, variables in self._variables().items()
            for name, variable in variables.items()
        }

    def _variables(self) -> dict[str, dict[str, keras.Variable]]:
        """The variables of each network by name."""
        # Their paths would begin with the name scope that the model was built in, and Keras numbers
        # the layers without a name through the whole process.
        own = () if self._function is None else ("encoder", "decoder")
        return {
            name: {f"{i:03d}/{v.name}": v for i, v in enumerate(network.variables)}
            if name in own
            else {f"{layer.name}/{v.name}": v for layer in network.layers for v in layer.variables}
            for name, network in self.networks.items()
        }

    def freeze_decoder(self) -> None:
        """Speeds up gradients of log p(x|z) with respect to z; only `assign` may change it then.

        Graphs traced from now on give no gradient with respect to the decoder's weights. With the
        products of another precision, it is to be called for those, too.
        """
        products = "bfloat16" if self._products == "plain bfloat16" else self._products
        for layer in self.decoder.layers:
            if isinstance(layer, Dense):
                layer.freeze(products or "float32")


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
    has_rank = shape.rank is not None
    if has_rank and (
        not shape[-rank:].is_compatible_with(event_shape)
        or batch_rank not in (None, shape.rank - rank)
    ):
        wanted = ", ".join(map(str, ("..." if batch_rank is None else "batch", *event_shape)))
        raise SMVIError(
            f"has shape {tuple(shape)}", field=name, remedy=f"give [{wanted}], the model's shape"
        )
    return values
