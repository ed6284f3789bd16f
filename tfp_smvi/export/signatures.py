"""The signatures of an export: TensorFlow functions that refuse inputs they cannot take.

References:
    [1] https://www.tensorflow.org/guide/saved_model#specifying_signatures_during_export
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from tfp_smvi.export.card import SignatureSpec, TensorSpec
from tfp_smvi.models.vae import VAE

__all__ = ["Part", "decoder_part", "describe_signatures", "encoder_part"]

# A tf.types.experimental.ConcreteFunction; TensorFlow has no types for the checker.
Function: TypeAlias = Any

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


class Part(NamedTuple):
    """The encoder or the decoder of a model, ready to be saved.

    Attributes:
        variables: its weights.
        signatures: its concrete functions by name.
        left_out: why a signature of other models is missing here, by its name.
    """

    variables: list[tf.Variable]
    signatures: dict[str, Function]
    left_out: dict[str, str]


def encoder_part(model: VAE, *, real_valued: bool) -> Part:
    """Makes the signatures of q(z|x), each with the outputs mean and stddev.

        serving_default  images: float32 [batch, *image_shape], finite; in [0, 1] unless real_valued
        uint8            images: uint8 [batch, *image_shape], grey levels; not if real_valued
        encoded_image    image_bytes: string [batch], PNG or JPEG; only if there is uint8 and images
                         have 1 or 3 channels

    mean and stddev are float32 [batch, latent_dim].

    Args:
        model: the model, in float32.
        real_valued: whether the values of x are any real numbers rather than intensities in [0, 1].
    """
    shape = model.image_shape
    batch_shape = (None, *shape)

    def encode(x: tf.Tensor) -> dict[str, tf.Tensor]:
        posterior = model.encode(x)
        return {"mean": posterior.mean(), "stddev": posterior.stddev()}

    def from_values(images: tf.Tensor) -> dict[str, tf.Tensor]:
        images = tf.ensure_shape(images, batch_shape)
        return encode(
            _require_finite(images, "images") if real_valued else _require_intensities(images)
        )

    def from_uint8(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return encode(tf.cast(tf.ensure_shape(images, batch_shape), tf.float32) / 255.0)

    def from_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        image_bytes, pixels = tf.ensure_shape(image_bytes, [None]), tf.TensorSpec(shape, tf.uint8)
        decode_image = functools.partial(_decode_image, shape=shape)
        return from_uint8(tf.map_fn(decode_image, image_bytes, fn_output_signature=pixels))

    functions = {"serving_default": _concrete(from_values, "images", batch_shape, tf.float32)}
    left_out = {}
    if real_valued:
        left_out = dict.fromkeys(
            ("uint8", "encoded_image"), "cannot tell whether the data are intensities in [0, 1]"
        )
    else:
        functions["uint8"] = _concrete(from_uint8, "images", batch_shape, tf.uint8)
        if len(shape) == 3 and shape[-1] in (1, 3):
            functions["encoded_image"] = _concrete(from_bytes, "image_bytes", [None], tf.string)
        else:
            left_out["encoded_image"] = f"no PNG or JPEG image has the shape {list(shape)}"
    return Part(_variables(model, "encoder"), functions, left_out)


def decoder_part(model: VAE) -> Part:
    """Makes the signature of p(x|z), from latent: float32 [batch, latent_dim].

    The outputs are float32 [batch, *image_shape]: probabilities for a Bernoulli likelihood,
    mean and stddev for a Gaussian one.
    """
    latent_shape = (None, model.config.latent_dim)

    def decode(latent: tf.Tensor) -> dict[str, tf.Tensor]:
        likelihood = model.decode(_require_finite(tf.ensure_shape(latent, latent_shape), "latent"))
        if model.config.likelihood == "bernoulli":
            return {"probabilities": likelihood.mean()}
        return {"mean": likelihood.mean(), "stddev": likelihood.stddev()}

    functions = {"serving_default": _concrete(decode, "latent", latent_shape, tf.float32)}
    return Part(_variables(model, "decoder"), functions, {})


def describe_signatures(signatures: Mapping[str, Function]) -> dict[str, SignatureSpec]:
    """Describes the inputs and outputs of concrete functions, by the functions' names."""

    def describe(spec: tf.TensorSpec) -> TensorSpec:
        return TensorSpec(spec.dtype.name, tuple(spec.shape.as_list()))

    return {
        name: SignatureSpec(
            inputs={
                spec.name: describe(spec)
                for spec in tf.nest.flatten(function.structured_input_signature)
            },
            outputs={key: describe(spec) for key, spec in function.structured_outputs.items()},
        )
        for name, function in signatures.items()
    }


def _variables(model: VAE, network: str) -> list[tf.Variable]:
    return [v for name, v in model.named_variables.items() if name.startswith(f"{network}/")]


def _concrete(
    function: Callable[..., dict[str, tf.Tensor]],
    argument: str,
    shape: Sequence[int | None],
    dtype: tf.DType,
) -> Function:
    return tf.function(function, autograph=False).get_concrete_function(
        **{argument: tf.TensorSpec(shape, dtype, name=argument)}
    )


def _require(value: tf.Tensor, condition: tf.Tensor, message: str, *data: tf.Tensor) -> tf.Tensor:
    """Returns the value, or fails with the message and the data if the condition is false."""
    with tf.control_dependencies([tf.debugging.Assert(condition, [message, *data])]):
        return tf.identity(value)


def _require_intensities(images: tf.Tensor) -> tf.Tensor:
    message = (
        "images must be intensities in [0, 1], without NaN; the smallest and the largest given are:"
    )
    inside = tf.reduce_all((images >= 0.0) & (images <= 1.0))  # NaN is neither
    return _require(images, inside, message, tf.reduce_min(images), tf.reduce_max(images))


def _require_finite(values: tf.Tensor, name: str) -> tf.Tensor:
    message = f"{name} must be finite numbers; NaN or infinite are, of those given:"
    finite = tf.math.is_finite(values)
    return _require(
        values, tf.reduce_all(finite), message, tf.reduce_sum(tf.cast(~finite, tf.int32))
    )


def _decode_image(image_bytes: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """Decodes one PNG or JPEG to uint8 [height, width, channels], from grey or colours.

    The size is read from the header first, because a small file may hold an image that is larger
    than the memory.
    """
    height, width, channels = shape
    # The part of a PNG that ends with the size has 24 bytes.
    is_png = (tf.strings.substr(image_bytes, 0, 8) == _PNG) & (tf.strings.length(image_bytes) >= 24)
    is_jpeg = tf.strings.substr(image_bytes, 0, 3) == _JPEG
    message = "image_bytes must hold a PNG or a JPEG image; the number of bytes given is:"
    image_bytes = _require(image_bytes, is_png | is_jpeg, message, tf.strings.length(image_bytes))
    size = tf.cond(
        is_png,
        lambda: tf.io.decode_raw(
            tf.strings.substr(image_bytes, 16, 8), tf.int32, little_endian=False
        )[::-1],
        lambda: tf.io.extract_jpeg_shape(image_bytes)[:2],
    )
    message = f"images must be {height} pixels high and {width} wide; height and width given are:"
    image_bytes = _require(image_bytes, tf.reduce_all(size == [height, width]), message, size)
    return tf.ensure_shape(
        tf.io.decode_png(image_bytes, channels=channels), shape
    )  # decodes JPEG, too
