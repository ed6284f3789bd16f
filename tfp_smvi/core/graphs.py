"""What keeps a traced graph in memory when nothing else refers to it.

TensorFlow frees a graph that nothing refers to. Two global tables do: the cache of TFP's bijectors
(https://github.com/tensorflow/probability, internal/cache_util.py), whose weak keys are kept alive
by its values, and TensorFlow's registry of custom gradients, whose functions close over tensors.
Neither has a public way to remove what one graph added.
"""

import contextlib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops
from tensorflow_probability import bijectors as tfb

__all__ = ["forget"]


def forget(graph: tf.Graph) -> None:
    """Removes what refers to a graph from these tables; it gives no gradients any more."""
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
