"""Checks and readings of arguments that several estimators share."""

import numbers
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.seeds import fold_seed

__all__ = [
    "compiled_unless_traced",
    "length_scale",
    "require_positive_integer",
    "require_vectors",
    "segment_step_sizes",
    "stateless_seed",
]

Result = TypeVar("Result")


def require_positive_integer(name: str, value: int) -> None:
    """Raises an SMVIError that names the argument unless `value` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise SMVIError(f"{name} is {value!r}: give an integer of at least 1")


def stateless_seed(seed: int | tf.Tensor, purpose: str) -> tf.Tensor:
    """Returns an integer seed folded with its purpose, and a stateless seed int32 [2] as it is."""
    if isinstance(seed, numbers.Integral):
        return fold_seed(int(seed), purpose)
    seed = _as_tensor("seed", seed, tf.int32)
    if seed.shape != [2]:
        raise SMVIError(
            f"seed has shape {tuple(seed.shape)}: give an integer, or a stateless seed int32 [2]"
        )
    return seed


def _as_tensor(name: str, value: Any, dtype: tf.DType) -> tf.Tensor:
    try:
        return tf.convert_to_tensor(value, dtype)
    except (TypeError, ValueError) as error:
        raise SMVIError(
            f"{name} is {value!r}: give what can be converted to {dtype.name}"
        ) from error


def _broadcasts(value: tf.Tensor, shape: tf.TensorShape) -> bool:
    """Whether a value can be broadcast to a shape, as far as both are known."""
    try:
        return bool(tf.broadcast_static_shape(value.shape, shape).is_compatible_with(shape))
    except ValueError:
        return False


def _require_positive(name: str, value: tf.Tensor) -> None:
    known = tf.get_static_value(value)
    if known is not None and not np.all(known > 0.0):
        raise SMVIError(f"{name} has the value {np.min(known)}: give positive numbers")


def compiled_unless_traced(function: Callable[[], Result], jit_compile: bool) -> Result:
    """Calls a function of no arguments as a graph, or within the graph that the caller is tracing."""
    if tf.inside_function():
        return function()
    result: Result = tf.function(function, jit_compile=jit_compile, autograph=False)()
    return result


def require_vectors(distribution: Any, name: str = "initial_distribution") -> None:
    """Raises an SMVIError unless the distribution is one of batches of vectors."""
    if len(distribution.batch_shape) != 1 or len(distribution.event_shape) != 1:
        raise SMVIError(
            f"{name} has batch shape {distribution.batch_shape} and event shape "
            f"{distribution.event_shape}: give [batch] and [latent_dim], with tfd.BatchBroadcast "
            "for a prior and tfd.Independent for a product"
        )


def segment_step_sizes(step_size: Any, num_segments: int, initial_distribution: Any) -> tf.Tensor:
    """Broadcasts step sizes to [num_segments, batch], or raises an SMVIError."""
    step_size = _as_tensor("step_size", step_size, initial_distribution.dtype)
    static_shape = tf.TensorShape([num_segments, *initial_distribution.batch_shape])
    if not _broadcasts(step_size, static_shape):
        raise SMVIError(
            f"step_size has shape {tuple(step_size.shape)}: give a scalar, [num_segments, 1] or "
            f"[num_segments, batch], here {tuple(static_shape)}"
        )
    _require_positive("step_size", step_size)
    shape = tf.concat([[num_segments], initial_distribution.batch_shape_tensor()], axis=0)
    return tf.ensure_shape(tf.broadcast_to(step_size, shape), static_shape)


def length_scale(scale: Any, initial_distribution: Any) -> tf.Tensor:
    """The lengths per dimension that multiply step sizes: broadcastable to [batch, latent_dim]."""
    if scale is None:
        return initial_distribution.stddev()
    scale = _as_tensor("scale", scale, initial_distribution.dtype)
    shape = tf.TensorShape([*initial_distribution.batch_shape, *initial_distribution.event_shape])
    if not _broadcasts(scale, shape):
        raise SMVIError(
            f"scale has shape {tuple(scale.shape)}: give what broadcasts to {tuple(shape)}"
        )
    _require_positive("scale", scale)
    return scale
