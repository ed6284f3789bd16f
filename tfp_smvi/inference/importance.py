"""The importance-weighted bound of a log-likelihood, in constant memory."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfp_smvi.core.densities import LogDensity, log_densities
from tfp_smvi.core.errors import name_fields
from tfp_smvi.core.runtime import numerics_unchecked
from tfp_smvi.core.warnings import warn
from tfp_smvi.inference.arguments import (
    known_numbers,
    require_function,
    require_positive_integer,
    require_vectors,
    stateless_seed,
)
from tfp_smvi.inference.pareto import largest_of, tail_k, tail_size
from tfp_smvi.inference.warnings import (
    FEWEST_WEIGHTS,
    few_warnings,
    not_finite_warnings,
    size_warnings,
)
from tfp_smvi.inference.weights import WeightSums, covering_errors, delta_method_errors, sum_weights

__all__ = ["ImportanceWeightedBound", "importance_weighted_bound"]


class ImportanceWeightedBound(NamedTuple):
    """The importance-weighted lower bound of a log-likelihood.

    Attributes:
        bound: `log mean(w)`, whose expectation is below `log p(x)`: float [batch], nats.
        standard_error: its standard error over the draws from the posterior, as that of
            `AISResult`: float [batch], nats.
        effective_sample_size: the number of draws that carry the mean: float [batch].
        num_samples: the number of draws, an integer scalar.
        pareto_k: the shape of the weights' tail (`tfp_smvi.pareto_k`): float [batch]. Up to 0.5 the
            bound and its error can be trusted as an estimate of log p(x), above 0.7 they cannot.
    """

    bound: tf.Tensor
    standard_error: tf.Tensor
    effective_sample_size: tf.Tensor
    num_samples: int | tf.Tensor
    pareto_k: tf.Tensor

    def warnings(self) -> tuple[str, ...]:
        """Why the bound is probably far below log p(x), with numbers; empty if it is close.

        An eager call warns of the same (UserWarning); one in a `tf.function` cannot.

        Raises:
            SMVIError: the result is that of a graph that is being traced.
        """
        bound, _, sizes, count, _ = known_numbers(self)
        finite = np.isfinite(bound)
        lines = not_finite_warnings(finite)
        if finite.any() and count < FEWEST_WEIGHTS:
            lines += few_warnings(int(count), "draws", "{num_samples}")
        elif finite.any():
            remedy = "raise {num_samples}, or use annealed_importance_sampling"
            # By the delta method, the bias is half of the variance.
            bias = delta_method_errors(tf.constant(sizes[finite]), int(count)).numpy() ** 2 / 2
            lines += size_warnings(sizes[finite], bias, int(count), "draws", "low", remedy)
        return tuple(map(name_fields, lines))


@numerics_unchecked()
def importance_weighted_bound(
    target_log_prob_fn: LogDensity,
    posterior: Any,
    *,
    num_samples: int,
    chunk_size: int = 64,
    seed: int | tf.Tensor,
) -> ImportanceWeightedBound:
    """Bounds a log-likelihood from below with draws from a posterior, in constant memory.

        log p(x) >= E[log(1/n sum_i w_i)],   w_i = p(x, z_i) / q(z_i|x),   z_i ~ q(z|x)

    The draws come in chunks, chunk i from the seed folded with i, so that memory does not grow with
    `num_samples`; of the weights, only the largest are kept, for their tail. Call it in a
    `tf.function` of your own to trace it once for many batches.

    Args:
        target_log_prob_fn: `log p(x, z)`: z [chunk_size, batch, latent_dim] -> [chunk_size, batch],
            nats.
        posterior: q(z|x), a distribution with batch shape [batch] and event shape [latent_dim].
        num_samples: draws per data point, at least 1.
        chunk_size: draws that are in memory at a time, at least 1.
        seed: an integer, or a stateless seed int32 [2].

    Returns:
        The bound, its standard error, the effective sample size and the shape of the weights' tail:
        float [batch]. An eager call warns (UserWarning) if the effective sample size is too small
        for an estimate of log p(x).

    Raises:
        SMVIError: a number is not a positive integer, a shape or a dtype is wrong, or, in an eager
            call, the target differs at the same z.

    Source: [Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders", 2016, eq. 8].
    """
    require_positive_integer("num_samples", num_samples)
    require_positive_integer("chunk_size", chunk_size)
    require_vectors(posterior, "posterior")
    chunk_size = min(chunk_size, num_samples)
    seed = stateless_seed(seed, "importance_weighted_bound")
    require_function(target_log_prob_fn, posterior, chunk_size, seed)

    def add_chunk(
        index: tf.Tensor, log_sum: tf.Tensor, log_sum_of_squares: tf.Tensor, largest: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        z = posterior.sample(chunk_size, seed=tf.random.fold_in(seed, index))
        log_weights = log_densities("target_log_prob_fn", target_log_prob_fn, z) - log_densities(
            "posterior", posterior.log_prob, z
        )
        # The last chunk is drawn whole, so that shapes stay fixed; what lies beyond num_samples
        # weighs nothing.
        counts = index * chunk_size + tf.range(chunk_size) < num_samples
        log_weights = tf.where(counts[:, tf.newaxis], log_weights, -float("inf"))
        chunk = sum_weights(log_weights)
        return (
            index + 1,
            tf.experimental.numpy.logaddexp(log_sum, chunk.log_sum),
            tf.experimental.numpy.logaddexp(log_sum_of_squares, chunk.log_sum_of_squares),
            largest_of(tf.concat([largest, log_weights], axis=0), num_samples),
        )

    batch_shape, zero = posterior.batch_shape_tensor(), tf.constant(-float("inf"), posterior.dtype)
    nothing = tf.fill(batch_shape, zero)
    none = tf.fill(tf.concat([[tail_size(num_samples) + 1], batch_shape], axis=0), zero)
    num_chunks = -(-num_samples // chunk_size)
    _, log_sum, log_sum_of_squares, largest = tf.while_loop(
        lambda index, *_: index < num_chunks, add_chunk, (0, nothing, nothing, none)
    )
    sums = WeightSums(log_sum, log_sum_of_squares, num_samples)
    result = ImportanceWeightedBound(
        sums.log_mean(),
        covering_errors(sums.standard_error()),
        sums.effective_sample_size(),
        num_samples,
        # A NaN among the weights is in their sum, and need not be among the largest.
        tail_k(largest, num_samples) + 0.0 * log_sum,
    )
    if not tf.inside_function():
        warn(result.warnings())
    return result
