"""Score differences in units of a distribution: v^T Cov(q) v, and the same for flows.

    v^T Cov(q) v = || F^T v ||^2,   Cov(q) = F F^T
    v^T J J^T v  = || J^T v ||^2,   J = dz/deps

J^T v is the pull-back of v to the noise of a flow z = f(eps), eps ~ N(0, I). If f is affine, J is a
factor F. Neither form needs the inverse of a covariance.
"""

from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.core.densities import uncached
from tfp_smvi.core.errors import SMVIError

__all__ = ["quadratic_form"]


def quadratic_form(q: Any, z: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    """Returns v^T Cov(q) v, or || J^T v ||^2 for a flow.

    The first of these that q has decides:

    1. a method `pull_back(z, v)` that returns J^T v for the noise eps ~ N(0, I) of z;
    2. a linear operator `scale` of a multivariate normal, F;
    3. a bijector of a base distribution (`tfd.TransformedDistribution`): J^T v, with J of the
       bijector, in units of the base;
    4. independent components (`tfd.Independent`, `tfd.Sample`, scalars): their variances;
    5. a method `covariance()`, such as that of mixtures.

    Args:
        q: a distribution of TFP, or what has its methods.
        z: points of q: float [..., *batch_shape, *event_shape].
        v: gradients with respect to z, of the same shape.

    Returns:
        Differentiable with respect to z, v and the parameters of q: float [..., *batch_shape].

    Raises:
        SMVIError: q is none of these.
    """
    rank = q.event_shape.rank
    if hasattr(q, "pull_back"):
        return _sum(tf.square(q.pull_back(z, v)), rank)
    if isinstance(q, tfd.MultivariateNormalLinearOperator):
        return _sum(tf.square(q.scale.matvec(v, adjoint=True)), 1)
    if isinstance(q, tfd.TransformedDistribution):
        return _of_base(q, z, v)
    if isinstance(q, tfd.Independent):
        base = q.distribution
        return _sum(quadratic_form(base, z, v), rank - base.event_shape.rank)
    if rank == 0 or (isinstance(q, tfd.Sample) and q.distribution.event_shape.rank == 0):
        return _sum(tf.square(q.stddev() * v), rank)
    return _sum(v * tf.linalg.matvec(_covariance(q), v), 1)


def _of_base(q: Any, z: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    """The quadratic form of the base distribution at J^T v."""
    base, bijector = q.distribution, q.bijector
    eps = uncached(bijector.inverse(uncached(z)))
    with tf.GradientTape() as tape:
        tape.watch(eps)
        image = bijector.forward(eps)
    pulled_back = tape.gradient(image, eps, output_gradients=v)
    return quadratic_form(base, eps, pulled_back)


def _covariance(q: Any) -> tf.Tensor:
    """Cov(q): float [*batch_shape, latent_dim, latent_dim]."""
    try:
        if q.event_shape.rank == 1:
            return q.covariance()
    except NotImplementedError:
        pass
    raise SMVIError(
        f"({q.name}) has no known covariance, which weights its divergence",
        field="posterior",
        remedy="give a Gaussian, independent components, a tfd.TransformedDistribution of them, or "
        "a distribution with a method covariance() or pull_back(z, v); or take the divergence "
        "fisher",
    )


def _sum(terms: tf.Tensor, num_axes: int) -> tf.Tensor:
    """The sum over the last axes."""
    return tf.reduce_sum(terms, axis=list(range(-num_axes, 0)))
