"""The learning objective: evidence lower bound, divergence and their trade-off.

Pure functions of TFP distributions and log-density callables; no network is needed. All values are
in nats, except the divergence, which is in squared nats per squared unit of z (fisher) or in
squared nats (weighted).

References:
    [1] D. Levy and S. Ermon. Trading-off Learning and Inference in Deep Latent Variable Models.
    [2] D. P. Kingma and M. Welling. Auto-Encoding Variational Bayes. arXiv:1312.6114.
"""

import math
import numbers
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.core.densities import (
    LogDensity,
    check_divergence,
    check_posterior,
    check_prior,
    log_densities,
    points,
    uncached,
)
from tfp_smvi.core.divergences import DivergenceName, check_lam_of
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.objectives.divergences import DIVERGENCES, require_gradient

__all__ = ["ELBO", "Objective", "analytic_kl", "elbo", "sampled_kl", "smvi_objective", "trade_off"]


class ELBO(NamedTuple):
    """A one-sample estimate of the evidence lower bound, in nats; each float [..., batch]."""

    elbo: tf.Tensor
    reconstruction: tf.Tensor
    kl: tf.Tensor


class Objective(NamedTuple):
    """A one-sample estimate of the objective and its parts; each float [..., batch].

    Attributes:
        objective: ELBO - lam * divergence, or less of the divergence during a warm-up.
        bound: the evidence lower bound, with its parts.
        divergence: D(q(z|x), p(z|x)); None if lam = 0, because it is not computed then.
    """

    objective: tf.Tensor
    bound: ELBO
    divergence: tf.Tensor | None

    @property
    def elbo(self) -> tf.Tensor:
        """The evidence lower bound: float [..., batch]."""
        return self.bound.elbo

    @property
    def reconstruction(self) -> tf.Tensor:
        """E_q[log p(x|z)]: float [..., batch]."""
        return self.bound.reconstruction

    @property
    def kl(self) -> tf.Tensor:
        """KL(q(z|x), p(z)): float [..., batch]."""
        return self.bound.kl


def elbo(
    posterior: tfd.Distribution,
    prior: tfd.Distribution,
    log_likelihood_fn: LogDensity,
    z: tf.Tensor,
) -> ELBO:
    """Estimates the evidence lower bound, with an analytic KL divergence if TFP has one.

        ELBO = E_q[log p(x|z)] - KL(q(z|x), p(z)),      else KL = E_q[log q(z|x) - log p(z)] at z

    Args:
        posterior: q(z|x), batch shape [batch], event shape [latent_dim]; any distribution that TFP
            can sample with reparameterization (tfd.FULLY_REPARAMETERIZED) and differentiate.
        prior: p(z), event shape [latent_dim], without batch axes or with those of `posterior`.
        log_likelihood_fn: z: [..., batch, latent_dim] -> log p(x|z): [..., batch], in nats.
        z: reparameterized sample of `posterior`: float [..., batch, latent_dim].

    Returns:
        The estimate and its two parts; an analytic KL divergence does not depend on z.

    Raises:
        SMVIError: a shape or a dtype does not fit, or `posterior` is not reparameterized.

    Source: [Levy & Ermon, eq. 2], [Kingma & Welling].
    """
    check_posterior(posterior)
    check_prior(prior, posterior)
    z, event_rank = points(z, posterior), posterior.event_shape.rank
    reconstruction = log_densities("log_likelihood_fn", log_likelihood_fn, z, event_rank)
    kl = analytic_kl(posterior, prior)
    if kl is None:
        kl = sampled_kl(posterior, prior, z)
    return ELBO(reconstruction - kl, reconstruction, kl)


def analytic_kl(posterior: tfd.Distribution, prior: tfd.Distribution) -> tf.Tensor | None:
    """Returns KL(q(z|x), p(z)) in nats, float [batch], if TFP has a rule for it; else None.

    Args:
        posterior: as in `elbo`.
        prior: as in `elbo`.

    Raises:
        SMVIError: it is not one number for each x.
    """
    try:
        return check_divergence(tfd.kl_divergence(posterior, prior), posterior)
    except NotImplementedError:  # such as that of a flow or a mixture
        return None


def sampled_kl(posterior: tfd.Distribution, prior: tfd.Distribution, z: tf.Tensor) -> tf.Tensor:
    """Estimates KL(q(z|x), p(z)) in nats at samples of q: float [..., batch].

    A posterior may have `log_prob_for_kl`, which is log q(z|x) with less noise and the same mean
    over its samples.

    Args:
        posterior: as in `elbo`.
        prior: as in `elbo`.
        z: as in `elbo`.

    Raises:
        SMVIError: a shape or a dtype does not fit.
    """
    event_rank = posterior.event_shape.rank
    log_q = getattr(posterior, "log_prob_for_kl", posterior.log_prob)
    log_ratio = log_densities("posterior", log_q, z, event_rank)
    return log_ratio - log_densities("prior", prior.log_prob, z, event_rank)


def smvi_objective(
    posterior: tfd.Distribution,
    prior: tfd.Distribution,
    log_likelihood_fn: LogDensity,
    lam: float,
    z: tf.Tensor,
    lam_scale: float | tf.Tensor = 1.0,
    divergence: DivergenceName = "fisher",
) -> Objective:
    """Estimates the score-matching variational objective with one evaluation of the likelihood.

        objective = ELBO - lam * lam_scale * D(q(z|x), p(z|x));       lam = inf: only -D

    Args:
        posterior: as in `elbo`.
        prior: as in `elbo`.
        log_likelihood_fn: as in `elbo`.
        lam: any real number, or inf, and not a tensor; at 0 the divergence is not computed. Not
            inf with the weighted divergence, which vanishing variances of q would minimize.
        z: as in `elbo`.
        lam_scale: a factor on a finite lam, such as its warm-up: float scalar.
        divergence: D, a key of `tfp_smvi.objectives.divergences.DIVERGENCES`: "fisher" is D_SM,
            "weighted" D_w.

    Returns:
        The estimate and its parts.

    Raises:
        SMVIError: lam, lam_scale or divergence is none of these, a shape or a dtype does not fit,
            `posterior` is not reparameterized or its weight not known, or log_likelihood_fn has no
            gradient with respect to z.

    Source: [Levy & Ermon, eq. 6].
    """
    _check_lam(lam, divergence)
    check_posterior(posterior)
    _check_scale(lam_scale, posterior)
    if lam == 0.0:
        bound = elbo(posterior, prior, log_likelihood_fn, z)
        return Objective(bound.elbo, bound, divergence=None)
    z, event_rank = uncached(points(z, posterior)), posterior.event_shape.rank
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        bound = elbo(posterior, prior, log_likelihood_fn, z)
        log_joint = bound.reconstruction + log_densities("prior", prior.log_prob, z, event_rank)
        log_ratio = log_densities("posterior", posterior.log_prob, z, event_rank) - log_joint
    require_gradient(tape, "log_likelihood_fn", bound.reconstruction, z)
    distance = DIVERGENCES[divergence](posterior, z, tape.gradient(log_ratio, z))
    return Objective(trade_off(bound.elbo, distance, lam, lam_scale), bound, distance)


def trade_off(
    bound: tf.Tensor, divergence: tf.Tensor, lam: float, lam_scale: float | tf.Tensor = 1.0
) -> tf.Tensor:
    """Returns bound - lam * lam_scale * divergence, or -divergence if lam = inf.

    Args:
        bound: the ELBO, in nats.
        divergence: D, of the same shape.
        lam: as in `smvi_objective`.
        lam_scale: as in `smvi_objective`.
    """
    return -divergence if math.isinf(lam) else bound - lam * lam_scale * divergence


def _check_lam(lam: Any, divergence: DivergenceName) -> None:
    """Raises an SMVIError unless lam is a number, and a weight that the divergence may have."""
    if divergence not in DIVERGENCES:
        remedy = f"give {' or '.join(DIVERGENCES)}"
        raise SMVIError("is not allowed", field="divergence", value=divergence, remedy=remedy)
    if not isinstance(lam, numbers.Real) or math.isnan(lam) or lam == -math.inf:
        raise SMVIError(
            "is not allowed",
            field="lam",
            value=lam,
            remedy="give a real number or inf, and a tensor that changes as its factor {lam_scale}",
        )
    check_lam_of(divergence, float(lam))


def _check_scale(lam_scale: Any, posterior: tfd.Distribution) -> None:
    """Raises an SMVIError unless lam_scale is one number of the posterior's dtype."""
    if isinstance(lam_scale, numbers.Real):
        return
    dtype = tf.as_dtype(posterior.dtype)
    try:
        scale = tf.convert_to_tensor(lam_scale)
        given = f"has dtype {scale.dtype.name} and shape {scale.shape}"
        fits = scale.dtype == dtype and scale.shape.is_compatible_with([])
    except (TypeError, ValueError):
        given, fits = f"is of type {type(lam_scale).__name__}", False
    if not fits:
        remedy = f"give a number, or a scalar of dtype {dtype.name}, as posterior has"
        raise SMVIError(given, field="lam_scale", remedy=remedy)
