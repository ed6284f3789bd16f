"""Folders of image files: which files are read, and how they are seen."""

import io
import os
import socket
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFile

from tests.support.errors import refused
from tests.support.servers import encode_png, make_images
from tfp_smvi.features.image_files import ImageFiles
from tfp_smvi.features.images import open_images

# How the pixels of a file are turned to be seen, by the value of the EXIF tag "orientation".
TURNS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


def encoded(pixels: np.ndarray, kind: str, orientation: int = 1) -> bytes:
    """Encodes an image, uint8 [height, width] or [height, width, 3]."""
    file, image = io.BytesIO(), Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(file, kind, exif=exif)
    return file.getvalue()


def decoded(data: bytes) -> np.ndarray:
    """Decodes an image as an export does."""
    return tf.io.decode_png(data).numpy().squeeze()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 3)])
def test_images_are_turned_as_their_exif_data_say(
    kind: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    """The same pixels as the model would decode, at another place."""
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for orientation in TURNS:
        data = encoded(pixels, kind, orientation)
        (tmp_path / f"{orientation}.{kind.lower()[:4].replace('jpeg', 'jpg')}").write_bytes(data)
    images = ImageFiles(tmp_path).read(0, len(TURNS)).images
    for image, (orientation, turn) in zip(images, TURNS.items(), strict=True):
        plain = decoded(encoded(pixels, kind, orientation))
        # Two decoders of JPEG round differently, by a few levels; a wrong turn differs by about 85.
        atol = 8 if kind == "JPEG" else 0
        np.testing.assert_allclose(decoded(image).astype(int), turn(plain), rtol=0, atol=atol)


def test_an_image_without_a_turn_is_not_touched(tmp_path: Path) -> None:
    data = encoded(make_images(1)[0, ..., 0], "JPEG")
    (tmp_path / "a.jpg").write_bytes(data)
    assert ImageFiles(tmp_path).read(0, 1).images == [data]


def test_cmyk_is_called_by_its_name(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg")
    (error,) = ImageFiles(tmp_path).read(0, 1).errors.values()
    assert "CMYK" in error


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe would wait for a writer for ever, and a device might never end."""
    (tmp_path / "a.png").write_bytes(encode_png(make_images(1)[0]))
    (tmp_path / "link.png").symlink_to("a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "broken.png").symlink_to("nowhere")
    (tmp_path / "labels.csv").touch()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
        notes: list[str] = []
        files = ImageFiles(tmp_path, notes.append)
    assert [note.rpartition(" ")[2] for note in notes] == ["1.", "1.", "3."]
    assert files.ids(np.arange(3)).tolist() == ["a.png", "broken.png", "link.png"]
    # One that takes the place of a file later is an error of that image, without a wait.
    (tmp_path / "a.png").unlink()
    os.mkfifo(tmp_path / "a.png")
    assert sorted(files.read(0, 3).errors) == [0, 1, 2]


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_a_pipe_in_place_of_an_array_is_one_line(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with refused("images", str(tmp_path / name)):
        open_images(tmp_path / name)


def test_a_file_that_is_larger_than_any_image_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(1 << 40)
    (error,) = ImageFiles(tmp_path).read(0, 1).errors.values()
    assert "1,099,512 MB" in error


@pytest.mark.parametrize("size", [(12_000, 10_000), (8, 8)])
def test_warnings_of_the_decoder_are_not_shown(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many pixels, which are not decoded, and of damaged EXIF data."""
    decoded_sizes: list[tuple[int, int]] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda file: decoded_sizes.append(file.size))
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0),
        b"eXIf": b"MM\0*\0\0\0\x08\0\x09" + bytes(5),
        b"IDAT": zlib.compress(bytes(72)),
        b"IEND": b"",
    }
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + zlib.crc32(kind + content).to_bytes(4)
        for kind, content in chunks.items()
    )
    (tmp_path / "a.png").write_bytes(data)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        assert ImageFiles(tmp_path).read(0, 1).images == [data]
    assert [str(line.message) for line in shown] == []
    assert {*decoded_sizes} <= {(8, 8)}


def test_images_of_0_and_1_of_255_are_refused(tmp_path: Path) -> None:
    """The encoder would see them as black; a black one among others is no matter."""
    bits = make_images(5) % 2
    for number, image in enumerate(bits):
        (tmp_path / f"{number}.png").write_bytes(encode_png(image))
    with refused("images", str(tmp_path)):
        ImageFiles(tmp_path)
    (tmp_path / "5.png").write_bytes(encode_png(make_images(1)[0]))
    assert ImageFiles(tmp_path).num_images == 6
