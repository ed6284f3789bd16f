"""Graphs that an eager call traces and runs once, and that leave nothing behind.

TensorFlow frees a graph that nothing refers to. Two global tables do: the cache of TFP's bijectors
(https://github.com/tensorflow/probability, internal/cache_util.py), whose weak keys are kept alive
by its values, and TensorFlow's registry of custom gradients, whose functions close over tensors.
Neither has a public way to remove what one graph added.
"""

import contextlib
import gc
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, TypeVar

import tensorflow as tf
from tensorflow.python.framework import ops
from tensorflow_probability import bijectors as tfb

from tfp_smvi.core.densities import ONE_NUMBER
from tfp_smvi.core.errors import SMVIError

__all__ = ["compiled_unless_traced"]

Result = TypeVar("Result")

# A graph has cycles of references and some 10 MB that Python does not count, so that it collects
# them late. A collection takes a fifth of a second.
COLLECTION_INTERVAL = 4
_calls = itertools.count(1)


def compiled_unless_traced(function: Callable[[], Result], jit_compile: bool) -> Result:
    """Calls a function of no arguments as a graph, or within the graph that the caller traces.

    The graph is traced at each call: what the function refers to may have changed since the last.
    Python frees it when it next collects garbage, after a few calls at the latest.
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
        result: Result = compiled.get_concrete_function()()
    except tf.errors.InvalidArgumentError as error:
        found = re.search(rf"(\w+) {ONE_NUMBER}", str(error))
        if found is None:
            raise
        raise SMVIError(
            ONE_NUMBER, field=found[1], remedy="sum over the axes of x alone"
        ) from error
    finally:
        for graph in graphs:
            _forget(graph)
        del graphs[:]
        if next(_calls) % COLLECTION_INTERVAL == 0:
            gc.collect()
    return result


def _forget(graph: tf.Graph) -> None:
    """Removes what refers to a graph that is not needed any more."""
    for cache in _bijector_caches():
        for key, entry in list(cache.items()):
            output = entry.output_ref() if entry.output_ref else None
            if _refers_to(graph, [key(), output, entry.attributes]):
                key.cancel()  # its callback, which would remove the entry
                cache.pop(key, None)
    gradients = _custom_gradients()
    for name, entry in list(gradients.items()):
        if _refers_to(graph, entry["type"]):
            gradients.pop(name, None)


def _bijector_caches() -> Iterator[MutableMapping[Any, Any]]:
    """The caches of all bijectors: most classes share one, some have their own."""
    classes = [tfb.Bijector]
    while classes:
        bijector = classes.pop()
        classes += bijector.__subclasses__()
        yield getattr(vars(bijector).get("_cache"), "storage", {})


def _custom_gradients() -> MutableMapping[str, Any]:
    """The functions that TensorFlow registered for tf.custom_gradient, by name."""
    return getattr(getattr(ops, "gradient_registry", None), "_registry", {})


def _refers_to(graph: tf.Graph, value: Any) -> bool:
    """Whether nested values hold, or a function closes over, a tensor of a graph or within it."""
    return any(graph in _with_outer_graphs(tensor.graph) for tensor in _tensors(value, set()))


def _tensors(value: Any, seen: set[int]) -> Iterator[tf.Tensor]:
    if tf.is_symbolic_tensor(value):
        yield value
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, list | tuple):
        parts = list(value)
    else:
        parts = _closed_over(value)
    for part in parts:
        yield from _tensors(part, seen)


def _closed_over(function: Any) -> list[Any]:
    """What a function refers to in its closure; nothing for any other object."""
    values = []
    for cell in getattr(function, "__closure__", None) or () if callable(function) else ():
        with contextlib.suppress(ValueError):  # of an empty cell
            values.append(cell.cell_contents)
    return values


def _with_outer_graphs(graph: tf.Graph | None) -> Iterator[tf.Graph]:
    while graph is not None:
        yield graph
        graph = getattr(graph, "outer_graph", None)
