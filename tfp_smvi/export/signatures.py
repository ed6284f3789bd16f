"""The signatures of an export: TensorFlow functions that refuse inputs they cannot take.

References:
    [1] https://www.tensorflow.org/guide/saved_model#specifying_signatures_during_export
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import tensorflow as tf

from tfp_smvi.config import ExportPrecision, Kind, ModelConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.runtime import numerics_unchecked
from tfp_smvi.export.card import SignatureSpec, TensorSpec
from tfp_smvi.export.encoded_images import decode_images, require
from tfp_smvi.models.vae import VAE

__all__ = [
    "Encodes",
    "Moments",
    "Part",
    "decoder_part",
    "describe_signatures",
    "describe_values",
    "encoder_part",
    "parameters_of",
]

# A tf.types.experimental.ConcreteFunction; TensorFlow has no types for the checker.
Function: TypeAlias = Any


class Encodes(Protocol):
    """What an encoder's signatures need of a model.

    Attributes:
        image_shape: the shape of one x.
        config: the settings of its run, of which the likelihood, the number of categories and
            missing values say what x may be.
    """

    image_shape: tuple[int, ...]
    config: ModelConfig

    @property
    def named_variables(self) -> Mapping[str, tf.Variable]:
        """All variables by name."""

    def encode(self, x: tf.Tensor) -> Any:
        """Returns q(z|x), with mean and stddev."""


class Moments(NamedTuple):
    """A q(z|x) of which mean and stddev are known."""

    means: tf.Tensor
    stddevs: tf.Tensor

    def mean(self) -> tf.Tensor:
        """Returns the mean: [batch, latent_dim]."""
        return self.means

    def stddev(self) -> tf.Tensor:
        """Returns the standard deviation: [batch, latent_dim]."""
        return self.stddevs


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


def encoder_part(model: Encodes, kind: Kind, precision: ExportPrecision = "float32") -> Part:
    """Makes the signatures of q(z|x), each with the outputs mean and stddev.

        serving_default  images: float32 [batch, *image_shape], of the kind; NaN is a missing entry
                         if the model allows it
        uint8            images: uint8 [batch, *image_shape], grey levels; only for intensities
        encoded_image    image_bytes: string [batch], PNG or JPEG; only if there is uint8 and images
                         have 1 or 3 channels

    mean and stddev are float32 [batch, latent_dim].

    Args:
        model: the model, in float32.
        kind: what the values of x are.
        precision: of the matrix products; "bfloat16" is for a network of `Dense` layers.

    Raises:
        SMVIError: q(z|x) depends on a variable that has no name.
    """
    model = _with_stock_gradients(model, precision)
    shape = model.image_shape
    batch_shape = (None, *shape)

    def encode(x: tf.Tensor) -> dict[str, tf.Tensor]:
        posterior = model.encode(x)
        return {"mean": posterior.mean(), "stddev": posterior.stddev()}

    def from_values(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return encode(_require_values(tf.ensure_shape(images, batch_shape), model.config, kind))

    def from_uint8(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return encode(tf.cast(tf.ensure_shape(images, batch_shape), tf.float32) / 255.0)

    def from_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        height, width, channels = shape
        image_bytes = tf.ensure_shape(image_bytes, [None])
        return from_uint8(decode_images(image_bytes, (height, width, channels)))

    functions = {"serving_default": _concrete(from_values, "images", batch_shape, tf.float32)}
    left_out = {}
    if kind != "intensities":
        values = "counts" if kind == "counts" else "any real numbers"
        reason = f"it takes intensities, and the data are {values}"
        left_out = dict.fromkeys(("uint8", "encoded_image"), reason)
    else:
        functions["uint8"] = _concrete(from_uint8, "images", batch_shape, tf.uint8)
        if len(shape) == 3 and shape[-1] in (1, 3):
            functions["encoded_image"] = _concrete(from_bytes, "image_bytes", [None], tf.string)
        else:
            left_out["encoded_image"] = f"no PNG or JPEG image has the shape {list(shape)}"
    return Part(_variables(model, functions), functions, left_out)


def decoder_part(model: VAE) -> Part:
    """Makes the signature of p(x|z), from latent: float32 [batch, latent_dim].

    The outputs are the parameters of the likelihood, float32 [batch, *image_shape]:

        bernoulli          probabilities
        gaussian           mean, stddev
        poisson            rate
        negative_binomial  mean, dispersion; the variance is mean + mean^2 / dispersion
        categorical        probabilities, [batch, *image_shape, num_categories]
    """
    model = _with_stock_gradients(model)
    latent_shape = (None, model.config.latent_dim)

    def decode(latent: tf.Tensor) -> Mapping[str, tf.Tensor]:
        return parameters_of(
            model, _require_finite(tf.ensure_shape(latent, latent_shape), "latent")
        )

    functions = {"serving_default": _concrete(decode, "latent", latent_shape, tf.float32)}
    return Part(_variables(model, functions), functions, {})


def _with_stock_gradients(model: Any, precision: ExportPrecision = "float32") -> Any:
    """The model with TensorFlow's own gradients, which a SavedModel can hold, if it has others."""
    products = "plain bfloat16" if precision == "bfloat16" else None
    return model.with_products(products) if hasattr(model, "with_products") else model


def parameters_of(model: VAE, z: tf.Tensor) -> Mapping[str, tf.Tensor]:
    """Returns the parameters of p(x|z) by name, as the decoder's signature does."""
    return model.likelihood.parameters(model.decode(z).distribution)


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


def _variables(model: Encodes, functions: Mapping[str, Function]) -> list[tf.Variable]:
    """The variables that functions of a model depend on."""
    captured = {
        id(tensor): tensor
        for function in functions.values()
        for tensor in function.captured_inputs
        if tensor.dtype == tf.resource
    }
    variables = [v for v in model.named_variables.values() if id(v.handle) in captured]
    if len(variables) < len(captured):
        raise SMVIError(
            "the model depends on a variable or a table that named_variables lacks",
            remedy="add it there, so that checkpoints and exports hold it",
        )
    return variables


def _concrete(
    function: Callable[..., Mapping[str, tf.Tensor]],
    argument: str,
    shape: Sequence[int | None],
    dtype: tf.DType,
) -> Function:
    with numerics_unchecked():  # an export has no operations of a debugger
        return tf.function(function, autograph=False).get_concrete_function(
            **{argument: tf.TensorSpec(shape, dtype, name=argument)}
        )


def describe_values(config: ModelConfig, kind: Kind) -> str:
    """Describes in words the values that x may have."""
    values = {
        "intensities": "intensities in [0, 1]",
        "real": "finite numbers",
        "counts": "counts, whole numbers of at least 0",
    }[kind]
    if config.likelihood == "categorical" and config.num_categories is not None:
        values = f"categories, whole numbers from 0 to {config.num_categories - 1}"
    return f"{values}, or NaN if missing" if config.missing else f"{values}, without NaN"


def _require_values(x: tf.Tensor, config: ModelConfig, kind: Kind) -> tf.Tensor:
    """Returns x, or fails if a value is not of the kind, or is missing and must not be."""
    fits = tf.math.is_finite(x)  # NaN is nothing of what follows
    if kind == "intensities":
        fits = (x >= 0.0) & (x <= 1.0)
    elif kind == "counts":
        fits &= (x >= 0.0) & tf.equal(tf.floor(x), x)
    if config.likelihood == "categorical" and config.num_categories is not None:
        fits &= x < float(config.num_categories)
    if config.missing:
        fits |= tf.math.is_nan(x)
    wrong = tf.boolean_mask(x, ~fits)
    message = f"x must be {describe_values(config, kind)}; others are, of those given:"
    return require(x, tf.reduce_all(fits), message, tf.size(wrong), "such as", wrong[:1])


def _require_finite(values: tf.Tensor, name: str) -> tf.Tensor:
    message = f"{name} must be finite numbers; NaN or infinite are, of those given:"
    finite = tf.math.is_finite(values)
    return require(
        values, tf.reduce_all(finite), message, tf.reduce_sum(tf.cast(~finite, tf.int32))
    )
