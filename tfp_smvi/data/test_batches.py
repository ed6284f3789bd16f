"""The images that models are tested on and encode: the same bits for every run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tfp_smvi.data.batches import eval_batches
from tfp_smvi.data.splits import Split

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["TEST_SEED", "read_inputs"]

# Every run is tested on the same bits, whatever its own seed.
TEST_SEED = 0
# Images that are in memory at once.
BATCH = 1000


def read_inputs(split: Split, *, binarize: bool) -> Iterable[tf.Tensor]:
    """Reads the images of a split in order, in batches: float32 [n, *image_shape].

    Args:
        split: the images.
        binarize: draws bits, x ~ Bernoulli(intensity), which are the same at every call.
    """
    batches = eval_batches(split, batch_size=BATCH, seed=TEST_SEED, binarize=binarize)
    return (x for _, x in batches)
