"""The graphs of an evaluation: each estimate is traced once, for all blocks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_smvi.core.runtime import numerics_unchecked, uses_gpu

__all__ = ["compiled", "to_numpy"]


def compiled(function: Callable[..., Any]) -> Any:
    """Returns a function as a graph, with XLA on a GPU."""
    # On a CPU XLA took 0.86 of the chains' time on one machine and 1.2 on another (results/ais.md),
    # and has to be compiled first.
    unchecked = numerics_unchecked()(function)
    return tf.function(unchecked, jit_compile=uses_gpu(), autograph=False)


def to_numpy(estimates: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """The estimates as arrays, by name."""
    return {name: value.numpy() for name, value in estimates.items()}
