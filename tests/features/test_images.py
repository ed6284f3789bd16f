"""Inputs of `features`: arrays and folders of images, and those that are none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.errors import refused
from tests.support.servers import SHAPE, make_images
from tfp_smvi.features.images import open_images
from tfp_smvi.features.sources import ArrayImages, SplitImages


def test_images_of_a_split_on_disk_are_the_grey_levels() -> None:
    images = make_images(10)

    class Split:
        num_examples, image_shape, real_valued, labels = 10, SHAPE, False, None

        def images(self, indices: Any) -> np.ndarray:
            return images[indices].astype(np.float32) / np.float32(255)

    read = SplitImages(Split(), {}).read(2, 20)
    np.testing.assert_array_equal(read.images, images[2:])
    assert read.images.dtype == np.uint8


def test_arrays_on_disk_are_mapped_and_not_read(tmp_path: Path) -> None:
    images = make_images(20)
    np.save(tmp_path / "x.npy", images)
    np.savez(tmp_path / "plain.npz", labels=np.arange(20), x=np.asfortranarray(images))
    np.savez_compressed(tmp_path / "packed.npz", x=images)
    sources = {
        name: open_images(str(tmp_path / name), key)
        for name, key in (("x.npy", None), ("plain.npz", "x"), ("packed.npz", None))
    }
    for name, source in sources.items():
        assert isinstance(source, ArrayImages)
        np.testing.assert_array_equal(source.read(3, 9).images, images[3:9])
        assert isinstance(source._array, np.memmap) == (name != "packed.npz"), name


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 1.0]] * 3, np.float64), np.array([[0.0, 1.0]], np.float32)),
        (np.array([[False, True]] * 3), np.array([[0, 255]], np.uint8)),
        (np.array([[0, 255]] * 3, np.int64), np.array([[0, 255]], np.uint8)),
    ],
    ids=["float64", "bool", "int64"],
)
def test_values_are_read_as_the_model_takes_them(values: np.ndarray, expected: np.ndarray) -> None:
    images = ArrayImages(values, {}, "x").read(1, 2).images
    np.testing.assert_array_equal(images, expected)
    assert images.dtype == expected.dtype


@pytest.fixture
def inputs(tmp_path: Path) -> Iterator[Path]:
    """A folder with inputs that are wrong, each in its way."""
    np.save(tmp_path / "texts.npy", np.array(["a", "b"]))
    np.save(tmp_path / "empty.npy", np.zeros((0, 8, 8)))
    np.save(tmp_path / "bits.npy", make_images(20) % 2)
    np.save(tmp_path / "objects.npy", np.array([[None], [1]], object))
    np.savez(tmp_path / "two.npz", x=make_images(2), y=make_images(2))
    np.savez(tmp_path / "objects.npz", x=np.array([[None], [1]], object))
    (tmp_path / "garbage.npy").write_bytes(b"garbage")
    (tmp_path / "garbage.npz").write_bytes(b"garbage")
    (tmp_path / "none").mkdir()
    yield tmp_path


@pytest.mark.parametrize(
    ("name", "key", "field"),
    [
        ("texts.npy", None, "images"),
        ("empty.npy", None, "images"),
        ("bits.npy", None, "images"),
        ("objects.npy", None, "images"),
        ("objects.npz", None, "images"),
        ("garbage.npy", None, "images"),
        ("garbage.npz", None, "images"),
        ("missing.npy", None, "images"),
        ("two.npz", None, "key"),
        ("two.npz", "z", "key"),
        ("texts.npy", "x", "key"),
        ("none", None, "images"),
        ("images.zip", None, "images"),
    ],
)
def test_an_input_that_cannot_be_read_is_one_line(
    inputs: Path, name: str, key: str | None, field: str
) -> None:
    value = key if field == "key" else str(inputs / name)
    with refused(field, value) as error:
        open_images(str(inputs / name), key)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["tfds:", "tfds:mnist", "tfds:digits/validation"])
def test_a_split_of_another_form_is_one_line(name: str) -> None:
    with refused("images", name):
        open_images(name)
