"""Means over draws of a posterior, with their standard errors."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = [
    "CHUNK_SIZE",
    "Estimates",
    "means_over_draws",
    "over_draws",
    "standard_error",
    "to_numpy",
]

# Draws that are decoded at a time.
CHUNK_SIZE = 64

Estimates = dict[str, tf.Tensor]


def over_draws(
    function: Callable[[tf.Tensor], tf.Tensor],
    posterior: Any,
    num_samples: int,
    seed: tf.Tensor,
    shape: Sequence[int],
) -> tf.Tensor:
    """Returns the values of a function of z at draws of a posterior, chunk by chunk.

    Args:
        function: z: float [n, batch, latent_dim] -> float [n, *shape].
        posterior: q(z|x).
        num_samples: the number of draws.
        seed: int32 [2].
        shape: that of the values at a draw, [batch] or [batch, num_terms].

    Returns:
        float [num_samples, *shape].
    """
    size = min(CHUNK_SIZE, num_samples)
    num_chunks = -(-num_samples // size)
    values = tf.map_fn(
        lambda index: function(posterior.sample(size, seed=tf.random.fold_in(seed, index))),
        tf.range(num_chunks),
        # One at a time, for constant memory.
        parallel_iterations=1,
        fn_output_signature=tf.TensorSpec([size, *shape], posterior.dtype),
    )
    return tf.reshape(values, [num_chunks * size, *shape])[:num_samples]


def means_over_draws(names: Sequence[str], draws: tf.Tensor) -> Estimates:
    """Returns the means of several terms and their standard errors, "<name>_error".

    Args:
        names: of the terms.
        draws: float [num_samples, batch, num_terms].

    Returns:
        float [batch] by name.
    """
    columns = dict(zip(names, tf.unstack(draws, axis=-1), strict=True))
    means = {name: tf.reduce_mean(values, axis=0) for name, values in columns.items()}
    return means | {f"{name}_error": standard_error(values) for name, values in columns.items()}


def standard_error(values: tf.Tensor) -> tf.Tensor:
    """Returns the standard error of the mean over the first axis."""
    count = tf.cast(tf.shape(values)[0], values.dtype)
    return tf.math.reduce_std(values, axis=0) / tf.sqrt(count - 1.0)


def to_numpy(estimates: Estimates) -> dict[str, np.ndarray]:
    """The estimates as arrays, by name."""
    return {name: value.numpy() for name, value in estimates.items()}
