"""The learning objective: evidence lower bound, score-matching divergence and their trade-off.

Pure functions of TFP distributions and log-density callables; no network is needed. All values are
in nats, except the divergence, which is in squared nats per squared unit of z.

References:
    [1] D. Levy and S. Ermon. Trading-off Learning and Inference in Deep Latent Variable Models.
    [2] D. P. Kingma and M. Welling. Auto-Encoding Variational Bayes. arXiv:1312.6114.
"""

import math
import numbers
from typing import NamedTuple

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.core.densities import LogDensity, one_for_each
from tfp_smvi.core.errors import SMVIError

__all__ = ["ELBO", "Objective", "elbo", "score_matching_divergence", "smvi_objective"]


class ELBO(NamedTuple):
    """A one-sample estimate of the evidence lower bound, in nats; each float [..., batch]."""

    elbo: tf.Tensor
    reconstruction: tf.Tensor
    kl: tf.Tensor


class Objective(NamedTuple):
    """A one-sample estimate of the objective and its parts; each float [..., batch].

    `divergence` is None where lam = 0, for then nothing of it is computed.
    """

    objective: tf.Tensor
    elbo: tf.Tensor
    reconstruction: tf.Tensor
    kl: tf.Tensor
    divergence: tf.Tensor | None


def elbo(
    posterior: tfd.Distribution,
    prior: tfd.Distribution,
    log_likelihood_fn: LogDensity,
    z: tf.Tensor,
) -> ELBO:
    """Estimates the evidence lower bound, with an analytic KL divergence where TFP has one.

        ELBO = E_q[log p(x|z)] - KL(q(z|x), p(z)),      else KL = E_q[log q(z|x) - log p(z)] at z

    Args:
        posterior: q(z|x), batch shape [batch], event shape [latent_dim]; any distribution that TFP
            can sample and differentiate.
        prior: p(z), event shape [latent_dim].
        log_likelihood_fn: z: [..., batch, latent_dim] -> log p(x|z): [..., batch], in nats.
        z: reparameterized sample of `posterior`: float [..., batch, latent_dim].

    Returns:
        The estimate and its two parts; an analytic KL divergence does not depend on z.

    Raises:
        SMVIError: log_likelihood_fn does not return one number for each z.

    Source: [Levy & Ermon, eq. 2], [Kingma & Welling].
    """
    reconstruction = one_for_each(
        "log_likelihood_fn", log_likelihood_fn(z), z, posterior.event_shape.rank
    )
    try:
        kl = tfd.kl_divergence(posterior, prior)
    except NotImplementedError:  # such as that of a flow or a mixture
        kl = posterior.log_prob(z) - prior.log_prob(z)
    return ELBO(reconstruction - kl, reconstruction, kl)


def score_matching_divergence(
    posterior: tfd.Distribution, log_joint_fn: LogDensity, z: tf.Tensor
) -> tf.Tensor:
    """Estimates the score-matching (Fisher) divergence from q(z|x) to p(z|x) at samples of q.

        D_SM(q, p) = E_q || grad_z log q(z|x) - grad_z log p(x, z) ||^2

    p(z|x) is needed up to a constant in z only, which log p(x, z) is. The estimate is
    differentiable in z and in all parameters of `posterior` and `log_joint_fn`, so that an outer
    tape yields the gradient of the divergence.

    Args:
        posterior: q(z|x), any distribution with a differentiable log_prob.
        log_joint_fn: z: [..., batch, latent_dim] -> log p(x, z) up to a constant in z: [...,
            batch], in nats.
        z: sample of `posterior`, reparameterized where gradients are wanted: float [..., batch,
            latent_dim].

    Returns:
        One estimate a sample: float [..., batch].

    Raises:
        SMVIError: log_joint_fn does not return one number for each z, or has no gradient by z.

    Source: [Levy & Ermon, eq. 3], with p(z|x) as in eq. 5.
    """
    z = _uncached(z)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        log_joint = one_for_each("log_joint_fn", log_joint_fn(z), z, posterior.event_shape.rank)
        log_ratio = posterior.log_prob(z) - log_joint
    _require_gradient(tape, "log_joint_fn", log_joint, z)
    return _squared_norm(tape.gradient(log_ratio, z), posterior)


def smvi_objective(
    posterior: tfd.Distribution,
    prior: tfd.Distribution,
    log_likelihood_fn: LogDensity,
    lam: float,
    z: tf.Tensor,
    lam_scale: float | tf.Tensor = 1.0,
) -> Objective:
    """Estimates the score-matching variational objective with one evaluation of the likelihood.

        objective = ELBO - lam * lam_scale * D_SM(q(z|x), p(z|x));    lam = inf: -D_SM alone

    Args:
        posterior: as in `elbo`.
        prior: as in `elbo`.
        log_likelihood_fn: as in `elbo`.
        lam: any real number, or inf, and no tensor; with 0 the divergence is not computed.
        z: as in `elbo`.
        lam_scale: a factor on a finite lam, such as its warm-up: float scalar.

    Returns:
        The estimate and its parts.

    Raises:
        SMVIError: lam is none of these, or log_likelihood_fn does not return one number for each z
            or has no gradient by z.

    Source: [Levy & Ermon, eq. 6].
    """
    if not isinstance(lam, numbers.Real) or math.isnan(lam) or lam == -math.inf:
        raise SMVIError(
            f"lam is {lam!r}: give a real number or inf; a tensor that changes belongs into lam_scale, its factor"
        )
    if lam == 0.0:
        bound = elbo(posterior, prior, log_likelihood_fn, z)
        return Objective(bound.elbo, *bound, divergence=None)
    z = _uncached(z)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        bound = elbo(posterior, prior, log_likelihood_fn, z)
        log_joint = bound.reconstruction + prior.log_prob(z)
        log_ratio = posterior.log_prob(z) - log_joint
    _require_gradient(tape, "log_likelihood_fn", bound.reconstruction, z)
    divergence = _squared_norm(tape.gradient(log_ratio, z), posterior)
    if math.isinf(lam):
        return Objective(-divergence, *bound, divergence)
    return Objective(bound.elbo - lam * lam_scale * divergence, *bound, divergence)


def _uncached(z: tf.Tensor) -> tf.Tensor:
    """z as a tensor that TFP's bijectors have not seen.

    A transformed distribution remembers the noise that a sample was made from, and its log_prob at
    that very tensor takes the noise from its cache: the gradient by z would then be silently wrong.
    """
    return tf.identity(z)


def _require_gradient(
    tape: tf.GradientTape, name: str, log_density: tf.Tensor, z: tf.Tensor
) -> None:
    """Raises an SMVIError where the gradient by z is lost, which would pass for a score of 0.

    A graph does not compute this gradient, since nothing uses it.
    """
    if tape.gradient(log_density, z) is None:
        raise SMVIError(
            f"{name} has no gradient by z: compute it from z by TensorFlow alone, without NumPy and without "
            "tf.stop_gradient"
        )


def _squared_norm(score_difference: tf.Tensor, posterior: tfd.Distribution) -> tf.Tensor:
    """|| . ||^2 over the event of the posterior."""
    axes = tf.range(-posterior.event_shape.rank, 0)
    return tf.reduce_sum(tf.square(score_difference), axis=axes)
