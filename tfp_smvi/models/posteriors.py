"""The approximate posteriors q(z|x): how the encoder's output becomes a distribution of z.

To add one: a function from the output to a distribution, and a line in POSTERIORS.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.models.layers import positive

__all__ = ["POSTERIORS", "Posterior", "diagonal_gaussian"]


class Posterior(NamedTuple):
    """How the encoder's output becomes q(z|x).

    Attributes:
        num_outputs: latent_dim -> outputs of the encoder.
        distribution: output: float [batch, num_outputs(latent_dim)] -> distribution of batch shape
            [batch] and event shape [latent_dim].
    """

    num_outputs: Callable[[int], int]
    distribution: Callable[[tf.Tensor], tfd.Distribution]


def diagonal_gaussian(mean: tf.Tensor, stddev: tf.Tensor, name: str) -> tfd.Independent:
    """N(mean, diag(stddev^2)), without the matrix transposes of tfd.MultivariateNormalDiag."""
    return tfd.Independent(tfd.Normal(mean, stddev), reinterpreted_batch_ndims=1, name=name)


def _diagonal(output: tf.Tensor) -> tfd.Independent:
    mean, h = tf.split(output, 2, axis=-1)
    return diagonal_gaussian(mean, positive(h), "posterior")


POSTERIORS: dict[str, Posterior] = {
    "diagonal": Posterior(lambda latent_dim: 2 * latent_dim, _diagonal),
}
