"""The approximate posteriors q(z|x): how the encoder's output becomes a distribution of z.

To add one: a class with the members of `Posterior`, a line in POSTERIORS, and its name in
`tfp_smvi.config.PosteriorName`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfp_smvi.config import ModelConfig, PosteriorName
from tfp_smvi.models.flows import CouplingFlow, FlowDistribution
from tfp_smvi.models.keras_backend import keras
from tfp_smvi.models.layers import positive
from tfp_smvi.models.products import Products

__all__ = ["POSTERIORS", "FullGaussian", "Posterior", "diagonal_gaussian"]

# Adam moves each weight by its learning rate at first, whatever the gradient, and the activations
# of the last hidden layer are all positive: with 1 the correlations are noise in the first steps.
# On MNIST at lam 0 the test ELBO was -94.3 with 0.1 and -92.6 with 0.02 after 50 epochs; that of
# the diagonal posterior was -93.5.
_CORRELATION_SCALE = 0.02


class Posterior(Protocol):
    """How the encoder's output becomes q(z|x)."""

    @property
    def num_outputs(self) -> int:
        """The outputs of the encoder."""

    @property
    def networks(self) -> Sequence[keras.Sequential]:
        """The networks that it has beside the encoder."""

    def distribution(self, output: tf.Tensor, products: Products) -> tfd.Distribution:
        """Returns q(z|x) of batch shape [batch], event shape [latent_dim], with mean and stddev.

        Args:
            output: float32 [batch, num_outputs].
            products: the arithmetic of its networks, as `tfp_smvi.models.layers.apply` takes it.
        """


class FullGaussian(tfd.MultivariateNormalTriL):
    """N(mean, L L^T), whose KL divergence to independent normals is analytic.

    Its noise has the axes of its draws: [sample_shape, batch, latent_dim]. That of its base class
    has the batch last, so that a part of a batch could not be given its part of the noise.
    """

    def _call_sample_n(
        self, sample_shape: tf.Tensor, seed: tf.Tensor | None, **kwargs: object
    ) -> tf.Tensor:
        draws = tf.reshape(tf.cast(sample_shape, tf.int32), [-1])
        shape = tf.concat([draws, tf.shape(self.loc)], axis=0)
        noise = tfp.random.sanitize_seed(seed)
        noise = tf.random.stateless_normal(shape, noise, dtype=self.dtype)
        return self.loc + tf.linalg.matvec(self.scale_tril, noise)


@tfd.RegisterKL(FullGaussian, tfd.Independent)  # type: ignore[untyped-decorator]
def _kl_to_independent(q: FullGaussian, p: tfd.Independent, name: str | None = None) -> tf.Tensor:
    """KL(q, p) = sum_i log(s_i / L_ii) + (|L_i|^2 + (mean_i - m_i)^2) / (2 s_i^2) - 1/2, in nats.

    Args:
        q: N(mean, L L^T), with rows L_i.
        p: independent N(m_i, s_i^2), with one event axis.
        name: of the operation; not used.
    """
    normal = p.distribution
    if not isinstance(normal, tfd.Normal) or p.event_shape.rank != 1:
        raise NotImplementedError(f"No KL divergence from {q.name} to {p.name} is known.")
    factor = q.scale_tril
    squares = tf.reduce_sum(tf.square(factor), axis=-1) + tf.square(q.loc - normal.loc)
    logs = tf.math.log(normal.scale) - tf.math.log(tf.linalg.diag_part(factor))
    return tf.reduce_sum(logs + 0.5 * squares / tf.square(normal.scale) - 0.5, axis=-1)


def diagonal_gaussian(mean: tf.Tensor, stddev: tf.Tensor, name: str) -> tfd.Independent:
    """N(mean, diag(stddev^2)), without the matrix transposes of tfd.MultivariateNormalDiag."""
    return tfd.Independent(tfd.Normal(mean, stddev), reinterpreted_batch_ndims=1, name=name)


class _Diagonal:
    """N(mean, diag(stddev^2)) [Levy & Ermon, section 4]."""

    networks = ()

    def __init__(self, config: ModelConfig, seed: int) -> None:
        self.num_outputs = 2 * config.latent_dim

    def distribution(self, output: tf.Tensor, products: Products) -> tfd.Independent:
        mean, h = tf.split(output, 2, axis=-1)
        return diagonal_gaussian(mean, positive(h), "posterior")


class _Full:
    """N(mean, L L^T) with L = diag(stddev) (I + N), N strictly lower triangular.

    N is relative to the widths, and small in the first steps whatever the number of latents: noise
    in it is noise in all of z.
    """

    networks = ()

    def __init__(self, config: ModelConfig, seed: int) -> None:
        dim = config.latent_dim
        self._sizes = [dim, dim, dim * (dim - 1) // 2]
        self.num_outputs = sum(self._sizes)

    def distribution(self, output: tf.Tensor, products: Products) -> FullGaussian:
        mean, h, below = tf.split(output, self._sizes, axis=-1)
        dim = self._sizes[0]
        unit = tf.eye(dim, dtype=output.dtype)
        if dim > 1:
            strict = tfp.math.fill_triangular(_CORRELATION_SCALE / math.sqrt(dim) * below)
            unit += tf.pad(strict, [[0, 0], [1, 0], [0, 1]])
        return FullGaussian(mean, positive(h)[..., tf.newaxis] * unit, name="posterior")


class _Flow:
    """z = mean + stddev * f(eps), eps ~ N(0, I), with coupling layers f that see features of x.

    At the start of a training f is the identity, and q(z|x) the diagonal Gaussian.
    """

    def __init__(self, config: ModelConfig, seed: int) -> None:
        dim = config.latent_dim
        self._sizes = [dim, dim, 2 * dim]
        self.num_outputs = sum(self._sizes)
        self._flow = CouplingFlow(
            dim,
            self._sizes[2],
            config.flow_layers,
            config.flow_transform,
            config.hidden_activation,
            seed,
        )
        self.networks = self._flow.networks

    def distribution(self, output: tf.Tensor, products: Products) -> FlowDistribution:
        mean, h, features = tf.split(output, self._sizes, axis=-1)
        return FlowDistribution(mean, positive(h), features, self._flow, products)


POSTERIORS: dict[PosteriorName, Callable[[ModelConfig, int], Posterior]] = {
    "diagonal": _Diagonal,
    "full": _Full,
    "flow": _Flow,
}
