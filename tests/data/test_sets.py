"""Loading by name: the shipped sets, a user's arrays, the list of sets and the errors."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import click.testing
import numpy as np
import pytest

from tfp_smvi.config import DataConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import DATASETS, default_data_dir, load_dataset
from tfp_smvi.data.dataset import check_contents
from tfp_smvi.data.splits import ArraySplit, content_fingerprint
from tfp_smvi.storage.array_files import ArrayFile


def save(path: Path, **arrays: object) -> str:
    np.savez(path / "images.npz", **arrays)
    return str(path / "images.npz")


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape)


def test_importing_the_package_imports_no_framework() -> None:
    heavy = "{'tensorflow', 'tensorflow_datasets', 'sklearn'}"
    code = f"import sys, tfp_smvi.data, tfp_smvi_cli.datasets; print({heavy} & set(sys.modules))"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == "set()"


def test_digits_are_scikit_learns() -> None:
    dataset = load_dataset("digits")
    assert dataset.image_shape == (8, 8, 1)
    assert (dataset.train.num_examples, dataset.test.num_examples) == (1437, 360)
    assert (dataset.num_classes, dataset.default_likelihood) == (10, "bernoulli")
    images = dataset.train.images([0, 5])
    assert images.dtype == np.float32
    # The first row of the first digit, in scikit-learn's grey levels of 0 to 16.
    np.testing.assert_array_equal(images[0, 0, :, 0] * 16, [0, 0, 5, 13, 9, 1, 0, 0])
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    np.testing.assert_array_equal(
        np.bincount(labels), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    )


def test_contents_that_changed_are_refused() -> None:
    dataset = load_dataset("digits")
    assert check_contents(dataset, dataset.fingerprint, "") is dataset
    with pytest.raises(SMVIError, match=r"not the known ones.*; do this"):
        check_contents(dataset, "0" * 64, "do this")


def test_fingerprint_tells_pixels_labels_order_and_shape_apart() -> None:
    pixels, labels = np.arange(24, dtype=np.uint8).reshape(6, 2, 2), np.arange(6)
    test = ArraySplit(pixels, labels)
    trains = [
        ArraySplit(pixels, labels),
        ArraySplit(pixels, None),
        ArraySplit(pixels, labels[::-1]),
        ArraySplit(pixels[::-1], labels),
        ArraySplit(pixels.reshape(6, 4), labels),
        ArraySplit(pixels.astype(np.float32), labels),
    ]
    assert len({content_fingerprint(train, test) for train in trains}) == len(trains)
    assert content_fingerprint(test, trains[1]) != content_fingerprint(trains[1], test)


@pytest.mark.parametrize(
    ("x", "image_shape", "real_valued"),
    [
        (np.arange(256, dtype=np.uint8).reshape(4, 8, 8), (8, 8, 1), False),
        (np.arange(256).reshape(4, 8, 8, 1), (8, 8, 1), False),
        (random(4, 5, 6, 3), (5, 6, 3), False),
        (random(4, 7), (7,), False),
        (random(4, 7).astype(np.float16), (7,), False),
        (random(4, 7) - 0.5, (7,), True),
        (random(4, 5, 6) > 0.5, (5, 6, 1), False),
    ],
)
def test_arrays_load_in_every_allowed_form(
    tmp_path: Path, x: np.ndarray, image_shape: tuple[int, ...], real_valued: bool
) -> None:
    dataset = load_dataset(save(tmp_path, x_train=x, x_test=x[:2], y_train=[0, 3, 1, 1]))
    assert (dataset.image_shape, dataset.real_valued) == (image_shape, real_valued)
    assert (dataset.train.num_examples, dataset.test.num_examples) == (4, 2)
    assert dataset.num_classes == 4
    assert dataset.test.labels is None
    scale = 255 if x.dtype.kind in "ui" else 1
    images = dataset.train.images([3, 0])
    assert images.dtype == np.float32
    # Rounding to float32 is relative 6e-8, and the division by 255 rounds once more.
    np.testing.assert_allclose(images, x[[3, 0]].reshape(2, *image_shape) / scale, rtol=1.2e-7)


def test_likelihood_follows_from_the_values(tmp_path: Path) -> None:
    for x, likelihood in [
        (random(4, 5, 5), "bernoulli"),
        (random(4, 5, 5, 3), "gaussian"),
        (random(4, 3) - 0.5, "gaussian"),
    ]:
        assert load_dataset(save(tmp_path, x_train=x, x_test=x)).default_likelihood == likelihood


GOOD = random(4, 5, 5)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": GOOD}, "no array x_test, but x_train"),
        (
            {"x_train": GOOD, "x_test": random(4, 5, 6)},
            r"shape \(5, 5\), and those of x_test \(5, 6\)",
        ),
        ({"x_train": GOOD, "x_test": GOOD > 0.5}, "x_train is of floats and x_test is of bool"),
        ({"x_train": GOOD, "x_test": GOOD[:0]}, "x_test has shape"),
        ({"x_train": GOOD[0, 0], "x_test": GOOD}, "x_train has shape"),
        ({"x_train": GOOD * np.nan, "x_test": GOOD}, "x_train has no value that is not NaN"),
        ({"x_train": GOOD, "x_test": GOOD + np.inf}, "x_test has values that are infinite"),
        ({"x_train": GOOD * 1e300, "x_test": GOOD}, "too large for float32"),
        (
            {"x_train": np.full((4, 5, 5), 256), "x_test": np.full((4, 5, 5), 2)},
            "integers from 256 to 256",
        ),
        (
            {"x_train": np.full((4, 5, 5), -1), "x_test": np.full((4, 5, 5), 2)},
            "integers from -1 to -1",
        ),
        (
            {"x_train": np.full((4, 5, 5), 9), "x_test": np.ones((4, 5, 5), int)},
            "x_test has no integer above 1, and x_train has",
        ),
        (
            {"x_train": np.full((4, 5, 5), 65535, np.uint16), "x_test": np.ones((4, 5, 5), int)},
            "65535",
        ),
        ({"x_train": GOOD + 1j, "x_test": GOOD}, "dtype complex128"),
        ({"x_train": np.array([[None]]), "x_test": GOOD}, "without object arrays"),
        (
            {"x_train": GOOD, "x_test": GOOD, "y_train": [0, 1]},
            r"y_train has shape \(2,\) for 4 examples",
        ),
        ({"x_train": GOOD, "x_test": GOOD, "y_test": [0.0, 1, 2, 3]}, "must be integers from 0"),
        ({"x_train": GOOD, "x_test": GOOD, "y_test": [0, 1, 2, -3]}, "must be integers from 0"),
    ],
)
def test_arrays_that_cannot_be_images_are_refused_in_one_line(
    tmp_path: Path, arrays: dict[str, object], message: str
) -> None:
    path = save(tmp_path, **arrays)
    with pytest.raises(SMVIError, match=message) as caught:
        load_dataset(path)
    assert "\n" not in str(caught.value)
    assert path in str(caught.value)


@pytest.mark.parametrize(
    ("y_train", "message"),
    [
        (np.zeros(50, int), r"shape \(50,\)"),
        (np.zeros((4, 1), int), r"shape \(4, 1\)"),
        (np.zeros(4), "integers"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_anything_is_read(
    y_train: np.ndarray, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file may unpack to labels that fill the memory."""

    def load(array: ArrayFile) -> np.ndarray:
        raise AssertionError("values were read")

    path = save(tmp_path, x_train=random(4, 5, 5), x_test=random(4, 5, 5), y_train=y_train)
    monkeypatch.setattr(ArrayFile, "load", load)
    with pytest.raises(SMVIError, match=message):
        load_dataset(path)


def test_files_that_are_no_npz_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SMVIError, match="no such file"):
        load_dataset(str(tmp_path / "missing.npz"))
    good = Path(save(tmp_path, x_train=random(50, 5, 5), x_test=GOOD))
    for contents in (
        b"",
        b"no archive",
        good.read_bytes()[:-200],
        good.read_bytes().replace(b"NUMPY", b"nUMPY"),
    ):
        (tmp_path / "bad.npz").write_bytes(contents)
        with pytest.raises(SMVIError, match="cannot be read") as caught:
            load_dataset(str(tmp_path / "bad.npz"))
        assert "\n" not in str(caught.value)


def test_data_of_a_file_have_the_name_of_the_configuration_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, x_train=GOOD, x_test=GOOD)
    monkeypatch.chdir(tmp_path)
    config, dataset = DataConfig("images.npz"), load_dataset("images.npz")
    monkeypatch.chdir("/")
    assert dataset.name == config.dataset == str(tmp_path / "images.npz")
    assert DataConfig(dataset.name) == config


def test_what_is_no_archive_is_called_so_and_not_a_pickle(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", GOOD)
    for contents in (b"", b"no archive", (tmp_path / "array.npy").read_bytes()):
        (tmp_path / "bad.npz").write_bytes(contents)
        with pytest.raises(SMVIError, match=r"it is not an \.npz file") as caught:
            load_dataset(str(tmp_path / "bad.npz"))
        assert "pickle" not in str(caught.value)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(SMVIError, match="is a folder"):
        load_dataset(str(tmp_path / "folder.npz"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mnits", "did you mean mnist"),
        ("Mnist", "did you mean mnist"),
        ("../mnist", "did you mean mnist"),
        ("huggingface:mnist", ""),
        ("mnist:9.9.9", ""),
    ],
)
def test_unknown_name_points_to_the_list(name: str, hint: str) -> None:
    with pytest.raises(SMVIError, match=r"there is no data set .*`tfp-smvi datasets`") as caught:
        load_dataset(name)
    assert hint in str(caught.value)


def test_data_dir_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TFP_SMVI_DATA_DIR", raising=False)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    assert default_data_dir() == Path.home() / "tensorflow_datasets"
    monkeypatch.setenv("TFDS_DATA_DIR", "/one")
    assert default_data_dir() == Path("/one")
    monkeypatch.setenv("TFP_SMVI_DATA_DIR", "~/two")
    assert default_data_dir() == Path.home() / "two"


def list_datasets(*arguments: str) -> str:
    command = importlib.import_module("tfp_smvi_cli.datasets").datasets
    result = click.testing.CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_list_has_a_line_for_each_set(tmp_path: Path) -> None:
    lines = list_datasets("--data-dir", str(tmp_path)).splitlines()
    assert [line.split()[0] for line in lines[1 : len(DATASETS) + 1]] == list(DATASETS)
    assert lines[1].endswith("first use")
    assert lines[2].endswith("yes")
    assert max(map(len, lines[: len(DATASETS) + 1])) <= 80
    assert lines[3].endswith("download")


def test_list_as_json_tells_what_is_prepared(tmp_path: Path) -> None:
    for directory in ("mnist/incomplete.X_3.0.1", "emnist/letters/3.1.0"):
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory / "dataset_info.json").touch()
    rows = {
        row["name"]: row for row in json.loads(list_datasets("--json", "--data-dir", str(tmp_path)))
    }
    assert [name for name, row in rows.items() if row["prepared"]] == ["digits", "emnist/letters"]
    assert rows["cifar10"]["image_shape"] == [32, 32, 3]
    assert rows["cifar10"]["likelihood"] == "gaussian"
    assert [name for name, row in rows.items() if not row["needs_download"]] == ["mnist", "digits"]
