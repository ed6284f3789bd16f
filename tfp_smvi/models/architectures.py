"""The architectures: stock pairs of an encoder and a decoder, as Keras networks.

To add one: a function from the shapes, the configuration and the seed to `Networks`, a line in
ARCHITECTURES, and its name in `tfp_smvi.config.ArchitectureName`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from tfp_smvi.config import ArchitectureName, ModelConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.models.keras_backend import keras
from tfp_smvi.models.layers import Dense, float32_network, fully_connected, initialization_seed
from tfp_smvi.models.likelihoods import likelihood_of
from tfp_smvi.models.posteriors import POSTERIORS, Posterior

__all__ = [
    "ARCHITECTURES",
    "NetworkShapes",
    "Networks",
    "input_shape_of",
    "network_shapes",
    "require_images",
    "shapes_of",
]

# conv halves an image until its sides are at most this, and at least twice.
LARGEST_MAP = 8
MIN_HALVINGS = 2
KERNEL_SIZE = 3
# The first layer has fewer channels: its maps are the largest.
FIRST_CHANNELS, CHANNELS = 32, 64


class NetworkShapes(NamedTuple):
    """What the networks of a model take and return.

    Attributes:
        image_shape: the shape of one x.
        input_shape: the shape of what the encoder sees of one x.
        latent_dim: the inputs of the decoder.
        encoder_outputs: the outputs of the encoder: the parameters of q(z|x).
        decoder_outputs: the outputs of the decoder for each entry of x: the parameters of p(x|z).
    """

    image_shape: tuple[int, ...]
    input_shape: tuple[int, ...]
    latent_dim: int
    encoder_outputs: int
    decoder_outputs: int

    @property
    def decoder_size(self) -> int:
        """All outputs of the decoder."""
        return math.prod(self.image_shape) * self.decoder_outputs


class Networks(NamedTuple):
    """The networks of a model.

    Attributes:
        encoder: x: float32 [batch, *input_shape], or flat -> [batch, encoder_outputs].
        decoder: z: float32 [batch, latent_dim] -> [batch, *image_shape, decoder_outputs], or flat.
    """

    encoder: keras.Model
    decoder: keras.Model


def network_shapes(image_shape: tuple[int, ...], config: ModelConfig) -> NetworkShapes:
    """Returns what the networks of a model take and return, for a function of your own.

    Args:
        image_shape: the shape of one x.
        config: the model's settings, complete.
    """
    return shapes_of(image_shape, config, POSTERIORS[config.posterior](config, 0))


def shapes_of(
    image_shape: tuple[int, ...], config: ModelConfig, posterior: Posterior
) -> NetworkShapes:
    """Returns the same for a posterior that is there already."""
    assert config.likelihood is not None
    per_entry = likelihood_of(config).num_outputs
    shape = seen = tuple(image_shape)
    if config.missing:  # x, and which of its entries are observed
        seen = (*shape, 2) if len(shape) == 2 else (*shape[:-1], 2 * shape[-1])
    return NetworkShapes(shape, seen, config.latent_dim, posterior.num_outputs, per_entry)


def input_shape_of(network: keras.Model, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape that a network takes one input in, which may be flat.

    Args:
        network: the network.
        shape: the shape of one input.
    """
    declared = getattr(network, "input_shape", None)  # a subclass of keras.Model declares none
    if isinstance(declared, tuple) and None not in declared[1:]:
        taken = tuple(declared[1:])
        return taken if math.prod(taken) == math.prod(shape) else shape
    return shape


def _dense(shapes: NetworkShapes, config: ModelConfig, seed: int) -> Networks:
    """Fully connected networks [Levy & Ermon, section 5]; the decoder mirrors the encoder."""
    sizes, size = config.hidden_sizes, math.prod(shapes.input_shape)
    assert sizes is not None
    outputs = (shapes.encoder_outputs, shapes.decoder_size)
    return Networks(
        fully_connected("encoder", size, sizes, outputs[0], config.hidden_activation, seed),
        fully_connected(
            "decoder", shapes.latent_dim, sizes[::-1], outputs[1], config.hidden_activation, seed
        ),
    )


def _conv(shapes: NetworkShapes, config: ModelConfig, seed: int) -> Networks:
    """Convolutions of stride 2, then fully connected layers; the decoder mirrors the encoder.

    Raises:
        SMVIError: one x is no image.
    """
    require_images(shapes.image_shape)
    sides = [shapes.image_shape[:2]]  # of the maps, from the image down
    while max(sides[-1]) > LARGEST_MAP or len(sides) <= MIN_HALVINGS:
        sides.append(tuple(-(-side // 2) for side in sides[-1]))
    channels = [FIRST_CHANNELS, *[CHANNELS] * (len(sides) - 2)]
    return Networks(
        _conv_encoder(shapes, config, seed, channels),
        _conv_decoder(shapes, config, seed, channels, sides),
    )


def _conv_encoder(
    shapes: NetworkShapes, config: ModelConfig, seed: int, channels: list[int]
) -> keras.Sequential:
    layers = _Layers("encoder", config.hidden_activation, seed)
    assert config.hidden_sizes is not None
    # An image without an axis of channels has one.
    image = (*shapes.input_shape, 1)[:3]
    return layers.network(
        image,
        [
            *(layers.convolution(number, i) for i, number in enumerate(channels)),
            keras.layers.Flatten(dtype="float32"),
            *(layers.dense(size, f"hidden_{i}") for i, size in enumerate(config.hidden_sizes)),
            layers.dense(shapes.encoder_outputs, "output", activation=None),
        ],
    )


def _conv_decoder(
    shapes: NetworkShapes,
    config: ModelConfig,
    seed: int,
    channels: list[int],
    sides: list[tuple[int, ...]],
) -> keras.Sequential:
    layers, smallest = (
        _Layers("decoder", config.hidden_activation, seed),
        (*sides[-1], channels[-1]),
    )
    sizes = (*reversed(config.hidden_sizes or ()), math.prod(smallest))
    steps = [
        *(layers.dense(size, f"hidden_{i}") for i, size in enumerate(sizes)),
        keras.layers.Reshape(smallest, dtype="float32"),
    ]
    outputs = math.prod(shapes.image_shape[2:]) * shapes.decoder_outputs
    numbers = [*reversed(channels[:-1]), outputs]
    for i, (number, side, larger) in enumerate(
        zip(numbers, sides[:0:-1], sides[-2::-1], strict=True)
    ):
        steps.append(layers.transposed_convolution(number, i, last=i == len(numbers) - 1))
        cropping = tuple((0, 2 * small - large) for small, large in zip(side, larger, strict=True))
        steps.append(keras.layers.Cropping2D(cropping, dtype="float32"))
    return layers.network((shapes.latent_dim,), steps)


class _Layers:
    """Makes the layers of one network, in float32 and with weights from the seed."""

    def __init__(self, network: str, activation: str, seed: int) -> None:
        self._network, self._activation, self._seed = network, activation, seed

    def network(self, input_shape: tuple[int, ...], layers: list[keras.Layer]) -> keras.Sequential:
        return float32_network(self._network, input_shape, layers)

    def dense(self, units: int, name: str, activation: str | None = "") -> Dense:
        activation = self._activation if activation == "" else activation
        return Dense(units, activation, **self._options(name))

    def convolution(self, channels: int, number: int) -> keras.Layer:
        options = self._strided(f"convolution_{number}", 2.0, "fan_in")
        return keras.layers.Conv2D(channels, activation=self._activation, **options)

    def transposed_convolution(self, channels: int, number: int, *, last: bool) -> keras.Layer:
        activation = None if last else self._activation
        # Keras counts inputs as outputs here; a pixel of the output sees a quarter of them.
        options = self._strided(f"convolution_{number}", 4.0, "fan_out")
        return keras.layers.Conv2DTranspose(channels, activation=activation, **options)

    def _strided(self, name: str, scale: float, mode: str) -> dict[str, object]:
        """Options of a layer whose weights have the variance scale / number of inputs.

        Glorot's is far smaller, since few channels become many: on MNIST the posterior then was
        equal to the prior for the first five epochs.
        """
        shape = {"kernel_size": KERNEL_SIZE, "strides": 2, "padding": "same"}
        key = self._key(name)
        initializer = keras.initializers.VarianceScaling(scale, mode, "uniform", seed=key)
        return {**shape, **self._options(name), "kernel_initializer": initializer}

    def _options(self, name: str) -> dict[str, object]:
        initializer = keras.initializers.GlorotUniform(self._key(name))
        return {"kernel_initializer": initializer, "name": name, "dtype": "float32"}

    def _key(self, name: str) -> int:
        return initialization_seed(self._seed, self._network, name)


def require_images(shape: tuple[int, ...]) -> None:
    """Raises SMVIError unless conv can take x of a shape: [height, width] or with channels."""
    if len(shape) not in (2, 3):
        raise SMVIError(
            f"needs images [height, width] or [height, width, channels], and one x has the shape "
            f"{list(shape)}",
            field="architecture",
            value="conv",
            remedy="give dense",
        )


ARCHITECTURES: dict[ArchitectureName, Callable[[NetworkShapes, ModelConfig, int], Networks]] = {
    "dense": _dense,
    "conv": _conv,
}
