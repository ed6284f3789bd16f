"""Stateless seeds, folded from (seed, purpose, step): the same numbers give the same bits."""

import zlib

import tensorflow as tf

__all__ = ["fold_seed"]


def fold_seed(seed: int, purpose: str, *steps: int | tf.Tensor) -> tf.Tensor:
    """Derives the stateless seed of one use of randomness.

    Args:
        seed: the user's seed, any integer that fits in 64 bits.
        purpose: what the randomness is for, such as "binarize"; two purposes never share a stream.
        *steps: counters such as the epoch and the step, integers or integer scalars, folded in
            their order.

    Returns:
        A seed for TensorFlow's and TFP's stateless samplers: int32 [2].
    """
    # A 64-bit seed as two int32 words, so that no bit of it is lost.
    words = [(seed >> shift) & 0xFFFFFFFF for shift in (0, 32)]
    folded = tf.constant(
        [word - (1 << 32) if word >= 1 << 31 else word for word in words], tf.int32
    )
    folded = tf.random.fold_in(folded, zlib.crc32(purpose.encode()) & 0x7FFFFFFF)
    for step in steps:
        folded = tf.random.fold_in(folded, tf.cast(step, tf.int32))
    return folded
