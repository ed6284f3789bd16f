"""Checks and conversions of arguments that several estimators share."""

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_smvi.core.densities import (
    LogDensity,
    broadcasts,
    check_distribution,
    log_densities,
    uncached,
)
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.seeds import fold_seed

__all__ = [
    "as_tensor",
    "differing_values",
    "known_numbers",
    "length_scale",
    "require_function",
    "require_positive_integer",
    "require_scale",
    "require_vectors",
    "segment_step_sizes",
    "stateless_seed",
]

# Some operations of a GPU add in any order; noise such as dropout's is far larger.
ROUNDING = 1e-4


def require_positive_integer(name: str, value: int) -> None:
    """Raises an SMVIError that names the argument unless `value` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        remedy = "give an integer of at least 1"
        raise SMVIError("is not allowed", field=name, value=value, remedy=remedy)


def stateless_seed(seed: int | tf.Tensor, purpose: str) -> tf.Tensor:
    """Returns an integer seed folded with its purpose, and a stateless seed int32 [2] unchanged."""
    if isinstance(seed, numbers.Integral):
        return fold_seed(int(seed), purpose)
    seed = as_tensor("seed", seed, tf.int32)
    if seed.shape != [2]:
        raise _wrong_shape("seed", seed.shape, "give an integer, or a stateless seed int32 [2]")
    return seed


def require_vectors(distribution: Any, name: str = "initial_distribution") -> None:
    """Raises an SMVIError unless the distribution is one of batches of floating-point vectors."""
    check_distribution(name, distribution)
    if len(distribution.batch_shape) != 1 or len(distribution.event_shape) != 1:
        raise SMVIError(
            f"has batch shape {distribution.batch_shape} and event shape "
            f"{distribution.event_shape}",
            field=name,
            remedy="give [batch] and [latent_dim], with tfd.BatchBroadcast for a prior and "
            "tfd.Independent for a product",
        )


def differing_values(density: Callable[[], tf.Tensor]) -> tuple[float, float] | None:
    """Two values of a density at the same point that differ; None if all are the same."""
    first, second = np.asarray(density()), np.asarray(density())
    same = np.isclose(first, second, ROUNDING, ROUNDING, equal_nan=True)
    if same.all():
        return None
    worst = same.argmin()
    return float(first.flat[worst]), float(second.flat[worst])


def require_function(
    target_log_prob_fn: LogDensity, distribution: Any, num_samples: int, seed: tf.Tensor
) -> None:
    """Raises an SMVIError if a target differs at the same z, which a Markov chain cannot sample.

    It evaluates the target twice at draws of a distribution, in an eager call alone.
    """
    if tf.inside_function():
        return
    z = uncached(distribution.sample(num_samples, seed=seed))
    name = "target_log_prob_fn"
    values = differing_values(lambda: log_densities(name, target_log_prob_fn, z))
    if values is not None:
        raise SMVIError(
            "is random: at the same z it is {:.6g} and {:.6g}".format(*values),
            field=name,
            remedy="leave out what is random, such as Dropout",
        )


def known_numbers(result: tuple[Any, ...]) -> list[np.ndarray]:
    """The tensors of a result as arrays, or an SMVIError while a graph of them is traced."""
    if any(map(tf.is_symbolic_tensor, result)):
        raise SMVIError(
            "the numbers are not known while a graph is traced",
            remedy="return the result from the tf.function and call warnings() outside of it",
        )
    return [np.asarray(part) for part in result]


def segment_step_sizes(step_size: Any, num_segments: int, initial_distribution: Any) -> tf.Tensor:
    """Broadcasts step sizes to [num_segments, batch], or raises an SMVIError."""
    step_size = as_tensor("step_size", step_size, initial_distribution.dtype)
    static_shape = tf.TensorShape([num_segments, *initial_distribution.batch_shape])
    if not broadcasts(step_size.shape, static_shape):
        allowed = f"[num_segments, 1] or [num_segments, batch], here {tuple(static_shape)}"
        raise _wrong_shape("step_size", step_size.shape, f"give a scalar, {allowed}")
    _require_positive("step_size", step_size)
    shape = tf.concat([[num_segments], initial_distribution.batch_shape_tensor()], axis=0)
    return tf.ensure_shape(tf.broadcast_to(step_size, shape), static_shape)


def require_scale(scale: Any, initial_distribution: Any) -> None:
    """Raises an SMVIError unless the lengths that multiply step sizes are positive and finite.

    Otherwise chains would hardly ever move, without an error. A graph checks standard deviations
    when it runs; XLA does not.
    """
    if scale is not None:
        _require_positive("scale", length_scale(scale, initial_distribution))
        return
    remedy = "give {scale}, a typical length of each dimension of z, such as 1.0"
    try:
        stddev = length_scale(None, initial_distribution)
    except (NotImplementedError, AttributeError, ValueError, tf.errors.InvalidArgumentError) as e:
        problem = "has no standard deviation"
        raise SMVIError(problem, field="initial_distribution", remedy=remedy) from e
    worst = _unusable(stddev)
    if worst is not None:
        problem = f"has the standard deviation {worst}"
        raise SMVIError(problem, field="initial_distribution", remedy=remedy)
    if tf.is_symbolic_tensor(stddev):
        tf.debugging.Assert(
            tf.reduce_all(tf.math.is_finite(stddev) & (stddev > 0.0)),
            ["a standard deviation of initial_distribution is not positive and finite: give scale"],
        )


def length_scale(scale: Any, initial_distribution: Any) -> tf.Tensor:
    """The lengths per dimension that multiply step sizes: broadcastable to [batch, latent_dim]."""
    if scale is None:
        return initial_distribution.stddev()
    scale = as_tensor("scale", scale, initial_distribution.dtype)
    shape = tf.TensorShape([*initial_distribution.batch_shape, *initial_distribution.event_shape])
    if not broadcasts(scale.shape, shape):
        raise _wrong_shape("scale", scale.shape, f"give a shape that broadcasts to {tuple(shape)}")
    return scale


def as_tensor(name: str, value: Any, dtype: tf.DType) -> tf.Tensor:
    """Returns an argument as a tensor, or raises an SMVIError if it has another dtype."""
    if tf.is_tensor(value) and value.dtype != dtype:
        raise SMVIError(
            f"has dtype {value.dtype.name}",
            field=name,
            remedy=f"cast it to {dtype.name}",
        )
    try:
        return tf.convert_to_tensor(value, dtype)
    except (TypeError, ValueError) as error:
        remedy = f"give what can be converted to {dtype.name}"
        raise SMVIError("is not allowed", field=name, value=value, remedy=remedy) from error


def _require_positive(name: str, value: tf.Tensor) -> None:
    worst = _unusable(value)
    if worst is not None:
        remedy = "give positive, finite numbers"
        raise SMVIError(f"has the value {worst}", field=name, remedy=remedy)


def _unusable(lengths: tf.Tensor) -> float | None:
    """One of the lengths that is not positive and finite; None if none is known to be."""
    values = tf.get_static_value(lengths)
    if values is None:
        return None
    wrong = values[~(np.isfinite(values) & (values > 0.0))]
    return float(wrong.flat[0]) if wrong.size else None


def _wrong_shape(name: str, shape: tf.TensorShape, remedy: str) -> SMVIError:
    return SMVIError(f"has shape {tuple(shape)}", field=name, remedy=remedy)
