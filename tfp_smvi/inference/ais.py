"""Annealed importance sampling of log-normalizers, from below and from above.

Both directions run on `tfp.mcmc.sample_annealed_importance_chain` with a kernel that makes the
weights exact in expectation (`hmc.AnnealedHamiltonianMonteCarlo`). They take distributions and
log-densities, so that a closed-form model or a decoder of your own needs no network class.

References:
    [1] R. M. Neal. Annealed importance sampling. Statistics and Computing, 2001.
    [2] Y. Wu, Y. Burda, R. Salakhutdinov, R. Grosse. On the quantitative analysis of decoder-based
        generative models. ICLR 2017.
    [3] R. Grosse, Z. Ghahramani, R. Adams. Sandwiching the marginal likelihood using bidirectional
        Monte Carlo. 2015.
"""

from typing import Any, NamedTuple, Unpack

import tensorflow as tf

from tfp_smvi.core.densities import LogDensity
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.runtime import numerics_unchecked
from tfp_smvi.inference.annealing import AnnealedChain, Endpoints, anneal
from tfp_smvi.inference.arguments import (
    as_tensor,
    length_scale,
    require_function,
    require_scale,
    require_vectors,
    segment_step_sizes,
    stateless_seed,
)
from tfp_smvi.inference.graphs import compiled_unless_traced
from tfp_smvi.inference.results import FORWARD, REVERSE, AISResult, warned
from tfp_smvi.inference.temperatures import AnnealingOptions, AnnealingSettings

__all__ = ["annealed_importance_sampling", "reverse_annealed_importance_sampling"]


@numerics_unchecked()
def annealed_importance_sampling(
    target_log_prob_fn: LogDensity,
    initial_distribution: Any,
    *,
    step_size: Any,
    seed: int | tf.Tensor,
    scale: Any = None,
    leapfrog_log_prob_fn: LogDensity | None = None,
    jit_compile: bool = False,
    **settings: Unpack[AnnealingOptions],
) -> AISResult:
    """Estimates the log-normalizer of a density by annealing from a distribution.

        w = prod_t f_(beta_t)(z_(t-1)) / f_(beta_(t-1))(z_(t-1)),   E[w] = Z = integral of f_1

    With f_1(z) = p(x, z), Z is the likelihood p(x). The result is a function of the arguments and
    the seed alone; the chains of a data point also depend on its place in the batch and on the
    batch's shape. Called eagerly, it traces a graph; to trace once for many batches, call it in a
    `tf.function` of your own that takes the batch, the step sizes and the seed as tensors.

    Args:
        target_log_prob_fn: `log f_1`: z [num_chains, batch, latent_dim] -> [num_chains, batch],
            nats; -inf outside of its support, where the weight of a chain that starts there is 0,
            and finite everywhere else.
        initial_distribution: f_0, normalized, with batch shape [batch] and event shape
            [latent_dim]: the encoder's q(z|x), or a prior broadcast by `tfd.BatchBroadcast(prior,
            [batch])`.
        step_size: of the leapfrog integrator, in units of `scale`; broadcast to [num_segments,
            batch]. Tune it with `tune_step_sizes`, never on the chains that are weighted: adapting
            to them invalidates the bound.
        seed: an integer, or a stateless seed int32 [2].
        scale: a length per dimension that multiplies the step size, broadcast to [batch,
            latent_dim]; `initial_distribution.stddev()` if None, which has to be finite.
        leapfrog_log_prob_fn: a function like `target_log_prob_fn`, such as that of a decoder in
            lower precision, whose gradient moves the chains. Any deterministic function leaves the
            weights exact; the moves of a poor one are rejected.
        jit_compile: compile with XLA when called eagerly.
        **settings: fields of `AnnealingSettings`: num_chains (16), num_temperatures (48),
            num_leapfrog_steps (5), schedule ("sigmoid", or "linear") and num_segments (8).

    Returns:
        The weights and the chains' diagnostics. An eager call warns (UserWarning) if they should
        not be trusted, as `AISResult.warnings` says.

    Raises:
        SMVIError: an argument has a wrong value, shape or dtype; `scale` is None and the initial
            distribution has no finite standard deviation; or, in an eager call, the target differs
            at the same z.

    Source: [1], with the path of [2] and a kernel that is fresh at each temperature
        (docs/annealed-importance-sampling.md).
    """
    chains = AnnealingSettings(**settings).check()
    require_vectors(initial_distribution)
    require_scale(scale, initial_distribution)
    initial_seed, chain_seed = tf.unstack(
        tf.random.split(stateless_seed(seed, "annealed_importance_sampling"))
    )
    require_function(target_log_prob_fn, initial_distribution, chains.num_chains, initial_seed)

    def run() -> AISResult:
        state = initial_distribution.sample(chains.num_chains, seed=initial_seed)
        endpoints = Endpoints(
            initial_distribution.log_prob, target_log_prob_fn, leapfrog_log_prob_fn
        )
        problem = _Problem(endpoints, initial_distribution, step_size, scale, chains)
        return problem.walk(state, FORWARD, chain_seed)

    return warned(compiled_unless_traced(run, jit_compile), FORWARD)


@numerics_unchecked()
def reverse_annealed_importance_sampling(
    target_log_prob_fn: LogDensity,
    initial_distribution: Any,
    exact_samples: Any,
    *,
    step_size: Any,
    seed: int | tf.Tensor,
    scale: Any = None,
    leapfrog_log_prob_fn: LogDensity | None = None,
    jit_compile: bool = False,
    **settings: Unpack[AnnealingOptions],
) -> AISResult:
    """Bounds a log-normalizer from above by annealing from exact samples of the target.

    Target and initial distribution change places, so that the weights estimate 1 / Z and `E[-log
    mean(w)] >= log Z`. With `annealed_importance_sampling` at the same settings it brackets log Z:
    bidirectional Monte Carlo. Exact samples are at hand for simulated data: draw z from the prior
    and x from p(x|z); z is then a sample of p(z|x).

    Args:
        target_log_prob_fn: as in `annealed_importance_sampling`.
        initial_distribution: as in `annealed_importance_sampling`, for the same data.
        exact_samples: samples of the density proportional to f_1: [batch, latent_dim], which all
            chains of a data point start from, or [num_chains, batch, latent_dim], one for each
            chain.
        step_size: as in `annealed_importance_sampling`, the same values in the same order: segment
            0 is the one at the initial distribution.
        seed: an integer, or a stateless seed int32 [2].
        scale: as in `annealed_importance_sampling`.
        leapfrog_log_prob_fn: as in `annealed_importance_sampling`.
        jit_compile: compile with XLA when called eagerly.
        **settings: as in `annealed_importance_sampling`, the same values.

    Returns:
        The weights and the chains' diagnostics, with the same warnings.

    Raises:
        SMVIError: as in `annealed_importance_sampling`.

    Source: [3].
    """
    chains = AnnealingSettings(**settings).check()
    require_vectors(initial_distribution)
    require_scale(scale, initial_distribution)
    chain_seed = stateless_seed(seed, "reverse_annealed_importance_sampling")
    require_function(target_log_prob_fn, initial_distribution, chains.num_chains, chain_seed)

    def run() -> AISResult:
        state = _start_at(exact_samples, chains.num_chains, initial_distribution)
        endpoints = Endpoints(
            initial_distribution.log_prob, target_log_prob_fn, leapfrog_log_prob_fn
        )
        problem = _Problem(endpoints, initial_distribution, step_size, scale, chains)
        return problem.walk(state, REVERSE, chain_seed)

    return warned(compiled_unless_traced(run, jit_compile), REVERSE)


class _Problem(NamedTuple):
    """The densities between which chains anneal, and how they move."""

    endpoints: Endpoints
    initial_distribution: Any
    step_size: Any
    scale: Any
    chains: AnnealingSettings

    def walk(self, state: tf.Tensor, direction: int, seed: tf.Tensor) -> AISResult:
        """Walks the path from a state [num_chains, batch, latent_dim], in either direction."""
        initial, chains, path = self.initial_distribution, self.chains, self.chains.path()
        step_size = segment_step_sizes(self.step_size, chains.num_segments, initial)
        chain: AnnealedChain = anneal(
            self.endpoints,
            state,
            path=path if direction == FORWARD else path.reversed(),
            # The caller's segments are in the order of the forward path.
            step_size=step_size[::direction, :, tf.newaxis] * length_scale(self.scale, initial),
            num_leapfrog_steps=chains.num_leapfrog_steps,
            seed=seed,
        )
        # One where the chains start, and one after each leapfrog step; the weights take none.
        num_gradients = chains.num_temperatures * chains.num_leapfrog_steps + 1
        return AISResult(
            log_weights=chain.log_weights,
            final_state=chain.state,
            acceptance_rate=chain.acceptance_rate[::direction],
            step_size=step_size,
            num_gradient_evaluations=tf.constant(num_gradients),
            direction=tf.constant(direction),
        )


def _start_at(exact_samples: Any, num_chains: int, initial_distribution: Any) -> tf.Tensor:
    """Gives every chain its exact sample: float [num_chains, batch, latent_dim]."""
    exact_samples = as_tensor("exact_samples", exact_samples, initial_distribution.dtype)
    shape = tf.concat(
        [
            [num_chains],
            initial_distribution.batch_shape_tensor(),
            initial_distribution.event_shape_tensor(),
        ],
        axis=0,
    )
    static_shape = [
        num_chains,
        *initial_distribution.batch_shape,
        *initial_distribution.event_shape,
    ]
    if not any(exact_samples.shape.is_compatible_with(static_shape[axis:]) for axis in (0, 1)):
        raise SMVIError(
            f"has shape {tuple(exact_samples.shape)}",
            field="exact_samples",
            remedy="give [batch, latent_dim] or [num_chains, batch, latent_dim], here "
            f"{tuple(static_shape)}",
        )
    return tf.ensure_shape(tf.broadcast_to(exact_samples, shape), static_shape)
