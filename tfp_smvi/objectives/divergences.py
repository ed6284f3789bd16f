"""The divergence between two densities of z, estimated at samples of one of them.

Pure functions of TFP distributions and log-density callables; no network is needed. The divergence
is in squared nats per squared unit of z.

References:
    [1] D. Levy and S. Ermon. Trading-off Learning and Inference in Deep Latent Variable Models.
"""

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.core.densities import LogDensity, check_posterior, log_densities, points
from tfp_smvi.core.errors import SMVIError

__all__ = ["require_gradient", "score_matching_divergence", "squared_norm", "uncached"]


def score_matching_divergence(
    posterior: tfd.Distribution, log_joint_fn: LogDensity, z: tf.Tensor
) -> tf.Tensor:
    """Estimates the score-matching (Fisher) divergence from q(z|x) to p(z|x) at samples of q.

        D_SM(q, p) = E_q || grad_z log q(z|x) - grad_z log p(x, z) ||^2

    p(z|x) is needed only up to a constant in z, and log p(x, z) is that. The estimate is
    differentiable with respect to z and to all parameters of `posterior` and `log_joint_fn`: an
    outer tape yields the gradient of the divergence.

    Args:
        posterior: q(z|x), any reparameterized distribution with a differentiable log_prob.
        log_joint_fn: z: [..., batch, latent_dim] -> log p(x, z) up to a constant in z: [...,
            batch], in nats.
        z: sample of `posterior`: float [..., batch, latent_dim].

    Returns:
        One estimate per sample: float [..., batch].

    Raises:
        SMVIError: a shape or a dtype does not fit, `posterior` is not reparameterized, or
            log_joint_fn has no gradient with respect to z.

    Source: [Levy & Ermon, eq. 3], with p(z|x) as in eq. 5.
    """
    check_posterior(posterior)
    z = uncached(points(z, posterior))
    event_rank = posterior.event_shape.rank
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        log_joint = log_densities("log_joint_fn", log_joint_fn, z, event_rank)
        log_ratio = log_densities("posterior", posterior.log_prob, z, event_rank) - log_joint
    require_gradient(tape, "log_joint_fn", log_joint, z)
    return squared_norm(tape.gradient(log_ratio, z), posterior)


def uncached(z: tf.Tensor) -> tf.Tensor:
    """z as a tensor that TFP's bijectors have not seen.

    A transformed distribution remembers the noise that a sample was made from, and its log_prob at
    that very tensor takes the noise from its cache: the gradient with respect to z would then be
    wrong, without an error.
    """
    return tf.identity(z)


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


def squared_norm(score_difference: tf.Tensor, posterior: tfd.Distribution) -> tf.Tensor:
    """|| . ||^2 over the event of the posterior."""
    axes = tf.range(-posterior.event_shape.rank, 0)
    return tf.reduce_sum(tf.square(score_difference), axis=axes)
