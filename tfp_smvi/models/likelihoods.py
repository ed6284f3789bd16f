"""The likelihoods p(x|z): how the decoder's output becomes a distribution of x.

To add one: a function from the output to a distribution, a line in LIKELIHOODS, and its name in
`tfp_smvi.config.LikelihoodName`.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.config import LikelihoodName
from tfp_smvi.models.layers import positive

__all__ = ["LIKELIHOODS", "Likelihood", "LogitBernoulli"]


class Likelihood(NamedTuple):
    """How the decoder's output becomes p(x|z).

    Attributes:
        num_outputs: outputs of the decoder for each dimension of x.
        distribution: output: float [..., *image_shape, num_outputs] -> distribution of batch shape
            [..., *image_shape].
    """

    num_outputs: int
    distribution: Callable[[tf.Tensor], tfd.Distribution]


class LogitBernoulli(tfd.Bernoulli):
    """tfd.Bernoulli with the log density x * logits - softplus(logits): one softplus per pixel."""

    def _log_prob(self, event: tf.Tensor) -> tf.Tensor:
        logits = self.logits
        return tf.cast(event, logits.dtype) * logits - tf.nn.softplus(logits)


def _bernoulli(output: tf.Tensor) -> tfd.Distribution:
    return LogitBernoulli(logits=output[..., 0], dtype=tf.float32)


def _gaussian(output: tf.Tensor) -> tfd.Distribution:
    mean, h = tf.unstack(output, axis=-1)
    return tfd.Normal(mean, positive(h))


LIKELIHOODS: dict[LikelihoodName, Likelihood] = {
    "bernoulli": Likelihood(1, _bernoulli),
    "gaussian": Likelihood(2, _gaussian),
}
