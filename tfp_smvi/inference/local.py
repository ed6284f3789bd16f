"""The best q(z|x) of each example: parameters of its own, in place of those of an encoder.

    q*(z|x) = argmax over a family of ELBO(q),      ELBO(q) = E_q[log p(x, z) - log q(z|x)]

What ELBO(q*) is above the ELBO of the encoder's q is the encoder's fault, the amortization gap.
What it is below log p(x) is the family's, the approximation gap [1].

Each step takes new draws. With the same draws in all steps the parameters fit the draws: their
value at n draws is too high by (number of parameters) / (2 n) nats. The gradient leaves out the
term of mean 0 that the parameters of log q have [2], so that its noise vanishes with the gap. The
draws by which iterates are compared are always the same, and no step uses them.

References:
    [1] C. Cremer, X. Li, D. Duvenaud. Inference Suboptimality in Variational Autoencoders.
        ICML 2018.
    [2] G. Roeder, Y. Wu, D. Duvenaud. Sticking the Landing: Simple, Lower-Variance Gradient
        Estimators for Variational Inference. NeurIPS 2017.
"""

from typing import Any

import tensorflow as tf

from tfp_smvi.core.densities import LogDensity, check_posterior, log_densities, uncached
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.runtime import uses_gpu
from tfp_smvi.inference.arguments import require_positive_integer, require_vectors, stateless_seed
from tfp_smvi.inference.ascent import Ascent, LocalObjective, Refined
from tfp_smvi.inference.families import FAMILIES, LocalDistribution, Parameters
from tfp_smvi.inference.graphs import compiled_unless_traced

__all__ = ["ELBO", "refine"]


def _elbo(q: LocalDistribution, log_joint: LogDensity, z: tf.Tensor) -> tf.Tensor:
    """log p(x, z) - log q(z|x), with the path derivative [2]."""
    return log_densities("log_joint", log_joint, z) - q.stopped().log_prob(uncached(z))


ELBO = LocalObjective(_elbo, absolute_tolerance=0.01, relative_tolerance=0.0)


def refine(
    log_joint: LogDensity,
    start: Any,
    *,
    family: str = "diagonal",
    objective: LocalObjective = ELBO,
    initial: Parameters | None = None,
    num_steps: int = 500,
    seed: int | tf.Tensor,
) -> Refined:
    """Finds the best q(z|x) of a family for each example, by Adam from an encoder's q(z|x).

    The result is at least as good as the start at the common draws. Call it in a `tf.function` of
    your own to trace it once for many batches.

    Args:
        log_joint: z: [n, batch, latent_dim] -> log p(x, z) up to a constant in z: [n, batch], nats.
        start: the encoder's q(z|x): reparameterized, float32, batch shape [batch], event shape
            [latent_dim], with mean and stddev.
        family: a key of `tfp_smvi.inference.families.FAMILIES`.
        objective: what to improve; the ELBO, in nats, unless given.
        initial: `parameters` of the result of another family, whose shift and scale to start at;
            None starts at q(z|x) itself.
        num_steps: the most steps.
        seed: an integer, or a stateless seed int32 [2].

    Returns:
        The parameters, for `LocalDistribution(start, FAMILIES[family], parameters)`, and whether
        they have converged.

    Raises:
        SMVIError: an argument is not allowed, or the latents are too few for the family.

    Source: [Cremer, Li & Duvenaud, section 3.2].
    """
    require_positive_integer("num_steps", num_steps)
    require_vectors(start, "start")
    _require_start(start, family)
    seed = stateless_seed(seed, "refine")
    ascent = Ascent(log_joint, start, FAMILIES[family], objective, num_steps, seed)
    shared = {name: initial[name] for name in ("shift", "log_scale")} if initial else {}
    return compiled_unless_traced(lambda: ascent.run(shared), uses_gpu())


def _require_start(start: Any, family: str) -> None:
    """Raises an SMVIError unless the family can start there."""
    if family not in FAMILIES:
        names = ", ".join(FAMILIES)
        raise SMVIError(
            "is not allowed", field="family", value=family, remedy=f"give one of {names}"
        )
    check_posterior(start)
    if start.dtype != tf.float32:
        raise SMVIError(f"has dtype {start.dtype.name}", field="start", remedy="give float32")
    least = FAMILIES[family].least_dim
    if start.event_shape[0] < least:
        raise SMVIError(
            f"needs at least {least} latents",
            field="family",
            value=family,
            remedy="leave it out",
        )
