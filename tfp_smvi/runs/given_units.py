"""A model of standardized data in the units that the data were given in."""

from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.data.standardization import Standardization
from tfp_smvi.models.products import Products

__all__ = ["GivenUnits", "in_given_units"]


class GivenUnits:
    """q(z|x) and p(x|z) of x as it was given, for a model of standardized x.

    Everything else is that of the model.
    """

    def __init__(self, model: Any, scale: Standardization) -> None:
        """Takes the model, with a gaussian likelihood, and how its data were standardized."""
        self._model, self._scale = model, scale

    def __getattr__(self, name: str) -> Any:
        """Returns what the model has."""
        return getattr(self._model, name)

    def with_products(self, precision: Products) -> "GivenUnits":
        """Returns the same for the model with matrix products in a precision, if it has some."""
        model = self._model
        chosen = model.with_products(precision) if hasattr(model, "with_products") else model
        return GivenUnits(chosen, self._scale)

    def encode(self, x: tf.Tensor) -> tfd.Distribution:
        """Returns q(z|x) of given values: float32 [batch, *image_shape]."""
        return self._model.encode(self._scale.apply(x))

    def decode(self, z: tf.Tensor) -> tfd.Distribution:
        """Returns p(x|z) of given values, from z: float32 [..., latent_dim]."""
        p, scale = self._model.decode(z), self._scale
        normal = tfd.Normal(scale.undo(p.mean()), scale.undo_stddev(p.stddev()))
        return tfd.Independent(normal, reinterpreted_batch_ndims=scale.mean.ndim)


def in_given_units(model: Any, scale: Standardization | None) -> Any:
    """Returns a model of x as it was given; the model itself if x was not standardized."""
    return model if scale is None else GivenUnits(model, scale)
