"""Checks and readings of arguments that several estimators share."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from tfp_smvi.errors import SMVIError
from tfp_smvi.seeds import fold_seed

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
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SMVIError(f"{name} is {value!r}: give an integer of at least 1")


def stateless_seed(seed: int | tf.Tensor, purpose: str) -> tf.Tensor:
    """Returns an integer seed folded with its purpose, and a stateless seed int32 [2] as it is."""
    if isinstance(seed, int):
        return fold_seed(seed, purpose)
    seed = tf.convert_to_tensor(seed, tf.int32)
    if seed.shape != [2]:
        raise SMVIError(f"seed has shape {tuple(seed.shape)}: give an integer, or a stateless seed int32 [2]")
    return seed


def compiled_unless_traced(function: Callable[[], Result], jit_compile: bool) -> Result:
    """Calls a function of no arguments as a graph, or within the graph that the caller is tracing."""
    if tf.inside_function():
        return function()
    result: Result = tf.function(function, jit_compile=jit_compile, autograph=False)()
    return result


def require_vectors(initial_distribution: Any) -> None:
    """Raises an SMVIError unless the distribution is one of batches of vectors."""
    if len(initial_distribution.batch_shape) != 1 or len(initial_distribution.event_shape) != 1:
        raise SMVIError(
            f"initial_distribution has batch shape {initial_distribution.batch_shape} and event shape "
            f"{initial_distribution.event_shape}: give [batch] and [latent_dim], with tfd.BatchBroadcast "
            "for a prior and tfd.Independent for a product"
        )


def segment_step_sizes(step_size: Any, num_segments: int, initial_distribution: Any) -> tf.Tensor:
    """Broadcasts step sizes to [num_segments, batch], or raises an SMVIError."""
    step_size = tf.convert_to_tensor(step_size, initial_distribution.dtype)
    static_shape = tf.TensorShape([num_segments, *initial_distribution.batch_shape])
    try:
        fits = tf.broadcast_static_shape(step_size.shape, static_shape).is_compatible_with(static_shape)
    except ValueError:
        fits = False
    if not fits:
        raise SMVIError(
            f"step_size has shape {tuple(step_size.shape)}: give a scalar, [num_segments, 1] or "
            f"[num_segments, batch], here {tuple(static_shape)}"
        )
    value = tf.get_static_value(step_size)
    if value is not None and not np.all(value > 0.0):
        raise SMVIError(f"step_size has the value {np.min(value)}: give positive numbers")
    shape = tf.concat([[num_segments], initial_distribution.batch_shape_tensor()], axis=0)
    return tf.ensure_shape(tf.broadcast_to(step_size, shape), static_shape)


def length_scale(scale: Any, initial_distribution: Any) -> tf.Tensor:
    """The lengths per dimension that multiply step sizes: broadcastable to [batch, latent_dim]."""
    return tf.convert_to_tensor(
        initial_distribution.stddev() if scale is None else scale, initial_distribution.dtype
    )
