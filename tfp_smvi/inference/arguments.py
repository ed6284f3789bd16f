"""Checks and conversions of arguments that several estimators share."""

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
        remedy = "give an integer of at least 1"
        raise SMVIError("is not allowed", field=name, value=value, remedy=remedy)


def stateless_seed(seed: int | tf.Tensor, purpose: str) -> tf.Tensor:
    """Returns an integer seed folded with its purpose, and a stateless seed int32 [2] unchanged."""
    if isinstance(seed, numbers.Integral):
        return fold_seed(int(seed), purpose)
    seed = _as_tensor("seed", seed, tf.int32)
    if seed.shape != [2]:
        raise _wrong_shape("seed", seed.shape, "give an integer, or a stateless seed int32 [2]")
    return seed


def compiled_unless_traced(function: Callable[[], Result], jit_compile: bool) -> Result:
    """Calls a function of no arguments as a graph, or within the graph that the caller traces."""
    if tf.inside_function():
        return function()
    result: Result = tf.function(function, jit_compile=jit_compile, autograph=False)()
    return result


def require_vectors(distribution: Any, name: str = "initial_distribution") -> None:
    """Raises an SMVIError unless the distribution is one of batches of vectors."""
    if len(distribution.batch_shape) != 1 or len(distribution.event_shape) != 1:
        raise SMVIError(
            f"has batch shape {distribution.batch_shape} and event shape "
            f"{distribution.event_shape}",
            field=name,
            remedy="give [batch] and [latent_dim], with tfd.BatchBroadcast for a prior and "
            "tfd.Independent for a product",
        )


def segment_step_sizes(step_size: Any, num_segments: int, initial_distribution: Any) -> tf.Tensor:
    """Broadcasts step sizes to [num_segments, batch], or raises an SMVIError."""
    step_size = _as_tensor("step_size", step_size, initial_distribution.dtype)
    static_shape = tf.TensorShape([num_segments, *initial_distribution.batch_shape])
    if not _broadcasts(step_size, static_shape):
        allowed = f"[num_segments, 1] or [num_segments, batch], here {tuple(static_shape)}"
        raise _wrong_shape("step_size", step_size.shape, f"give a scalar, {allowed}")
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
        raise _wrong_shape("scale", scale.shape, f"give a shape that broadcasts to {tuple(shape)}")
    _require_positive("scale", scale)
    return scale


def _as_tensor(name: str, value: Any, dtype: tf.DType) -> tf.Tensor:
    try:
        return tf.convert_to_tensor(value, dtype)
    except (TypeError, ValueError) as error:
        remedy = f"give what can be converted to {dtype.name}"
        raise SMVIError("is not allowed", field=name, value=value, remedy=remedy) from error


def _broadcasts(value: tf.Tensor, shape: tf.TensorShape) -> bool:
    """Whether a value can be broadcast to a shape, as far as both are known."""
    try:
        return bool(tf.broadcast_static_shape(value.shape, shape).is_compatible_with(shape))
    except ValueError:
        return False


def _require_positive(name: str, value: tf.Tensor) -> None:
    known = tf.get_static_value(value)
    if known is not None and not np.all(known > 0.0):
        worst = float(np.min(known))
        raise SMVIError(f"has the value {worst}", field=name, remedy="give positive numbers")


def _wrong_shape(name: str, shape: tf.TensorShape, remedy: str) -> SMVIError:
    return SMVIError(f"has shape {tuple(shape)}", field=name, remedy=remedy)
