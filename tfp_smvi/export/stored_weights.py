"""A model whose weights are stored in float16: half of the bytes, and all else in float32."""

import copy
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.export.signatures import Moments
from tfp_smvi.models.keras_backend import keras
from tfp_smvi.models.products import Products
from tfp_smvi.models.vae import VAE

__all__ = ["HalfWeights"]


class HalfWeights:
    """q(z|x) and p(x|z) of a model whose weights are rounded to float16.

    Each weight is cast to float32 where it is used. It is a variable of uint16, with the bits of
    float16: at restoring one of float16 TensorFlow prints an error where the processor does not
    compute with float16, which nothing does here. The model keeps its own weights.

    Args:
        model: the model.

    Raises:
        SMVIError: a weight is too large for float16.
    """

    def __init__(self, model: VAE) -> None:
        """Rounds the weights."""
        self._model, self.config = model, model.config
        self.image_shape, self.likelihood = model.image_shape, model.likelihood
        self._halves = {
            id(variable): tf.Variable(_round(name, variable).view(np.uint16), trainable=False)
            for name, variable in model.named_variables.items()
            if variable.dtype == tf.float32
        }

    @property
    def named_variables(self) -> Mapping[str, tf.Variable]:
        """All variables by name, as they are stored."""
        own = self._model.named_variables
        return {name: self._halves.get(id(variable), variable) for name, variable in own.items()}

    def with_products(self, precision: Products) -> "HalfWeights":
        """Returns the same for the model with matrix products in a precision."""
        view = copy.copy(self)
        view._model = self._model.with_products(precision)
        return view

    def encode(self, x: tf.Tensor) -> Moments:
        """Returns the mean and stddev of q(z|x), from x: float32 [batch, *image_shape]."""
        with self._rounded([name for name in self._model.networks if name != "decoder"]):
            posterior = self._model.encode(x)
            # A flow uses its weights no earlier than here.
            return Moments(posterior.mean(), posterior.stddev())

    def decode(self, z: tf.Tensor) -> Any:
        """Returns p(x|z), from z: float32 [..., latent_dim]."""
        with self._rounded(["decoder"]):
            return self._model.decode(z)

    def _rounded(self, networks: Collection[str]) -> Any:
        """A context in which these networks, which are all that it uses, have rounded weights."""
        return keras.StatelessScope(
            state_mapping=[
                (variable, _whole(self._halves[id(variable.value)]))
                for name in networks
                for variable in self._model.networks[name].variables
                if id(variable.value) in self._halves
            ]
        )


def _round(name: str, variable: tf.Variable) -> npt.NDArray[np.float16]:
    """Rounds a weight to float16; raises an SMVIError if a value is too large."""
    values = variable.numpy()
    with np.errstate(over="ignore"):
        rounded: npt.NDArray[np.float16] = values.astype(np.float16)
    if (np.isinf(rounded) & np.isfinite(values)).any():
        raise SMVIError(
            f"cannot hold {name}, which has values beyond {np.finfo(np.float16).max:g}",
            field="weights",
            value="float16",
            remedy="give float32",
        )
    return rounded


def _whole(bits: tf.Variable) -> tf.Tensor:
    """Casts the bits of float16 to float32."""
    if tf.executing_eagerly():  # where TensorFlow would print that error
        return tf.constant(bits.numpy().view(np.float16).astype(np.float32))
    return tf.cast(tf.bitcast(bits, tf.float16), tf.float32)
