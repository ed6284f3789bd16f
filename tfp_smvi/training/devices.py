"""Where the steps of a training are taken: on one device, or on several that share each batch."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

__all__ = ["Devices", "OneDevice"]


class Devices(Protocol):
    """What a trainer asks of the devices.

    Attributes:
        num_replicas: the devices that share each batch.
        is_chief: whether this process writes; of several exactly one does.
    """

    num_replicas: int
    is_chief: bool

    def scope(self) -> AbstractContextManager[object]:
        """Within it variables are made, one on each device."""

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function on each device with the same arguments, and returns its results.

        They are handed on to another call as they are; see `first`.
        """

    def first(self, result: Any) -> Any:
        """Those results of `run` that are the same on all devices."""

    def part(self, x: tf.Tensor) -> tf.Tensor:
        """In `run`: the part of a batch, on its first axis, that is this device's."""

    def sample(self, posterior: Any, seed: tf.Tensor) -> tf.Tensor:
        """In `run`: the draws of the examples of `part`, as if all were drawn on one device."""

    def mean(self, values: Any) -> Any:
        """In `run`: the means over all devices of tensors in a nested structure."""

    def agree(self, num_steps: int, signum: int) -> tuple[int, int]:
        """How all processes go on: the steps of the chief, and a signal that any got, else 0."""

    def of_chief(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The arrays of the chief, in all processes; the others give arrays of the same shapes."""

    def wait(self) -> None:
        """Waits for the other processes."""

    def explaining_errors(self) -> AbstractContextManager[None]:
        """Within it an SMVIError says that another process has ended."""


class OneDevice:
    """The device that TensorFlow chooses."""

    num_replicas = 1
    is_chief = True

    def scope(self) -> AbstractContextManager[object]:
        """Changes nothing."""
        return nullcontext()

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls it."""
        return function(*arguments)

    def first(self, result: Any) -> Any:
        """Returns it."""
        return result

    def part(self, x: tf.Tensor) -> tf.Tensor:
        """Returns all of it."""
        return x

    def sample(self, posterior: Any, seed: tf.Tensor) -> tf.Tensor:
        """Draws once for each example."""
        return posterior.sample(seed=seed)

    def mean(self, values: Any) -> Any:
        """Returns them."""
        return values

    def agree(self, num_steps: int, signum: int) -> tuple[int, int]:
        """As this process wants it."""
        return num_steps, signum

    def of_chief(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Returns them."""
        return arrays

    def wait(self) -> None:
        """Does not: there are no others."""

    def explaining_errors(self) -> AbstractContextManager[None]:
        """Changes nothing."""
        return nullcontext()
