"""The two halves of the gap, by the best q(z|x) of each example in a block.

    amortization gap  = ELBO(q*) - ELBO(q)          what a better encoder could gain
    approximation gap = log p(x) - ELBO(q*)         what a better family could gain

References:
    [1] C. Cremer, X. Li, D. Duvenaud. Inference Suboptimality in Variational Autoencoders.
        ICML 2018.
"""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfp_smvi.config import EvaluateConfig, LocalObjectiveName
from tfp_smvi.core.densities import LogDensity, uncached
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.runtime import compiled
from tfp_smvi.evaluation.draws import means_over_draws, over_draws, to_numpy
from tfp_smvi.inference.ascent import LocalObjective
from tfp_smvi.inference.families import FAMILIES, LocalDistribution, Parameters
from tfp_smvi.inference.local import ELBO, refine
from tfp_smvi.models.protocol import LatentVariableModel
from tfp_smvi.objectives.divergences import score_matching_divergence

__all__ = ["LOCAL_OBJECTIVES", "LocalEstimator", "require_families"]


def _minus_divergence(q: LocalDistribution, log_joint: LogDensity, z: tf.Tensor) -> tf.Tensor:
    return -score_matching_divergence(q, log_joint, z)


# How far from the encoder's mean a second search begins, in standard deviations of q.
SECOND_START = 3.0
# A divergence is known to a share; 0.01 of it is as little as 0.01 nat.
LOCAL_OBJECTIVES: dict[LocalObjectiveName, LocalObjective] = {
    "elbo": ELBO,
    "divergence": LocalObjective(_minus_divergence, 0.0, relative_tolerance=0.01),
}


class _Best(NamedTuple):
    """The best q of a family for each example of a block.

    Attributes:
        parameters: those of the family.
        estimates: what `LocalEstimator.refined` returns, and the elbo of draws alone, float32
            [batch].
        mean: of z at the final draws, float32 [batch, latent_dim].
        stddev: its standard deviation.
    """

    parameters: Parameters
    estimates: dict[str, tf.Tensor]
    mean: tf.Tensor
    stddev: tf.Tensor


class LocalEstimator:
    """Finds the best q(z|x) of each example of a block, each family in a graph traced once.

    Args:
        model: the model, in float32.
        config: the families, the objective, the steps, and the numbers of the final draws.
    """

    def __init__(self, model: LatentVariableModel, config: EvaluateConfig) -> None:
        """Traces nothing yet."""
        self._model, self._config = model, config
        self._best = {
            family: compiled(functools.partial(self._refine, family)) for family in FAMILIES
        }

    def refined(self, x: tf.Tensor, seed: tf.Tensor) -> dict[str, np.ndarray]:
        """Finds the best q of each family; the others start at the best of "diagonal".

        Args:
            x: float32 [batch, *image_shape].
            seed: int32 [2]. All families have the same draws.

        Returns:
            amortization_gap = ELBO(q*) - ELBO(q) by draws that no step has used, and its standard
            error, amortization_gap_error, in nats; local_divergence = D_SM(q*, p(z|x)) and its
            local_divergence_error; local_converged, 0 or 1; local_steps: float32 [batch,
            num_families], in the order of `config.local_families`.

        Source: [1, section 3.2].
        """
        optima = {"diagonal": self._best["diagonal"](x, seed, self._moved(x, seed, 0.0))}
        start = {name: optima["diagonal"].parameters[name] for name in ("shift", "log_scale")}
        for family in self._config.local_families:
            if family not in optima:
                optima[family] = self._best[family](x, seed, start)
        columns = [to_numpy(optima[family].estimates) for family in self._config.local_families]
        names = [name for name in columns[0] if not name.startswith("elbo")]
        return {name: np.stack([column[name] for column in columns], axis=1) for name in names}

    def restarted(self, x: tf.Tensor, seed: tf.Tensor) -> dict[str, np.ndarray]:
        """Finds the best diagonal q a second time, from a mean that is elsewhere.

        Each latent of the mean is moved by a normal number of standard deviation SECOND_START, in
        units of the encoder's q.

        Args:
            x: float32 [batch, *image_shape].
            seed: int32 [2].

        Returns:
            restart_distance, the largest difference of the two means over the latents, in standard
            deviations; restart_gain, the ELBO of the second end minus that of the first, in nats,
            and restart_gain_error; restart_converged, 1 if both have: float32 [batch].
        """
        optimum, restart = (
            self._best["diagonal"](x, seed, self._moved(x, seed, stddev))
            for stddev in (0.0, SECOND_START)
        )
        stddev = tf.sqrt(0.5 * (optimum.stddev**2 + restart.stddev**2))
        first, second = to_numpy(optimum.estimates), to_numpy(restart.estimates)
        return {
            "restart_distance": tf.reduce_max(
                tf.abs(restart.mean - optimum.mean) / stddev, 1
            ).numpy(),
            "restart_gain": second["elbo"] - first["elbo"],
            "restart_gain_error": np.hypot(first["elbo_error"], second["elbo_error"]),
            "restart_converged": first["local_converged"] * second["local_converged"],
        }

    def _moved(self, x: tf.Tensor, seed: tf.Tensor, stddev: float) -> Parameters:
        """The start of a diagonal q whose mean is moved at random: float32 [batch, latent_dim]."""
        shape = [x.shape[0], self._model.prior.event_shape[0]]
        shift = tf.random.stateless_normal(shape, tf.random.fold_in(seed, 1), stddev=stddev)
        return {"shift": shift, "log_scale": tf.zeros(shape)}

    def _refine(
        self,
        family: str,
        x: tf.Tensor,
        seed: tf.Tensor,
        initial: Parameters,
    ) -> _Best:
        """The best q of x in a family, from the encoder's q with an initial shift and scale."""
        config, start = self._config, self._model.encode(x)
        search_seed, final_seed, divergence_seed = tf.unstack(tf.random.split(seed, 3))

        def log_joint(z: tf.Tensor) -> tf.Tensor:
            return self._model.log_joint(x, z)

        best = refine(
            log_joint,
            start,
            family=family,
            objective=LOCAL_OBJECTIVES[config.local_objective],
            initial=initial,
            num_steps=config.local_steps,
            seed=search_seed,
        )
        q = LocalDistribution(start, FAMILIES[family], best.parameters)

        def terms(z0: tf.Tensor) -> tf.Tensor:
            """The ELBO of q* and what it is above that of q, at the same draws, and z."""
            z0 = uncached(z0)
            mapped, before = q.map(z0), log_joint(z0)
            after = log_joint(mapped.values) + mapped.log_det
            numbers = tf.stack([after - start.log_prob(z0), after - before], axis=-1)
            return tf.concat([numbers, mapped.values], axis=-1)

        batch, dim = x.shape[0], start.event_shape[0]
        draws = over_draws(terms, start, config.num_elbo_samples, final_seed, [batch, 2 + dim])
        divergences = over_draws(
            lambda z: score_matching_divergence(q, log_joint, z)[..., tf.newaxis],
            q,
            config.num_divergence_samples,
            divergence_seed,
            [batch, 1],
        )
        estimates = means_over_draws(("elbo", "amortization_gap"), draws[..., :2])
        estimates |= means_over_draws(("local_divergence",), divergences)
        estimates |= {
            "local_converged": tf.cast(best.converged, tf.float32),
            "local_steps": tf.cast(best.num_steps, tf.float32),
        }
        z = draws[..., 2:]
        return _Best(
            best.parameters, estimates, tf.reduce_mean(z, axis=0), tf.math.reduce_std(z, axis=0)
        )


def require_families(config: EvaluateConfig, latent_dim: int) -> None:
    """Raises an SMVIError if a family to find needs more latents than the model has."""
    for family in config.local_families if config.local else ():
        least = FAMILIES[family].least_dim
        if latent_dim < least:
            raise SMVIError(
                f"has {family}, which needs at least {least} latents, and the model has "
                f"{latent_dim}",
                field="local_families",
                remedy=f"leave {family} out",
            )
