"""Checks and readings of arguments that several estimators share."""

from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

from tfp_smvi.errors import SMVIError
from tfp_smvi.seeds import fold_seed

__all__ = ["compiled_unless_traced", "require_positive_integer", "stateless_seed"]

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
