"""What files encoded images may be: each bound is crossed by one file that a decoder would take."""

import io
import resource
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tfp_smvi.export.encoded_images import decode_images

HEIGHT, WIDTH = 8, 6
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(code: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + code + data + struct.pack(">I", zlib.crc32(code + data))


def header(height: int = HEIGHT, width: int = WIDTH) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))


ROWS = b"".join(b"\0" + row.tobytes() for row in PIXELS)
DATA, END = chunk(b"IDAT", zlib.compress(ROWS)), chunk(b"IEND")
PNG = SIGNATURE + header() + DATA + END
# It expands to 64 kB.
TEXT = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(64_000)))


def peak_memory() -> int:
    """The most bytes that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def saved(pixels: Any = PIXELS, form: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def decode() -> Any:
    """The graph, as an export has it."""
    graph = tf.function(
        lambda files: decode_images(files, (HEIGHT, WIDTH, 1)),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )
    return lambda *files: graph(tf.constant(files, tf.string)).numpy()[..., 0]


def test_files_of_many_forms_are_decoded(decode: Any) -> None:
    """Beside one another, so that the walk over the chunks ends in each at another step."""
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", "x" * 4000)
    info.add_text("Comment", "x" * 4000, zip=True)
    exact = [
        PNG,
        saved(form="PNG", pnginfo=info, icc_profile=bytes(3000), dpi=(72, 72)),
        # An image of four channels with 16 bits, as large as the pixels get.
        tf.io.encode_png(np.repeat(PIXELS[..., None].astype(np.uint16) * 257, 2, 2)).numpy(),
        # Each row in a chunk of its own, and bytes after the end.
        SIGNATURE
        + header()
        + b"".join(chunk(b"IDAT", bytes([byte])) for byte in zlib.compress(ROWS))
        + END
        + bytes(100),
    ]
    for decoded in decode(*exact):
        np.testing.assert_array_equal(decoded, PIXELS)
    assert len(decode()) == 0


def test_the_largest_pixels_fit(decode: Any) -> None:
    """Noise in 4 channels of 16 bits, interlaced: the most bytes that an image of this size has."""
    side = 128
    noise = np.random.default_rng(1).integers(0, 2**16, (side, side, 4), np.uint16)
    png = tf.io.encode_png(noise, compression=0).numpy()
    assert len(png) > 8 * side**2
    assert decode_images(tf.constant([png]), (side, side, 3)).shape == (1, side, side, 3)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        # The size was once read from where the header should be.
        (
            SIGNATURE
            + chunk(b"abCd", struct.pack(">II", WIDTH, HEIGHT) + bytes(5))
            + header(20_000, 20_000)
            + DATA
            + END,
            "must hold a PNG or a JPEG",
        ),
        (
            SIGNATURE + header(HEIGHT, WIDTH)[4:].rjust(25, b"\1") + DATA + END,
            "must hold a PNG or a JPEG",
        ),
        (SIGNATURE + header(20_000, 20_000) + DATA + END, r"\[20000 20000\]"),
        (SIGNATURE + header() + header(20_000, 20_000) + DATA + END, "Invalid PNG"),
        (SIGNATURE + header() + TEXT * 300 + DATA + END, "bytes of texts and colour profiles"),
        (SIGNATURE + header() + DATA + TEXT * 300 + END, "bytes of texts and colour profiles"),
        (
            SIGNATURE + header() + chunk(b"IDAT", zlib.compress(bytes(2**24))) + END,
            "bytes of pixels; the largest has",
        ),
        (SIGNATURE + header() + chunk(b"abCd") * 2000 + DATA + END, "small chunks"),
        (PNG + bytes(2**18 + 10_000), "must have at most 263008 bytes"),
        (saved() + bytes(2**18 + 10_000), "must have at most 263008 bytes"),
    ],
    ids=[
        "another chunk before the header",
        "a header of another length",
        "another size",
        "a second header",
        "texts before the pixels",
        "texts after the pixels",
        "surplus pixels",
        "many chunks",
        "bytes after a PNG",
        "bytes after a JPEG",
    ],
)
def test_a_file_beyond_a_bound_is_refused(decode: Any, file: bytes, message: str) -> None:
    """Also among other files."""
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decode(PNG, file)


def segment(marker: int, data: bytes) -> bytes:
    return bytes([255, marker]) + struct.pack(">H", len(data) + 2) + data


def frame(height: int, width: int) -> bytes:
    """The header of a frame: SOF0 of one component."""
    return segment(0xC0, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")


def test_the_size_of_a_jpeg_is_that_of_its_frame(decode: Any) -> None:
    """Not that of a thumbnail, or of what looks like a frame in metadata, in either direction."""
    jpeg = saved(quality=95)
    expected = tf.io.decode_jpeg(jpeg).numpy()[..., 0]
    thumbnail = saved(np.zeros((20, 30), np.uint8))
    for inside in (frame(20_000, 20_000), thumbnail):
        for marker in (0xE1, 0xFE):
            file = jpeg[:2] + segment(marker, b"Exif\0\0" + inside) + jpeg[2:]
            np.testing.assert_array_equal(decode(file)[0], expected)
    large = saved(np.zeros((20, 30), np.uint8))
    disguised = large[:2] + segment(0xE1, b"Exif\0\0" + frame(HEIGHT, WIDTH)) + large[2:]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[20 30\]"):
        decode(disguised)
    # Two frames: libjpeg takes the first and refuses the second.
    start = jpeg.index(b"\xff\xc0")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Invalid JPEG|must be 8 pixels"):
        decode(jpeg[:start] + frame(HEIGHT, WIDTH) + frame(20_000, 20_000) + jpeg[start:])


def test_a_progressive_jpeg_has_a_bounded_number_of_scans(decode: Any) -> None:
    progressive = saved(quality=95, progressive=True)
    assert decode(progressive).shape == (1, HEIGHT, WIDTH)
    begin = progressive.index(b"\xff\xda")
    end = progressive.index(b"\xff", begin + 2)
    many = progressive[:begin] + progressive[begin:end] * 200 + progressive[begin:]
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 100 scans"):
        decode(many)


def test_a_batch_of_nothing_but_scans_takes_little_memory(decode: Any) -> None:
    """Each file has 131,070 scans; a list of them for the batch would have 160 MB."""
    file = b"\xff\xd8\xff" + b"\xff\xda" * ((2**18 - 3) // 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"at most 100 scans.*131070"):
        decode(file)
    before = peak_memory()
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 100 scans"):
        decode(*[file] * 50)
    # The files are 13 MB, and ten of them are looked at at a time.
    assert peak_memory() - before < 100 * 2**20
