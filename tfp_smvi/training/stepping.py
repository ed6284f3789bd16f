"""How training steps are launched: one after the other, or many in one program of XLA."""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

__all__ = ["Stepper"]

# Steps of one XLA program on a GPU. A step of these models takes it less than to launch one from
# Python; a block of batches of MNIST takes 13 MB.
STEPS_PER_BLOCK = 32


class Stepper:
    """Takes steps on batches.

    Args:
        step: x: float32 [batch_size, *image_shape] -> what it logs: float32 [size].
        size: the numbers that a step logs.
        xla: whether XLA compiles a step.
        blocks: whether it compiles STEPS_PER_BLOCK of them together, on batches that are moved to
            the device together.
    """

    def __init__(
        self, step: Callable[[tf.Tensor], tf.Tensor], size: int, *, xla: bool, blocks: bool
    ) -> None:
        """Traces nothing yet."""
        # AutoGraph is not needed, and its temporary files would fail on a full disk.
        self._step = tf.function(step, jit_compile=xla, autograph=False)
        self._steps = tf.function(self._loop, autograph=False)
        self._block = tf.function(self._scan, jit_compile=True, autograph=False)
        self._size, self._blocks = size, blocks

    def take(self, batches: Iterator[tf.Tensor], num_steps: int) -> np.ndarray:
        """Takes steps; returns what they log: float32 [num_steps, size]."""
        rows: list[np.ndarray] = []
        left = num_steps
        while self._blocks and left >= STEPS_PER_BLOCK:
            block = tf.stack([next(batches) for _ in range(STEPS_PER_BLOCK)])
            rows.append(self._block(block).numpy())
            left -= STEPS_PER_BLOCK
        if left:
            rows.append(self._steps(batches, tf.constant(left)).numpy())
        return np.concatenate(rows)

    def _loop(self, batches: Iterator[tf.Tensor], num_steps: tf.Tensor) -> tf.Tensor:
        return self._repeat(lambda i: next(batches), num_steps)

    def _scan(self, block: tf.Tensor) -> tf.Tensor:
        return self._repeat(lambda i: block[i], tf.constant(block.shape[0]))

    def _repeat(self, batch: Callable[[tf.Tensor], tf.Tensor], num_steps: tf.Tensor) -> tf.Tensor:
        rows = tf.TensorArray(tf.float32, num_steps, element_shape=[self._size])

        def body(i: tf.Tensor, rows: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            return i + 1, rows.write(i, self._step(batch(i)))

        return tf.while_loop(lambda i, _: i < num_steps, body, (0, rows))[1].stack()
