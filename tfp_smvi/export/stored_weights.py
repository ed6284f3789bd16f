"""A model whose weights are stored in float16: half of the bytes, and all else in float32."""

import copy
from collections.abc import Collection, Mapping
from typing import Any, get_args

import tensorflow as tf

from tfp_smvi.config import ExportWeights
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.export.signatures import Moments
from tfp_smvi.models.keras_backend import keras
from tfp_smvi.models.products import Products
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.loading import LoadedRun

__all__ = ["HalfWeights", "check_weights"]


class HalfWeights:
    """q(z|x) and p(x|z) of a model whose weights are rounded to float16.

    Each weight is a variable of float16, which is cast to float32 where it is used. The model keeps
    its own.

    Args:
        model: the model.

    Raises:
        SMVIError: a weight is too large for float16.
    """

    def __init__(self, model: VAE) -> None:
        """Rounds the weights."""
        self._model, self.config = model, model.config
        self.image_shape, self.likelihood = model.image_shape, model.likelihood
        whole = {name: v for name, v in model.named_variables.items() if v.dtype == tf.float32}
        self._halves = {
            id(variable): tf.Variable(tf.cast(variable, tf.float16), trainable=False)
            for variable in whole.values()
        }
        for name, variable in whole.items():
            finite = tf.math.is_finite(self._halves[id(variable)])
            if not tf.reduce_all(finite | ~tf.math.is_finite(variable)):
                raise SMVIError(
                    f"cannot hold {name}, which has values beyond {tf.float16.max}",
                    field="weights",
                    value="float16",
                    remedy="give float32",
                )

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
        with self._rounded(self._model.networks.keys() - {"decoder"}):
            posterior = self._model.encode(x)
            # A flow uses its weights no earlier than here.
            return Moments(posterior.mean(), posterior.stddev())

    def decode(self, z: tf.Tensor) -> Any:
        """Returns p(x|z), from z: float32 [..., latent_dim]."""
        with self._rounded({"decoder"}):
            return self._model.decode(z)

    def _rounded(self, networks: Collection[str]) -> Any:
        """A context in which these networks, which are all that it uses, have rounded weights."""
        return keras.StatelessScope(
            state_mapping=[
                (variable, tf.cast(self._halves[id(variable.value)], tf.float32))
                for name in networks
                for variable in self._model.networks[name].variables
                if id(variable.value) in self._halves
            ]
        )


def check_weights(run: LoadedRun, formats: Collection[str], weights: ExportWeights) -> None:
    """Raises an SMVIError if the model of a run cannot be exported with weights of this dtype."""
    allowed = get_args(ExportWeights)
    if weights not in allowed:
        problem, remedy = "is not allowed", f"give one of {', '.join(allowed)}"
    elif weights == "float32":
        return
    elif formats:
        problem, remedy = "is only for the SavedModel", "give float32, or leave {formats} out"
    elif not isinstance(run.model, VAE):
        problem, remedy = "is not for a model that was given in Python", "give float32"
    else:
        return
    raise SMVIError(problem, field="weights", value=weights, remedy=remedy)
