"""The images in PNG and JPEG files, decoded in a graph; what costs more than an image is refused.

A file is checked before it is decoded, because a small one may hold an image that is larger than
the memory, or data that take seconds to expand:

    the size of the image    read from the header, where the decoder reads it: the first chunk of a
                             PNG must be IHDR, and the markers of a JPEG are walked by its decoder
    the length of the file   bounded by the number of pixels, with room for metadata
    a PNG's compressed data  bounded for the pixels and for texts and profiles: both expand a
                             thousandfold
    a JPEG's scans           bounded: each one goes over all pixels

References:
    [1] Portable Network Graphics (PNG) Specification (Third Edition). W3C, 2025. Section 5.
    [2] Digital compression and coding of continuous-tone still images. ITU-T T.81, 1992. Annex B.
"""

import functools
from typing import NamedTuple

import tensorflow as tf

__all__ = ["decode_images", "require"]

# A PNG begins with its signature and the length, 13, and type of the header [1, 5.2 and 11.2.1].
_PNG, _PNG_HEADER = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x0dIHDR"
# The length, the type and the checksum of a chunk.
_CHUNK_OVERHEAD = 12
# The signature, and the header with its checksum.
_PNG_START = 33
_JPEG = b"\xff\xd8\xff"
# The two bytes of a scan's marker. In the data of a scan, 0 or the number of a restart follows a
# byte of 255 [2, B.1.1], so that they occur elsewhere only in metadata.
_JPEG_SCAN = (0xFF, 0xDA)

# The largest pixels have four channels of 16 bits. What cannot be compressed grows by less than a
# hundredth, and each row has a byte more: in an interlaced image twice as many.
_PIXEL_BYTES = 9
_FILE_BYTES_PER_PIXEL = 2 * _PIXEL_BYTES
# An Exif segment with a thumbnail has up to 64 KiB; there is room for a few such things.
_METADATA_BYTES = 2**18
# Colour profiles of screens have 3 KiB, and descriptions by image editors some more.
_COMPRESSED_METADATA_BYTES = 2**14
_COMPRESSED_METADATA = (b"iCCP", b"zTXt", b"iTXt")
# libpng writes chunks of 8 KiB.
_CHUNKS, _CHUNK_BYTES = 1000, 2**12
# Encoders write about ten scans.
_SCANS = 100


class _Walk(NamedTuple):
    """A walk over the chunks of PNG files, each an int64 [n].

    Attributes:
        position: where the next chunk begins.
        pixels: the bytes of compressed pixels up to there.
        metadata: the bytes of compressed texts and profiles.
    """

    position: tf.Tensor
    pixels: tf.Tensor
    metadata: tf.Tensor


def require(value: tf.Tensor, condition: tf.Tensor, message: str, *data: tf.Tensor) -> tf.Tensor:
    """Returns the value, or fails with the message and the data if the condition is false."""
    with tf.control_dependencies([tf.debugging.Assert(condition, [message, *data])]):
        return tf.identity(value)


def decode_images(files: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """Decodes PNG and JPEG files of one size, in grey or in colours.

    Args:
        files: string [n], the bytes of the files.
        shape: height, width and channels, 1 or 3.

    Returns:
        uint8 [n, *shape]: with one channel grey, also of images in colours, and with three colours.

    The graph fails with InvalidArgumentError if a file is no PNG or JPEG, is not whole, has another
    size, or surplus data beyond the bounds of this module.
    """
    files = _require_bounded(files, shape[0] * shape[1])
    decode = functools.partial(_decode_image, shape=shape)
    return tf.map_fn(decode, files, fn_output_signature=tf.TensorSpec(shape, tf.uint8))


def _decode_image(file: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """Decodes one file to uint8 [height, width, channels] if its header has this size."""
    height, width, channels = shape
    is_png, is_jpeg = _is_png(file), tf.equal(tf.strings.substr(file, 0, len(_JPEG)), _JPEG)
    message = "image_bytes must hold a PNG or a JPEG image; the number of bytes given is:"
    file = require(file, is_png | is_jpeg, message, tf.strings.length(file))
    size = tf.cond(
        is_png,
        lambda: tf.io.decode_raw(tf.strings.substr(file, 16, 8), tf.int32, little_endian=False)[
            ::-1
        ],
        lambda: tf.io.extract_jpeg_shape(_require_few_scans(file))[:2],
    )
    message = f"images must be {height} pixels high and {width} wide; height and width given are:"
    file = require(file, tf.reduce_all(size == [height, width]), message, size)
    return tf.ensure_shape(tf.io.decode_png(file, channels=channels), shape)  # decodes JPEG, too


def _require_few_scans(jpeg: tf.Tensor) -> tf.Tensor:
    """Returns a JPEG file if its scans are bounded.

    They are counted in the bytes of one file: what takes more memory for each scan, such as the
    parts between them, is large in a batch of files of nothing but scans.
    """
    data = tf.io.decode_raw(jpeg, tf.uint8)
    first, second = _JPEG_SCAN
    places = tf.where((data[:-1] == first) & (data[1:] == second))
    message = f"a JPEG must have at most {_SCANS} scans; the number given is:"
    scans = tf.shape(places)[0]
    return require(jpeg, scans <= _SCANS, message, scans)


def _is_png(files: tf.Tensor) -> tf.Tensor:
    """Whether files begin with the signature and the header of a PNG: bool, for each file."""
    begins = tf.equal(tf.strings.substr(files, 0, len(_PNG + _PNG_HEADER)), _PNG + _PNG_HEADER)
    return begins & (tf.strings.length(files) >= _PNG_START)


def _require_bounded(files: tf.Tensor, num_pixels: int) -> tf.Tensor:
    """Returns the files if the surplus data of each are bounded."""
    lengths = tf.cast(tf.strings.length(files), tf.int64)
    limit = _FILE_BYTES_PER_PIXEL * num_pixels + _METADATA_BYTES
    message = f"a file of an image of this size must have at most {limit} bytes; the largest has:"
    files = _require_at_most(files, limit, message, lengths)

    walk = _walk_chunks(files, lengths, num_chunks=_CHUNKS + limit // _CHUNK_BYTES)
    message = "a PNG must not consist of so many small chunks; bytes that were not read:"
    files = _require_at_most(files, _CHUNK_OVERHEAD - 1, message, lengths - walk.position)
    pixels = _PIXEL_BYTES * (num_pixels + 2**10)
    message = f"a PNG of this size must have at most {pixels} bytes of pixels; the largest has:"
    files = _require_at_most(files, pixels, message, walk.pixels)
    message = (
        f"a PNG must have at most {_COMPRESSED_METADATA_BYTES} bytes of texts and colour profiles; "
        "remove the metadata; the largest has:"
    )
    return _require_at_most(files, _COMPRESSED_METADATA_BYTES, message, walk.metadata)


def _require_at_most(files: tf.Tensor, limit: int, message: str, numbers: tf.Tensor) -> tf.Tensor:
    """Returns the files if none of the numbers, [n], is larger than the limit."""
    return require(files, tf.reduce_all(numbers <= limit), message, tf.reduce_max(numbers))


def _walk_chunks(files: tf.Tensor, lengths: tf.Tensor, num_chunks: int) -> _Walk:
    """Adds up the compressed data of all PNG files, at most num_chunks chunks of each.

    All files are walked together, so that a batch costs little more than one file. The walk ends
    where a chunk does not fit in the file any more; the decoder refuses such a file.
    """

    def in_file(walk: _Walk) -> tf.Tensor:
        return walk.position + _CHUNK_OVERHEAD <= lengths

    def step(walk: _Walk) -> tuple[_Walk]:
        here = in_file(walk)
        start = tf.where(here, walk.position, 0)
        # Shorter files, which the walk has left, are filled up with zeros.
        header = tf.io.decode_raw(
            tf.strings.substr(files, start, 8 * tf.ones_like(start)), tf.uint8, True, 8
        )
        size = tf.reduce_sum(tf.cast(header[:, :4], tf.int64) * [2**24, 2**16, 2**8, 1], axis=1)
        given = tf.minimum(size, lengths - start - _CHUNK_OVERHEAD)

        def is_any_of(*types: bytes) -> tf.Tensor:
            codes = tf.constant([list(code) for code in types], tf.uint8)
            return here & tf.reduce_any(tf.reduce_all(header[:, None, 4:] == codes, 2), 1)

        after = tf.where(is_any_of(b"IEND"), lengths, start + _CHUNK_OVERHEAD + size)
        return (
            _Walk(
                position=tf.where(here, after, walk.position),
                pixels=walk.pixels + tf.where(is_any_of(b"IDAT"), given, 0),
                metadata=walk.metadata + tf.where(is_any_of(*_COMPRESSED_METADATA), given, 0),
            ),
        )

    zeros = tf.zeros_like(lengths)
    first = _Walk(tf.where(_is_png(files), zeros + len(_PNG), lengths), zeros, zeros)
    (walk,) = tf.while_loop(
        lambda walk: tf.reduce_any(in_file(walk)), step, (first,), maximum_iterations=num_chunks
    )
    return walk
