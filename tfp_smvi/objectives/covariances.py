"""Score differences in units of a distribution: v^T Cov(q) v, and the same for flows.

    v^T Cov(q) v = || F^T v ||^2,   Cov(q) = F F^T
    v^T J J^T v  = || J^T v ||^2,   J = dz/deps

J^T v is the pull-back of v to the noise of a flow z = f(eps), eps ~ N(0, I). If f is affine, J is a
factor F. Neither form needs the inverse of a covariance.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.core.densities import uncached

__all__ = ["QuadraticForm", "quadratic_form"]

# (z, v: a gradient with respect to z), both float [..., *batch_shape, *event_shape], to a number
# for each z: float [..., *batch_shape]
QuadraticForm = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def quadratic_form(q: Any) -> QuadraticForm | None:
    """Returns v^T Cov(q) v, or || J^T v ||^2 for a flow, as a function of z and v; None if unknown.

    The first of these that q has decides:

    1. a method `pull_back(z, v)` that returns J^T v for the noise eps ~ N(0, I) of z;
    2. a linear operator `scale` of a multivariate normal, F;
    3. a bijector of a base distribution (`tfd.TransformedDistribution`): J^T v, with J of the
       bijector, in units of the base;
    4. independent parts (`tfd.Independent`), or the variance of a scalar;
    5. a method `covariance()`, such as that of mixtures.

    The function is differentiable with respect to z, v and the parameters of q.

    Args:
        q: a distribution of TFP, or what has its methods.
    """
    rank = q.event_shape.rank
    if hasattr(q, "pull_back"):
        return lambda z, v: _sum(tf.square(q.pull_back(z, v)), rank)
    if isinstance(q, tfd.MultivariateNormalLinearOperator):
        return lambda z, v: _sum(tf.square(q.scale.matvec(v, adjoint=True)), 1)
    if isinstance(q, tfd.TransformedDistribution):
        return _of_transformed(q)
    if isinstance(q, tfd.Independent):
        form, axes = quadratic_form(q.distribution), rank - q.distribution.event_shape.rank
        return form and (lambda z, v: _sum(form(z, v), axes))
    return _of_moments(q)


def _of_transformed(q: Any) -> QuadraticForm | None:
    """The form of the base distribution at J^T v."""
    form = quadratic_form(q.distribution)
    if form is None:
        return None

    def of_base(z: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
        eps = uncached(q.bijector.inverse(uncached(z)))
        with tf.GradientTape() as tape:
            tape.watch(eps)
            image = q.bijector.forward(eps)
        return form(eps, tape.gradient(image, eps, output_gradients=v))

    return of_base


def _of_moments(q: Any) -> QuadraticForm | None:
    """The form of the variances or of the covariance, if q knows them."""
    rank = q.event_shape.rank
    of_scalars = isinstance(q, tfd.Sample) and q.distribution.event_shape.rank == 0
    try:
        if rank == 0 or of_scalars:
            stddev = q.stddev()
            return lambda z, v: _sum(tf.square(stddev * v), rank)
        if rank == 1:
            covariance = q.covariance()
            return lambda z, v: _sum(v * tf.linalg.matvec(covariance, v), 1)
    except NotImplementedError:
        pass
    return None


def _sum(terms: tf.Tensor, num_axes: int) -> tf.Tensor:
    """The sum over the last axes."""
    return tf.reduce_sum(terms, axis=list(range(-num_axes, 0)))
