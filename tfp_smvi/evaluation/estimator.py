"""The estimates for one block of examples: bounds, annealed likelihoods, and the bracket.

A block has a fixed number of examples, so that a graph is traced once, and its draws follow from
its own seed, so that its bits do not depend on what else is evaluated, in which order, or where.

References:
    [1] Y. Wu, Y. Burda, R. Salakhutdinov, R. Grosse. On the quantitative analysis of decoder-based
        generative models. ICLR 2017.
    [2] R. Grosse, Z. Ghahramani, R. Adams. Sandwiching the marginal likelihood using bidirectional
        Monte Carlo. 2015.
"""

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.config import AISConfig, EvaluateConfig
from tfp_smvi.core.quantities import OF_DIVERGENCE
from tfp_smvi.core.runtime import compiled
from tfp_smvi.evaluation.calibration import CalibrationEstimator
from tfp_smvi.evaluation.draws import (
    CHUNK_SIZE,
    Estimates,
    means_over_draws,
    over_draws,
    standard_error,
    to_numpy,
)
from tfp_smvi.evaluation.local import LocalEstimator
from tfp_smvi.evaluation.problems import Problems
from tfp_smvi.inference.ais import (
    annealed_importance_sampling,
    reverse_annealed_importance_sampling,
)
from tfp_smvi.inference.importance import importance_weighted_bound
from tfp_smvi.inference.moments import relative_moments
from tfp_smvi.inference.temperatures import AnnealingOptions
from tfp_smvi.inference.tuning import tune_step_sizes
from tfp_smvi.inference.weights import delta_method_errors, sum_weights
from tfp_smvi.models.dependence import reconstruction_change
from tfp_smvi.models.protocol import LatentVariableModel
from tfp_smvi.objectives.divergences import DIVERGENCES, known_divergences, score_difference
from tfp_smvi.objectives.smvi import analytic_kl, sampled_kl

__all__ = ["BlockEstimator"]


class BlockEstimator:
    """The estimators for blocks of examples, each traced at its first call.

    Every result maps names to arrays with the example as their first axis. Errors of log mean(w)
    are those of the delta method, for `covering_errors` over all examples.

    Args:
        model: the model, in float32.
        config: the numbers of draws and the annealing settings.

    Attributes:
        local: the estimator of the best q of each example.
        calibration: the estimator of the ranks of exact posterior samples.
    """

    def __init__(self, model: LatentVariableModel, config: EvaluateConfig) -> None:
        """Traces nothing yet."""
        self._model, self._config = model, config
        self._problem = Problems(model, config.ais)
        self.local = LocalEstimator(model, config)
        self._bounds = compiled(self._estimate_bounds)
        # The chains on data and those on simulated examples share graphs.
        self._simulated = compiled(self._simulate)
        self.calibration = CalibrationEstimator(model, self._simulated)
        self._tuned = compiled(self._tune)
        self._annealed = compiled(self._anneal)
        self._annealed_back = compiled(self._anneal_back)

    def bounds(self, x: tf.Tensor, seed: tf.Tensor) -> dict[str, np.ndarray]:
        """Estimates what needs no annealing.

            ELBO = E_q[log p(x|z)] - KL(q(z|x), p(z))
            IWAE = E[log(1/n sum_i p(x, z_i) / q(z_i|x))]

        Args:
            x: float32 [block, *image_shape].
            seed: int32 [2].

        Returns:
            elbo, kl, iwae_bound (nats), divergence (D_SM, squared nats per squared unit of z) and
            weighted_divergence (D_w, squared nats; not of a posterior whose covariance is unknown),
            with their standard errors over draws as "<name>_error": float32 [block]; an
            analytic kl has none. pareto_k, of the IWAE bound's weights, and reconstruction_change,
            in nats: float32 [block]. posterior_mean: float32 [block, latent_dim].
        """
        return to_numpy(self._bounds(x, seed))

    def annealed(self, x: tf.Tensor, seed: tf.Tensor) -> dict[str, np.ndarray]:
        """Estimates log p(x) by annealed importance sampling, with step sizes from a pilot run.

        Args:
            x: float32 [block, *image_shape].
            seed: int32 [2].

        Returns:
            log_likelihood and its standard error over chains, log_likelihood_error, in nats, and
            effective_sample_size: float32 [block]; acceptance_rate and step_size: float32
            [block, num_segments]; shift, squared_shift and variance_ratio, the
            `relative_moments` of p(z|x) in units of q(z|x): float32 [block, latent_dim].

        Source: [1].
        """
        pilot_seed, chain_seed = tf.unstack(tf.random.split(seed))
        return to_numpy(self._annealed(x, self._tuned(x, pilot_seed), chain_seed))

    def bracketed(self, seed: tf.Tensor) -> dict[str, np.ndarray]:
        """Simulates examples from the model and bounds log p(x) from both sides.

            z ~ p(z), x ~ p(x|z): z is an exact sample of p(z|x), where the reverse chains start

        Args:
            seed: int32 [2].

        Returns:
            lower_bound and upper_bound with their standard errors over chains, in nats: float32
            [block]; acceptance_rate and reverse_acceptance_rate: float32 [block,
            num_segments].

        Source: [2].
        """
        z_seed, x_seed, pilot_seed, forward_seed, reverse_seed = tf.unstack(
            tf.random.split(seed, 5)
        )
        z, x = self._simulated(z_seed, x_seed)
        step_size = self._tuned(x, pilot_seed)
        forward = self._annealed(x, step_size, forward_seed)
        lower = {
            "lower_bound": forward["log_likelihood"],
            "lower_bound_error": forward["log_likelihood_error"],
            "acceptance_rate": forward["acceptance_rate"],
        }
        return to_numpy(lower | self._annealed_back(x, z, step_size, reverse_seed))

    def _estimate_bounds(self, x: tf.Tensor, seed: tf.Tensor) -> Estimates:
        model, config = self._model, self._config
        elbo_seed, divergence_seed, weights_seed = tf.unstack(tf.random.split(seed, 3))
        posterior = model.encode(x)
        elbo = self._elbo(x, posterior, elbo_seed)
        divergences = self._divergences(x, posterior, divergence_seed)
        importance_weighted = importance_weighted_bound(
            lambda z: model.log_joint(x, z),
            posterior,
            num_samples=config.num_importance_samples,
            chunk_size=CHUNK_SIZE,
            seed=weights_seed,
        )
        return (
            elbo
            | divergences
            | {
                "iwae_bound": importance_weighted.bound,
                "iwae_bound_error": delta_method_errors(
                    importance_weighted.effective_sample_size, config.num_importance_samples
                ),
                "pareto_k": importance_weighted.pareto_k,
                "reconstruction_change": reconstruction_change(model, x, posterior.mean()),
                "posterior_mean": posterior.mean(),
            }
        )

    def _elbo(self, x: tf.Tensor, posterior: tfd.Distribution, seed: tf.Tensor) -> Estimates:
        """The bound and its KL divergence, which is estimated at the same draws if need be."""
        model, num_draws = self._model, self._config.num_elbo_samples
        kl = analytic_kl(posterior, model.prior)
        if kl is not None:
            draws = over_draws(
                lambda z: model.decode(z).log_prob(x), posterior, num_draws, seed, x.shape[:1]
            )
            elbo = tf.reduce_mean(draws, axis=0) - kl
            return {"elbo": elbo, "elbo_error": standard_error(draws), "kl": kl}

        def terms(z: tf.Tensor) -> tf.Tensor:
            # Its two terms vary together the more, the better q(z|x) is. The KL's do not: a
            # posterior may know it with less noise, and the ELBO would have more with that.
            elbo = model.log_joint(x, z) - posterior.log_prob(z)
            return tf.stack([elbo, sampled_kl(posterior, model.prior, z)], axis=-1)

        draws = over_draws(terms, posterior, num_draws, seed, [x.shape[0], 2])
        return means_over_draws(("elbo", "kl"), draws)

    def _divergences(self, x: tf.Tensor, posterior: tfd.Distribution, seed: tf.Tensor) -> Estimates:
        """All divergences that are known for the posterior, from the same score differences."""
        names = known_divergences(posterior)

        def terms(z: tf.Tensor) -> tf.Tensor:
            difference = score_difference(posterior, lambda z: self._model.log_joint(x, z), z)
            values = [DIVERGENCES[name](posterior, z, difference) for name in names]
            return tf.stack(values, axis=-1)

        num_draws = self._config.num_divergence_samples
        draws = over_draws(terms, posterior, num_draws, seed, [x.shape[0], len(names)])
        return means_over_draws([OF_DIVERGENCE[name].name for name in names], draws)

    def _simulate(self, z_seed: tf.Tensor, x_seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws z ~ p(z) and x ~ p(x|z)."""
        z = self._model.prior.sample(self._config.examples_of_block, seed=z_seed)
        return z, self._model.decode(z).sample(seed=x_seed)

    def _anneal(self, x: tf.Tensor, step_size: tf.Tensor, seed: tf.Tensor) -> Estimates:
        problem = self._problem(x)
        result = annealed_importance_sampling(
            problem.log_joint,
            problem.initial,
            scale=problem.scale,
            leapfrog_log_prob_fn=problem.leapfrog,
            step_size=step_size,
            seed=seed,
            **_settings(self._config.ais),
        )
        moments = relative_moments(
            result.log_weights, result.final_state, problem.mean, problem.scale
        )
        return {
            **moments._asdict(),
            "log_likelihood": result.log_normalizer(),
            "log_likelihood_error": sum_weights(result.log_weights).standard_error(),
            "effective_sample_size": result.effective_sample_size(),
            "acceptance_rate": tf.transpose(result.acceptance_rate),
            "step_size": tf.transpose(result.step_size),
        }

    def _anneal_back(
        self, x: tf.Tensor, z: tf.Tensor, step_size: tf.Tensor, seed: tf.Tensor
    ) -> Estimates:
        problem = self._problem(x)
        result = reverse_annealed_importance_sampling(
            problem.log_joint,
            problem.initial,
            exact_samples=z,
            scale=problem.scale,
            leapfrog_log_prob_fn=problem.leapfrog,
            step_size=step_size,
            seed=seed,
            **_settings(self._config.ais),
        )
        return {
            "upper_bound": result.log_normalizer_upper_bound(),
            "upper_bound_error": sum_weights(result.log_weights).standard_error(),
            "reverse_acceptance_rate": tf.transpose(result.acceptance_rate),
        }

    def _tune(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        problem, ais = self._problem(x), self._config.ais
        settings = _settings(ais)
        settings["num_chains"] = ais.num_pilot_chains
        settings["num_temperatures"] = ais.num_pilot_temperatures
        return tune_step_sizes(
            problem.log_joint,
            problem.initial,
            scale=problem.scale,
            leapfrog_log_prob_fn=problem.leapfrog,
            target_acceptance_rate=ais.target_acceptance_rate,
            seed=seed,
            **settings,
        )


def _settings(ais: AISConfig) -> AnnealingOptions:
    """The settings that the pilot and the run that counts share."""
    return {
        "num_chains": ais.num_chains,
        "num_temperatures": ais.num_temperatures,
        "num_leapfrog_steps": ais.num_leapfrog_steps,
        "schedule": ais.schedule,
        "num_segments": ais.segments,
    }
