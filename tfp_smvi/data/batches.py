"""Batches for training, in a new order each epoch, and for evaluation, always the same.

Every random number follows from (seed, purpose, step): there is no state to save, and a run
that restarts at a step continues with the very batches that it would have seen.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data.splits import ArraySplit, PartSplit, Split
from tfp_smvi.data.values import WHITE

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = [
    "EvalBatches",
    "batch_indices",
    "eval_batches",
    "explain_read_errors",
    "train_batches",
]

# Examples for which bits to evaluate on are drawn at a time, whatever the size of a batch.
BLOCK = 100


def train_batches(
    split: Split,
    *,
    batch_size: int,
    seed: int,
    first_step: int = 0,
    num_steps: int | None = None,
    binarize: bool,
) -> tf.data.Dataset:
    """Makes the batches to train on, one for each step.

    An epoch is num_examples // batch_size steps in its own order; it leaves out another
    remainder each time. With binarize, each visit of an example draws new bits, x ~
    Bernoulli(intensity).

    Args:
        split: the examples.
        batch_size: the number of examples in a batch.
        seed: the user's seed.
        first_step: the step to begin with, counted from the start of training.
        num_steps: the number of batches; None for no end.
        binarize: whether to draw bits.

    Returns:
        A dataset of x: float32 [batch_size, *image_shape], the same for the same arguments.

    Raises:
        SMVIError: batch_size is not in 1 .. num_examples, a step is negative, or real values cannot
            be binarized.
    """
    import tensorflow as tf

    from tfp_smvi.core.seeds import fold_seed

    _check(split, batch_size, binarize)
    for name, steps in (("first_step", first_step), ("num_steps", num_steps)):
        if steps is not None and steps < 0:
            raise SMVIError(
                "is not allowed", field=name, value=steps, remedy="give a number of at least 0"
            )
    read = _reader(split)

    def make_batch(step: tf.Tensor) -> tf.Tensor:
        x = read(batch_indices(step, split.num_examples, batch_size, seed))
        x.set_shape([batch_size, *split.image_shape])
        if not binarize:
            return x
        uniform = _uniform([batch_size, *split.image_shape], fold_seed(seed, "binarize", step))
        return _bits(uniform, x)

    stop = tf.int64.max if num_steps is None else first_step + num_steps
    return _pipeline(tf.data.Dataset.range(first_step, stop), make_batch, split)


@dataclass(frozen=True, eq=False)
class EvalBatches:
    """What `eval_batches` makes; each iteration reads the examples again."""

    split: Split
    batch_size: int
    seed: int
    binarize: bool
    start: int
    stop: int

    def __iter__(self) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """Reads a batch at a time."""
        import tensorflow as tf

        # Batches may be smaller than what is drawn at a time.
        draw = functools.lru_cache(maxsize=1)(self._draw)
        for start in range(self.start, self.stop, self.batch_size):
            stop = min(start + self.batch_size, self.stop)
            # A pipeline of tf.data takes longer to be made than most parts to be read.
            with tf.device("/cpu:0"):
                indices = tf.range(start, stop, dtype=tf.int64)
                x = tf.constant(self.split.images(indices.numpy()))
                if self.binarize:
                    spans = _spans_of_blocks(start, stop)
                    parts = [
                        _bits(draw(block)[low - block * BLOCK : high - block * BLOCK], x_part)
                        for (block, low, high), x_part in zip(
                            spans, tf.split(x, [high - low for _, low, high in spans]), strict=True
                        )
                    ]
                    x = tf.concat(parts, axis=0)
            yield indices, x

    def _draw(self, block: int) -> tf.Tensor:
        from tfp_smvi.core.seeds import fold_seed

        seed = fold_seed(self.seed, "binarize_test", block)
        return _uniform([BLOCK, *self.split.image_shape], seed)


def eval_batches(
    split: Split,
    *,
    batch_size: int,
    seed: int,
    binarize: bool,
    num_examples: int | None = None,
    start: int = 0,
) -> EvalBatches:
    """Makes the batches to evaluate on: in order, each example once.

    With binarize, the bits of an example follow from the seed and its index: they are the same
    at every evaluation, whatever the batch size and the part of the split.

    Args:
        split: the examples.
        batch_size: the largest number of examples in a batch; the last batch may have fewer.
        seed: the seed of the bits, ideally the same for everything that is compared.
        binarize: whether to draw bits.
        num_examples: the number of examples; None for all from start on.
        start: the index of the first example.

    Returns:
        An iterable of (indices: int64 [n], x: float32 [n, *image_shape]) with n <= batch_size.

    Raises:
        SMVIError: the part is not in the split, batch_size < 1, or real values cannot be binarized.
    """
    _check(split, min(batch_size, split.num_examples), binarize)
    stop = split.num_examples if num_examples is None else start + num_examples
    if not 0 <= start < stop <= split.num_examples:
        raise SMVIError(
            f"with start = {start} is not a part of the {split.num_examples} examples",
            field="num_examples",
            value=num_examples,
            remedy="give a part that is in the split",
        )
    return EvalBatches(split, batch_size, seed, binarize, start, stop)


def _spans_of_blocks(start: int, stop: int) -> list[tuple[int, int, int]]:
    """The blocks of a span of examples: (block, first example in it, end of those in it)."""
    return [
        (block, max(start, block * BLOCK), min(stop, (block + 1) * BLOCK))
        for block in range(start // BLOCK, (stop - 1) // BLOCK + 1)
    ]


@contextlib.contextmanager
def explain_read_errors() -> Iterator[None]:
    """Turns TensorFlow's error of a batch that cannot be read into that of its split.

    A split is read by Python within a graph, whose error has the other one as a text with a trace.

    Raises:
        SMVIError: the split raised one.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        match = re.search(rf"\b{SMVIError.__name__}: (.+)", error.message)
        if match is None:
            raise
        raise SMVIError(match[1]) from error


def batch_indices(
    step: int | tf.Tensor, num_examples: int, batch_size: int, seed: int
) -> tf.Tensor:
    """Finds the examples of a training step: int64 [batch_size], in the order of its epoch.

    Args:
        step: the step, counted from the start of training.
        num_examples: the number of examples.
        batch_size: the number of examples in a batch, at most num_examples.
        seed: the user's seed.
    """
    import tensorflow as tf

    from tfp_smvi.core.seeds import fold_seed

    step, steps_per_epoch = tf.cast(step, tf.int64), num_examples // batch_size
    epoch, place = step // steps_per_epoch, step % steps_per_epoch
    # A permutation that is computed index by index: any step is reached at no cost, and nothing is
    # stored.
    return tf.random.experimental.index_shuffle(
        place * batch_size + tf.range(batch_size, dtype=tf.int64),
        fold_seed(seed, "shuffle", epoch),
        tf.constant(num_examples - 1, tf.int64),
    )


def _uniform(shape: list[int], seed: tf.Tensor) -> tf.Tensor:
    """Draws uniform numbers of 16 bits, float32 in (0, 1): a probability is met within 2^-17.

    Each 32-bit word of the generator makes two numbers, which halves the cost of a batch. The half
    that is added keeps them away from 0 and 1, so that intensities of 0 and 1 are kept as they are.
    """
    import tensorflow as tf

    count = math.prod(shape)
    words = tf.random.stateless_uniform(
        [(count + 1) // 2], seed, minval=None, maxval=None, dtype=tf.int32
    )
    halves = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:count]
    return tf.reshape((tf.cast(halves, tf.float32) + 0.5) / 65536.0, shape)


def _bits(uniform: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Draws x ~ Bernoulli(intensity); NaN, a missing value, stays NaN."""
    import tensorflow as tf

    return tf.where(tf.math.is_nan(x), x, tf.cast(uniform < x, tf.float32))


def _check(split: Split, batch_size: int, binarize: bool) -> None:
    if not 1 <= batch_size <= split.num_examples:
        raise SMVIError(
            "is not allowed",
            field="batch_size",
            value=batch_size,
            remedy=f"give 1 to {split.num_examples}, the number of examples",
        )
    name = "counts" if split.kind == "counts" else "real-valued data"
    if binarize and split.kind != "intensities":
        raise SMVIError(f"{name} cannot be binarized", remedy="choose another {likelihood}")


def _reader(split: Split) -> Callable[[tf.Tensor], tf.Tensor]:
    """Makes the graph function from indices, int64 [n], to values, float32 [n, *image_shape]."""
    import tensorflow as tf

    if isinstance(split, PartSplit):
        with tf.device("/cpu:0"):
            part = tf.constant(split.indices)
        read_whole = _reader(split.whole)
        return lambda indices: read_whole(tf.gather(part, indices))
    if not isinstance(split, ArraySplit):
        return lambda indices: tf.numpy_function(
            split.images, [indices], tf.float32, stateful=False
        )
    with tf.device("/cpu:0"):
        pixels = tf.constant(split.stored)

    def read(indices: tf.Tensor) -> tf.Tensor:
        x = tf.cast(tf.gather(pixels, indices), tf.float32)
        return x / float(WHITE) if pixels.dtype == tf.uint8 else x

    return read


def _pipeline(
    steps: tf.data.Dataset, make: Callable[[tf.Tensor], tf.Tensor], split: Split
) -> tf.data.Dataset:
    import tensorflow as tf

    options = tf.data.Options()
    options.deterministic = True
    # One thread keeps up with examples in memory and leaves the cores to training; files need
    # several.
    whole = split.whole if isinstance(split, PartSplit) else split
    parallel = None if isinstance(whole, ArraySplit) else tf.data.AUTOTUNE
    # AutoGraph would take half a second to convert what needs no conversion.
    make = tf.autograph.experimental.do_not_convert(make)
    return steps.map(make, num_parallel_calls=parallel).prefetch(2).with_options(options)
