"""The examples that models are tested on and encode: the same bits for every run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfp_smvi.data.batches import eval_batches
from tfp_smvi.data.splits import Split

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["TEST_SEED", "read_inputs"]

# Every run is tested on the same bits, whatever its own seed.
TEST_SEED = 0
# Examples that are in memory at once.
BATCH = 1000


def read_inputs(split: Split, *, binarize: bool) -> Iterator[tf.Tensor]:
    """Reads the examples of a split in order, in batches: float32 [n, *image_shape].

    Args:
        split: the examples.
        binarize: draws bits, x ~ Bernoulli(intensity), which are the same at every call.

    Raises:
        SMVIError: they can no longer be read.
    """
    batches = eval_batches(split, batch_size=BATCH, seed=TEST_SEED, binarize=binarize)
    return (x for _, x in batches)
