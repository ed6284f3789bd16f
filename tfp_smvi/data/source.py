"""A split that is read from serialized examples, one by one or all at once."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tfp_smvi.config import Kind
from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.data.splits import ArraySplit
from tfp_smvi.data.values import are_bits, bits_to_levels, to_float

__all__ = ["CHUNK", "RecordList", "Records", "SourceSplit", "find_bits", "to_memory"]

# Records that are decoded in one call: enough to make its fixed cost small.
CHUNK = 1000


class Records(Protocol):
    """Serialized examples that are read by index."""

    def __len__(self) -> int:
        """The number of examples."""

    def __getitems__(self, indices: Sequence[int]) -> Sequence[bytes]:
        """Reads the examples at indices in any order."""


class RecordList(list[bytes]):
    """Serialized examples held in memory."""

    def __getitems__(self, indices: Sequence[int]) -> list[bytes]:
        """Reads the examples at indices in any order."""
        return [self[index] for index in indices]


class SourceSplit:
    """A split of uint8 images that are read from disk by index; see tfp_smvi.data.Split."""

    kind: Kind = "intensities"
    has_missing = False

    def __init__(
        self,
        records: Records,
        features: Any,
        image_key: str,
        label_key: str | None,
        place: str = "the data set",
    ) -> None:
        """Reads images and labels from serialized examples.

        Args:
            records: the serialized examples.
            features: the tfds.features.FeaturesDict of the examples.
            image_key: the feature with the image, of a fixed shape.
            label_key: the feature with the class, or None.
            place: where the examples are, for messages.
        """
        self._records, self._place = records, place
        self._label_key = label_key
        self._decode = _image_decoder(features[image_key], image_key)
        self._has_bits = False
        self.num_examples = len(records)
        self.image_shape: tuple[int, ...] = features[image_key].shape

    def images(self, indices: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Reads images, float32 [n, *image_shape], at indices [n] in any order.

        Raises:
            SMVIError: they can no longer be read.
        """
        try:
            return to_float(self.pixels(indices))
        except MemoryError:
            raise
        except Exception as error:  # a damaged file may fail anywhere
            raise SMVIError(
                f"{self._place} can no longer be read ({plain_reason(error)})",
                remedy="restore it, or delete it to prepare it again, and run again",
            ) from error

    def pixels(self, indices: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Reads images, uint8 [n, *image_shape] with 255 for 1, at indices [n] in any order."""
        pixels = self._decode(self._read(indices))
        return bits_to_levels(pixels) if self._has_bits else pixels

    @cached_property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """The class of each image: int64 [num_examples], read at first use; None without labels."""
        import tensorflow as tf

        if self._label_key is None:
            return None
        feature = {self._label_key: tf.io.FixedLenFeature([], tf.int64)}
        chunks = (self._read(chunk) for chunk in self.chunks())
        return np.concatenate(
            [tf.io.parse_example(c, feature)[self._label_key].numpy() for c in chunks]
        )

    def chunks(self) -> Iterator[npt.NDArray[np.int64]]:
        """All indices in order, some at a time."""
        for start in range(0, self.num_examples, CHUNK):
            yield np.arange(start, min(start + CHUNK, self.num_examples))

    def _read(self, indices: npt.ArrayLike) -> list[bytes]:
        return list(self._records.__getitems__([int(index) for index in np.asarray(indices)]))


def find_bits(*splits: SourceSplit) -> bool:
    """Whether the pixels of a set are bits, 0 and 1, which are read as such from then on.

    It reads up to the first grey level, which one of the first images has unless all are bits.
    """
    parts = (split.pixels(chunk) for split in splits for chunk in split.chunks())
    only_bits = are_bits(parts)
    for split in splits:
        split._has_bits = only_bits
    return only_bits


def to_memory(split: SourceSplit) -> ArraySplit:
    """Reads a whole split, on all cores."""
    pixels = np.empty((split.num_examples, *split.image_shape), np.uint8)

    def read(indices: npt.NDArray[np.int64]) -> None:
        pixels[indices[0] : indices[-1] + 1] = split.pixels(indices)

    # Decoding runs in TensorFlow, which lets other threads of Python work meanwhile.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(read, split.chunks()))
    return ArraySplit(pixels, split.labels)


def _image_decoder(feature: Any, key: str) -> Callable[[Sequence[bytes]], npt.NDArray[np.uint8]]:
    """Makes the function from serialized examples to images, uint8 [n, *image_shape]."""
    import tensorflow as tf

    def decode(records: tf.Tensor) -> tf.Tensor:
        encoded = tf.io.parse_example(records, {key: tf.io.FixedLenFeature([], tf.string)})[key]
        image = tf.TensorSpec(feature.shape, tf.uint8)
        return tf.map_fn(feature.decode_example, encoded, fn_output_signature=image)

    decode_graph = tf.function(decode, input_signature=[tf.TensorSpec([None], tf.string)])

    def decode_on_cpu(records: Sequence[bytes]) -> npt.NDArray[np.uint8]:
        with tf.device("/cpu:0"):
            return decode_graph(tf.constant(records, tf.string, [len(records)])).numpy()

    return decode_on_cpu
