"""The signatures of an export: TensorFlow functions that refuse inputs they cannot take.

References:
    [1] https://www.tensorflow.org/guide/saved_model#specifying_signatures_during_export
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from tfp_smvi.core.runtime import numerics_unchecked
from tfp_smvi.export.card import SignatureSpec, TensorSpec
from tfp_smvi.export.encoded_images import decode_images, require
from tfp_smvi.models.vae import VAE

__all__ = ["Part", "decoder_part", "describe_signatures", "encoder_part"]

# A tf.types.experimental.ConcreteFunction; TensorFlow has no types for the checker.
Function: TypeAlias = Any


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
        height, width, channels = shape
        image_bytes = tf.ensure_shape(image_bytes, [None])
        return from_uint8(decode_images(image_bytes, (height, width, channels)))

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
    return Part(_variables(model, decoder=False), functions, left_out)


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
    return Part(_variables(model, decoder=True), functions, {})


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


def _variables(model: VAE, *, decoder: bool) -> list[tf.Variable]:
    """The weights of p(x|z), or those of q(z|x)."""
    weights = model.named_variables.items()
    return [v for name, v in weights if name.startswith("decoder/") == decoder]


def _concrete(
    function: Callable[..., dict[str, tf.Tensor]],
    argument: str,
    shape: Sequence[int | None],
    dtype: tf.DType,
) -> Function:
    with numerics_unchecked():  # an export has no operations of a debugger
        return tf.function(function, autograph=False).get_concrete_function(
            **{argument: tf.TensorSpec(shape, dtype, name=argument)}
        )


def _require_intensities(images: tf.Tensor) -> tf.Tensor:
    message = (
        "images must be intensities in [0, 1], without NaN; the smallest and the largest given are:"
    )
    inside = tf.reduce_all((images >= 0.0) & (images <= 1.0))  # NaN is neither
    return require(images, inside, message, tf.reduce_min(images), tf.reduce_max(images))


def _require_finite(values: tf.Tensor, name: str) -> tf.Tensor:
    message = f"{name} must be finite numbers; NaN or infinite are, of those given:"
    finite = tf.math.is_finite(values)
    return require(
        values, tf.reduce_all(finite), message, tf.reduce_sum(tf.cast(~finite, tf.int32))
    )
