"""Distributions for chains to start from."""

import math
from typing import Any

import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.inference.arguments import require_vectors

__all__ = ["widened"]


def widened(distribution: Any, factor: float) -> Any:
    """The distribution of z stretched about its mean, for chains to start from.

        mean + factor (z - mean),   z ~ distribution

    A q(z|x) that is too narrow, or covers one of several modes, makes a poor start: the weights of
    few chains decide. From a wider one, annealing comes closer.

    Args:
        distribution: with batch shape [batch], event shape [latent_dim] and a mean.
        factor: positive; 1 returns the distribution as it is.

    Returns:
        A distribution of the same shapes, with mean and standard deviation if `distribution` has
        them.

    Raises:
        SMVIError: the factor is not a positive number, or the distribution is not one of batches of
            vectors or has no mean.
    """
    if not (math.isfinite(factor) and factor > 0.0):
        remedy = "give a positive number"
        raise SMVIError("is not allowed", field="factor", value=factor, remedy=remedy)
    require_vectors(distribution, "distribution")
    if factor == 1.0:
        return distribution
    try:
        mean = distribution.mean()
    except (NotImplementedError, AttributeError, ValueError) as error:
        remedy = "give one that has, such as a Gaussian"
        raise SMVIError("has no mean", field="distribution", remedy=remedy) from error
    return _Widened(distribution, mean, factor)


class _Widened(tfd.TransformedDistribution):
    """A distribution of vectors, stretched about its mean."""

    def __init__(self, distribution: Any, mean: tf.Tensor, factor: float) -> None:
        parameters = dict(locals())
        scale = tfb.Scale(tf.constant(factor, distribution.dtype))
        stretch = tfb.Chain([tfb.Shift(mean), scale, tfb.Shift(-mean)])
        super().__init__(distribution, stretch, parameters=parameters, name="Widened")
        self._factor = factor

    def _mean(self) -> tf.Tensor:
        return self.distribution.mean()

    def _stddev(self) -> tf.Tensor:
        return self._factor * self.distribution.stddev()
