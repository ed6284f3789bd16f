"""Graphs that an eager call traces and runs once, and that leave nothing behind."""

import gc
import itertools
import re
from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

from tfp_smvi.core.densities import ONE_NUMBER
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.graphs import forget
from tfp_smvi.core.startup import uncollected

__all__ = ["compiled_unless_traced"]

Result = TypeVar("Result")

# A graph has cycles of references and some 10 MB that Python does not count, so that it collects
# them late. To search what a call has made takes 30 ms, and to search all that a program has made
# up to a second: only what an older generation took meanwhile, by chance, waits for that.
COLLECTION_INTERVAL = 32
_calls = itertools.count(1)


def compiled_unless_traced(function: Callable[[], Result], jit_compile: bool) -> Result:
    """Calls a function of no arguments as a graph, or within the graph that the caller traces.

    The graph is traced at each call: what the function refers to may have changed since the last.
    It is freed when the call ends.
    """
    if tf.inside_function():
        return function()
    graphs = list[tf.Graph]()  # without an annotation, which AutoGraph cannot convert here

    def traced() -> Result:
        graphs.append(tf.compat.v1.get_default_graph())
        return function()

    try:
        compiled = tf.function(traced, jit_compile=jit_compile, autograph=False)
        # A concrete function: TensorFlow advises against tracing at each call of another.
        with uncollected():  # what is traced stays in the youngest generation
            concrete = compiled.get_concrete_function()
        result: Result = concrete()
    except tf.errors.InvalidArgumentError as error:
        match = re.search(rf"(\w+) {ONE_NUMBER}", str(error))
        if match is None:
            raise
        raise SMVIError(
            ONE_NUMBER, field=match[1], remedy="sum over the axes of x alone"
        ) from error
    finally:
        while graphs:
            forget(graphs.pop())
        compiled = concrete = None
        gc.collect(2 if next(_calls) % COLLECTION_INTERVAL == 0 else 1)
    return result
