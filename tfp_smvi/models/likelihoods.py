"""The likelihoods p(x|z): how the decoder's output becomes a distribution of x.

    bernoulli          1 output an entry of x: the logit of x = 1
    gaussian           2: mean and stddev
    poisson            1: the log of the rate
    negative_binomial  2: the log of the mean, and the dispersion r; both differ between entries and
                       examples, and the variance is mean + mean^2 / r
    categorical        a logit for each of the classes 0 .. num_categories - 1

To add one: a function from the output to a distribution, a line in LIKELIHOODS, and its name in
`tfp_smvi.config.LikelihoodName`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfp_smvi.config import Kind, LikelihoodName, ModelConfig
from tfp_smvi.models.activations import softplus
from tfp_smvi.models.layers import positive

__all__ = ["LIKELIHOODS", "MAX_LOG_MEAN", "Likelihood", "Observed", "likelihood_of"]

# Counts above 2^24 = e^16.6 are not all float32 numbers: from there on means grow in proportion to
# the output and no longer exponentially, so that no output overflows and none loses its gradient.
MAX_LOG_MEAN = 16.0
_MAX_EXCESS = 1e20


class Likelihood(NamedTuple):
    """How the decoder's output becomes p(x|z).

    Attributes:
        num_outputs: outputs of the decoder for each entry of x; 0: one for each category.
        distribution: output: float [..., *image_shape, num_outputs] -> distribution of batch shape
            [..., *image_shape].
        parameters: such a distribution -> its parameters by name: float [..., *image_shape], and
            [..., *image_shape, num_categories] for the probabilities of categories.
        kinds: the kinds of values that x may have.
        encoder_input: x -> what the encoder sees of it, of the same shape.
        typical: p(x|z) -> what stands for it in a picture: float [..., *image_shape].
    """

    num_outputs: int
    distribution: Callable[[tf.Tensor], tfd.Distribution]
    parameters: Callable[[tfd.Distribution], Mapping[str, tf.Tensor]]
    kinds: tuple[Kind, ...]
    encoder_input: Callable[[tf.Tensor], tf.Tensor] = tf.identity
    typical: Callable[[tfd.Distribution], tf.Tensor] = lambda x: x.mean()


class Observed(tfd.Independent):
    """A distribution of x, whose missing entries, NaN, add nothing to log p(x|z).

    This is log p of the observed entries: the entries are independent given z. Samples and moments
    are those of all entries.
    """

    def _log_prob(self, x: tf.Tensor, **options: Any) -> tf.Tensor:
        missing = tf.math.is_nan(x)
        # Gradients of a density at NaN are NaN, and so is 0 times NaN: the density is taken at 0,
        # which is a value of every kind.
        entries = self.distribution.log_prob(tf.where(missing, tf.zeros_like(x), x), **options)
        axes = tf.range(-self.event_shape.rank, 0)
        return tf.reduce_sum(tf.where(missing, tf.zeros_like(entries), entries), axis=axes)


class _LogitBernoulli(tfd.Bernoulli):
    """tfd.Bernoulli with the log density x * logits - softplus(logits): one softplus per pixel."""

    def _log_prob(self, event: tf.Tensor) -> tf.Tensor:
        logits = self.logits
        return tf.cast(event, logits.dtype) * logits - softplus(logits)


class _LogRatePoisson(tfd.Poisson):
    """tfd.Poisson with a log density that float32 resolves for large counts, too.

        log p = x u - max(x, 1) (e^u - 1) + c(x),    u = log rate - log max(x, 1)
        c(x) = x log x - x - log x!  if x >= 1,  c(0) = -1

    At x = 1e5 the terms of x log rate - rate - log x! are of 1e6 nats, and their sum is wrong by
    0.1 nats.
    """

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        least_one = tf.maximum(x, 1.0)
        log_ratio = self.log_rate - tf.math.log(least_one)
        exponential = least_one * tf.math.expm1(log_ratio)
        return x * log_ratio - exponential + _log_poisson_at_its_mean(x)


class _NegativeBinomial(tfd.NegativeBinomial):
    """tfd.NegativeBinomial that XLA and GPUs can sample from."""

    def _sample_n(self, n: tf.Tensor, seed: Any = None) -> tf.Tensor:
        # rate ~ Gamma(r, mean / r),  x ~ Poisson(rate)
        rate_seed, count_seed = tfp.random.split_seed(seed, n=2, salt="negative_binomial")
        rates = tfd.Gamma(self.total_count, log_rate=-self.logits).sample(n, seed=rate_seed)
        return tfd.Poisson(rates).sample(seed=count_seed)


def _log_poisson_at_its_mean(x: tf.Tensor) -> tf.Tensor:
    """c(x) of _LogRatePoisson, a constant in z.

    From 8 on by Stirling's formula, -log(2 pi x) / 2 - correction(x), without its large terms.
    """
    small, large = tf.clip_by_value(x, 1.0, 8.0), tf.maximum(x, 8.0)
    exact = small * tf.math.log(small) - small - tf.math.lgamma(small + 1.0)
    stirling = -0.5 * tf.math.log(2.0 * math.pi * large) - tfp.math.log_gamma_correction(large)
    return tf.where(x < 8.0, exact, stirling)


def _log_mean(output: tf.Tensor) -> tf.Tensor:
    """The log of a mean: the output h itself, and MAX_LOG_MEAN + log(1 + h - MAX_LOG_MEAN)."""
    excess = tf.clip_by_value(output - MAX_LOG_MEAN, 0.0, _MAX_EXCESS)
    return tf.minimum(output, MAX_LOG_MEAN) + tf.math.log1p(excess)


def _bernoulli(output: tf.Tensor) -> tfd.Distribution:
    return _LogitBernoulli(logits=output[..., 0], dtype=tf.float32)


def _gaussian(output: tf.Tensor) -> tfd.Distribution:
    mean, h = tf.unstack(output, axis=-1)
    return tfd.Normal(mean, positive(h))


def _poisson(output: tf.Tensor) -> tfd.Distribution:
    return _LogRatePoisson(log_rate=_log_mean(output[..., 0]))


def _negative_binomial(output: tf.Tensor) -> tfd.Distribution:
    h_mean, h_dispersion = tf.unstack(output, axis=-1)
    dispersion = positive(h_dispersion)
    # mean = r e^logits
    return _NegativeBinomial(dispersion, logits=_log_mean(h_mean) - tf.math.log(dispersion))


def _categorical(output: tf.Tensor) -> tfd.Distribution:
    return tfd.Categorical(logits=output, dtype=tf.float32)


def _mean_and_stddev(x: tfd.Distribution) -> Mapping[str, tf.Tensor]:
    return {"mean": x.mean(), "stddev": x.stddev()}


def _mean_and_dispersion(x: tfd.Distribution) -> Mapping[str, tf.Tensor]:
    return {"mean": x.mean(), "dispersion": x.total_count}


LIKELIHOODS: dict[LikelihoodName, Likelihood] = {
    "bernoulli": Likelihood(1, _bernoulli, lambda x: {"probabilities": x.mean()}, ("intensities",)),
    "gaussian": Likelihood(2, _gaussian, _mean_and_stddev, ("intensities", "real", "counts")),
    # Counts span powers of ten, and their logs are of the order of 1.
    "poisson": Likelihood(1, _poisson, lambda x: {"rate": x.mean()}, ("counts",), tf.math.log1p),
    "negative_binomial": Likelihood(
        2, _negative_binomial, _mean_and_dispersion, ("counts",), tf.math.log1p
    ),
    "categorical": Likelihood(
        0,
        _categorical,
        lambda x: {"probabilities": x.probs_parameter()},
        ("counts",),
        tf.math.log1p,
        lambda x: x.mode(),
    ),
}


def likelihood_of(config: ModelConfig) -> Likelihood:
    """Returns the likelihood of a complete configuration, with its number of outputs."""
    assert config.likelihood is not None
    likelihood = LIKELIHOODS[config.likelihood]
    if likelihood.num_outputs:
        return likelihood
    if config.num_categories is None:
        raise ValueError("config.num_categories is None; give the number of categories.")
    return likelihood._replace(num_outputs=config.num_categories)
