"""Takes turns between contestants, and takes medians over the rounds."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

Turn = Callable[[], Any]
JSON = dict[str, Any]


def seed(number: int, block: int = 0) -> tf.Tensor:
    """A stateless seed; each use has its own number."""
    return tf.constant([number, block], tf.int32)


def alternate(
    turns: Mapping[str, Turn], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """The seconds of each contestant in each round, after one warm-up turn."""
    for turn in turns.values():
        turn()
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            started = clock()
            turn()
            seconds[name].append(clock() - started)
    return seconds


def median_ratio(seconds: Mapping[str, list[float]], first: str, second: str) -> float:
    """The median over rounds of the ratio of two contestants' times."""
    return float(np.median(np.divide(seconds[first], seconds[second])))


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """The median time of each contestant."""
    return {name: float(np.median(values)) for name, values in seconds.items()}
