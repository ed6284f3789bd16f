"""Inputs of `features`: arrays and folders of images, and those that are none."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from tests.support.errors import refused
from tests.support.memory import peak_memory
from tests.support.servers import SHAPE, make_images
from tfp_smvi.features.images import open_images
from tfp_smvi.features.sources import ArrayImages, SplitImages, TableRows
from tfp_smvi.storage import array_files


def test_images_of_a_split_on_disk_are_the_grey_levels() -> None:
    images = make_images(10)

    class Split:
        num_examples, image_shape, labels = 10, SHAPE, None
        kind, has_missing = "intensities", False

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


def test_a_mask_and_names_of_an_array_are_read(tmp_path: Path) -> None:
    x = np.arange(12.0).reshape(4, 3)
    mask = np.ones((4, 3), bool)
    mask[1, 2] = mask[3, 0] = False
    path = tmp_path / "x.npz"
    np.savez(path, x_test=x, test_mask=mask, names=["a", "b", "c"], x_train=x[::-1])
    masked = np.where(mask, x, np.nan)
    source = open_images(path, "x_test")
    assert isinstance(source, TableRows)
    np.testing.assert_array_equal(source.read(0, 4).images, masked)
    ordered = source.ordered(("c", "a", "b"))
    np.testing.assert_array_equal(ordered.read(1, 3).images, masked[1:3, [2, 0, 1]])
    with refused("images"):
        source.ordered(("a", "b"))
    plain = open_images(path, "x_train")  # it has no mask
    np.testing.assert_array_equal(plain.read(0, 4).images, x[::-1])
    images = tmp_path / "images.npz"
    np.savez(images, x=x.reshape(4, 3, 1), mask=mask.reshape(4, 3, 1))
    pictures = open_images(images, "x")
    assert isinstance(pictures, TableRows)
    assert pictures.ordered(("a", "b", "c")) is pictures  # without names, as it is
    np.testing.assert_array_equal(pictures.read(0, 4).images[..., 0], masked)


def test_integers_with_a_mask_or_names_are_as_the_model_takes_them(tmp_path: Path) -> None:
    counts = np.arange(12).reshape(4, 3)
    path = tmp_path / "x.npz"
    np.savez(path, x=counts, mask=counts != 5, names=["a", "b", "c"])
    source = open_images(path, "x")
    assert isinstance(source, TableRows)
    np.testing.assert_array_equal(
        source.read(0, 4).images, np.where(counts == 5, np.nan, counts.astype(float))
    )
    source.require_values({"serving_default"})
    with refused("images"):  # they may be grey levels, which are divided by 255
        source.require_values({"serving_default", "uint8"})
    np.savez(path, x=counts, names=["a", "b", "c"])
    named = open_images(path, "x")
    assert isinstance(named, ArrayImages)
    for names in (None, ("a", "b", "c")):
        named.require_order(names)
    with refused("images"):
        named.as_values().require_order(("b", "a", "c"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(("label", "given"), [("label", None), ("type", "type")])
def test_the_rows_of_a_table_are_read_without_the_class(
    suffix: str, label: str, given: str | None, tmp_path: Path
) -> None:
    """Of whole numbers and others, with a cell that is empty."""
    columns: dict[str, Any] = {"a": [1, None, 3000], label: ["x", "y", "x"], "b": [0.5, -1.5, 2.25]}
    path, table = tmp_path / f"x{suffix}", pa.table(columns)
    (csv.write_csv if suffix == ".csv" else parquet.write_table)(table, path)
    source = open_images(path, label_column=given)
    assert (source.num_images, source.image_shape) == (3, (2,))
    read = source.read(1, 9)
    np.testing.assert_array_equal(read.indices, [1, 2])
    np.testing.assert_array_equal(read.images, np.array([[np.nan, -1.5], [3000, 2.25]], np.float32))
    assert read.images.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "label_column", "field"),
    [
        ("texts.csv", None, "images"),
        ("texts.parquet", None, "images"),
        ("garbage.parquet", None, "images"),
        ("header.csv", None, "images"),
        ("missing.csv", None, "images"),
        ("folder.csv/x.csv", None, "images"),
        ("header.csv", "type", "label_column"),
        ("x.npy", "type", "label_column"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(
    name: str, label_column: str | None, field: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", make_images(2))
    (tmp_path / "header.csv").write_text("a,b\n")
    (tmp_path / "texts.csv").write_text("a,b\n1,x\n")
    parquet.write_table(pa.table({"a": ["x"]}), tmp_path / "texts.parquet")
    (tmp_path / "garbage.parquet").write_bytes(b"garbage")
    with refused(field, label_column or str(tmp_path / name)) as error:
        open_images(str(tmp_path / name), label_column=label_column)
    assert "\n" not in str(error.value)


@pytest.fixture
def inputs(tmp_path: Path) -> Iterator[Path]:
    """A folder with inputs that are wrong, each in its way."""
    np.save(tmp_path / "texts.npy", np.array(["a", "b"]))
    np.save(tmp_path / "empty.npy", np.zeros((0, 8, 8)))
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


@pytest.mark.parametrize("shape", ["40, 8, 9, 1", "4, 8, 8, 1", "-4, 8, 8, 1", "9" * 40 + ", 8"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_header_that_promises_other_bytes_is_one_line(
    shape: str, suffix: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "good.npy", make_images(40))
    content = (tmp_path / "good.npy").read_bytes().replace(b"(40, 8, 8, 1)", f"({shape})".encode())
    path = tmp_path / f"x{suffix}"
    # The header keeps its length, which ends with the line feed.
    length = int.from_bytes(content[8:10], "little")
    spare = len(content) - (tmp_path / "good.npy").stat().st_size
    end = content.index(b"\n")
    content = content[: end - spare] + content[end:]
    assert content[9 + length] == ord("\n")
    if suffix == ".npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
    else:
        path.write_bytes(content)
    with refused("images", str(path)):
        open_images(path)


def test_the_header_of_a_packed_array_is_read_before_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As 1.5 MB that unpack to 1.9 GB: their shape is not the model's, which costs no memory."""
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((4000, 100), np.uint8))
    assert open_images(tmp_path / "x.npz").image_shape == (100,)
    assert peak_memory(lambda: open_images(tmp_path / "x.npz")) < 4000 * 100 / 2
    # Of the right shape, it is refused beyond a size at which packing is no honest saving.
    monkeypatch.setattr(array_files, "_LARGE", 100_000)
    with refused("images", str(tmp_path / "x.npz")):
        open_images(tmp_path / "x.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_bit_that_flipped_in_an_archive_is_found(save: Any, tmp_path: Path) -> None:
    """Values that are mapped into memory would not be checked by themselves."""
    save(tmp_path / "x.npz", x=np.random.default_rng(0).integers(0, 256, (4000, 64), np.uint8))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "x.npz").write_bytes(content)
    source = open_images(tmp_path / "x.npz")
    with refused("images", f"{tmp_path / 'x.npz'}: x"):
        source.read(0, 5)


@pytest.mark.parametrize("name", ["tfds:", "tfds:mnist", "tfds:digits/validation"])
def test_a_split_of_another_form_is_one_line(name: str) -> None:
    with refused("images", name):
        open_images(name)
