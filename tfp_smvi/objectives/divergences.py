"""The divergences between two densities of z, estimated at samples of one of them.

Pure functions of TFP distributions and log-density callables; no network is needed. Each divergence
is a mean over q of a squared norm of the score difference

    s(z) = grad_z log q(z|x) - grad_z log p(x, z)

p(z|x) is needed only up to a constant in z, and log p(x, z) is that.

References:
    [1] D. Levy and S. Ermon. Trading-off Learning and Inference in Deep Latent Variable Models.
    [2] D. Cai, C. Modi, L. Pillaud-Vivien, C. C. Margossian, R. M. Gower, D. M. Blei, L. K. Saul.
        Batch and match: black-box variational inference with a score-based divergence. ICML 2024.
"""

from collections.abc import Callable

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.core.densities import LogDensity, check_posterior, log_densities, points, uncached
from tfp_smvi.core.divergences import DivergenceName
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.objectives.covariances import quadratic_form

__all__ = [
    "DIVERGENCES",
    "Divergence",
    "known_divergences",
    "require_gradient",
    "score_difference",
    "score_matching_divergence",
    "weighted_divergence",
]

# (q(z|x), z: [..., batch, latent_dim], s(z): the same shape) -> [..., batch]
Divergence = Callable[[tfd.Distribution, tf.Tensor, tf.Tensor], tf.Tensor]


def fisher(posterior: tfd.Distribution, z: tf.Tensor, score_difference: tf.Tensor) -> tf.Tensor:
    """|| s ||^2, in squared nats per squared unit of z [1, eq. 3]."""
    axes = tf.range(-posterior.event_shape.rank, 0)
    return tf.reduce_sum(tf.square(score_difference), axis=axes)


def weighted(posterior: tfd.Distribution, z: tf.Tensor, score_difference: tf.Tensor) -> tf.Tensor:
    """|| Cov(q)^(1/2) s ||^2, or that of s pulled back to a flow's noise; in squared nats [2]."""
    form = quadratic_form(posterior)
    if form is None:
        raise SMVIError(
            f"({posterior.name}) has no known covariance, which weights its divergence",
            field="posterior",
            remedy="give a Gaussian, independent parts, a tfd.TransformedDistribution of them, or "
            "what has a method covariance() or pull_back(z, v); or take the divergence fisher",
        )
    return form(z, score_difference)


DIVERGENCES: dict[DivergenceName, Divergence] = {"fisher": fisher, "weighted": weighted}


def score_matching_divergence(
    posterior: tfd.Distribution, log_joint_fn: LogDensity, z: tf.Tensor
) -> tf.Tensor:
    """Estimates the score-matching (Fisher) divergence from q(z|x) to p(z|x) at samples of q.

        D_SM(q, p) = E_q || grad_z log q(z|x) - grad_z log p(x, z) ||^2

    The estimate is differentiable with respect to z and to all parameters of `posterior` and
    `log_joint_fn`: an outer tape yields the gradient of the divergence.

    Args:
        posterior: q(z|x), any reparameterized distribution with a differentiable log_prob.
        log_joint_fn: z: [..., batch, latent_dim] -> log p(x, z) up to a constant in z: [...,
            batch], in nats.
        z: sample of `posterior`: float [..., batch, latent_dim].

    Returns:
        One estimate per sample, in squared nats per squared unit of z: float [..., batch].

    Raises:
        SMVIError: a shape or a dtype does not fit, `posterior` is not reparameterized, or
            log_joint_fn has no gradient with respect to z.

    Source: [Levy & Ermon, eq. 3], with p(z|x) as in eq. 5.
    """
    return fisher(posterior, z, score_difference(posterior, log_joint_fn, z))


def weighted_divergence(
    posterior: tfd.Distribution, log_joint_fn: LogDensity, z: tf.Tensor
) -> tf.Tensor:
    """Estimates the divergence of scores in units of q(z|x), from q(z|x) to p(z|x), at samples.

        D_w(q, p) = E_q || Cov(q)^(1/2) (grad_z log q(z|x) - grad_z log p(x, z)) ||^2

    For a flow z = f(eps) the score difference is pulled back to the noise eps in place of
    Cov(q)^(1/2): D_w = E || J^T s ||^2 with J = dz/deps. An affine map of z does not change D_w,
    and near p(z|x) it is 2 to 4 times KL(q(z|x), p(z|x)). Gradients flow through the weight too.

    Args:
        posterior: as in `score_matching_divergence`, and one whose weight is known; see
            docs/divergences.md for those that are.
        log_joint_fn: as in `score_matching_divergence`.
        z: as in `score_matching_divergence`.

    Returns:
        One estimate per sample, in squared nats: float [..., batch].

    Raises:
        SMVIError: as `score_matching_divergence`, or the covariance of `posterior` is not known.

    Source: [Cai et al., eq. 1].
    """
    return weighted(posterior, z, score_difference(posterior, log_joint_fn, z))


def score_difference(
    posterior: tfd.Distribution, log_joint_fn: LogDensity, z: tf.Tensor
) -> tf.Tensor:
    """Returns s(z) = grad_z log q(z|x) - grad_z log p(x, z), which every divergence is made of.

    Args:
        posterior: as in `score_matching_divergence`.
        log_joint_fn: as in `score_matching_divergence`.
        z: as in `score_matching_divergence`.

    Returns:
        In nats per unit of z, differentiable: float [..., batch, latent_dim].

    Raises:
        SMVIError: as `score_matching_divergence`.
    """
    check_posterior(posterior)
    z = uncached(points(z, posterior))
    event_rank = posterior.event_shape.rank
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        log_joint = log_densities("log_joint_fn", log_joint_fn, z, event_rank)
        log_ratio = log_densities("posterior", posterior.log_prob, z, event_rank) - log_joint
    require_gradient(tape, "log_joint_fn", log_joint, z)
    return tape.gradient(log_ratio, z)


def known_divergences(posterior: tfd.Distribution) -> tuple[DivergenceName, ...]:
    """The divergences that are defined for a posterior: not `weighted` without a covariance."""
    unknown = {"weighted"} if quadratic_form(posterior) is None else set()
    return tuple(name for name in DIVERGENCES if name not in unknown)


def require_gradient(
    tape: tf.GradientTape, name: str, log_density: tf.Tensor, z: tf.Tensor
) -> None:
    """Raises an SMVIError if the gradient with respect to z is lost: it would count as 0.

    A graph does not compute this gradient, since nothing uses it.
    """
    if tape.gradient(log_density, z) is None:
        raise SMVIError(
            "has no gradient with respect to z",
            field=name,
            remedy="compute it from z with TensorFlow alone, without NumPy and tf.stop_gradient",
        )
