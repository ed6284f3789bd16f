"""The training step that the contestants of `training_step.py` take."""

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

LAM, CLIP, RATE, EPSILON = 0.5, 1000.0, 1e-3, 1e-7
FLOOR = 1e-4  # of the posterior's scales
Turn = Callable[[int], float]  # takes steps and returns the seconds of one
Arrays = list[np.ndarray]  # kernel [inputs, outputs] and bias of each layer, the encoder's first


class Task(NamedTuple):
    """What is trained, and on what."""

    precision: str = "float32"
    threads: int = 2
    batch: int = 128
    pixels: int = 784
    hidden: int = 1024
    latent: int = 50

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of each layer; the first three are the encoder's."""
        encoder = (self.pixels, self.hidden, self.hidden, 2 * self.latent)
        decoder = (self.latent, self.hidden, self.hidden, self.pixels)
        return (*itertools.pairwise(encoder), *itertools.pairwise(decoder))

    def weights(self) -> Arrays:
        """Weights to begin with."""
        rng = np.random.default_rng(1)
        shapes = [shape for layer in self.layers for shape in (layer, layer[1:])]
        scales = [1.0 / math.sqrt(shape[0]) if len(shape) == 2 else 0.1 for shape in shapes]
        pairs = zip(shapes, scales, strict=True)
        return [(scale * rng.standard_normal(s)).astype(np.float32) for s, scale in pairs]

    def images(self) -> np.ndarray:
        """A batch: float32 [batch, pixels]."""
        rng = np.random.default_rng(0)
        return (rng.random((self.batch, self.pixels)) < 0.13).astype(np.float32)

    def noise(self) -> np.ndarray:
        """That of z: float32 [batch, latent]."""
        rng = np.random.default_rng(2)
        return rng.standard_normal((self.batch, self.latent)).astype(np.float32)

    def products(self) -> Counter[tuple[int, int, int]]:
        """The step's matrix products [m, k] x [k, n] -> [m, n], and how often each occurs.

        Each layer has three: forward, the gradient with respect to the input, and the gradient with
        respect to the weights. The decoder has all of them twice, once for the score and once for
        its gradient. The encoder's first layer needs no gradient with respect to its input.
        """
        counts: Counter[tuple[int, int, int]] = Counter()
        for i, (inputs, outputs) in enumerate(self.layers):
            times = 1 if i < 3 else 2
            counts[self.batch, inputs, outputs] += times
            counts[self.batch, outputs, inputs] += times * (i > 0)
            counts[inputs, self.batch, outputs] += times
        return counts


def seconds(function: Callable[[], object]) -> float:
    """The time that a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
