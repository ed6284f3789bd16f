"""A user's own data: one file or two, arrays, masks, standardization, sets larger than memory."""

import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from pyarrow import parquet

from tests.support.errors import refused
from tfp_smvi.config import DataConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import (
    ArraySplit,
    Dataset,
    assembly,
    eval_batches,
    load_dataset,
    rows,
    train_batches,
)
from tfp_smvi.data.assembly import DiskSplit
from tfp_smvi.data.batches import explain_read_errors
from tfp_smvi.data.description import describe, doubts
from tfp_smvi.data.standardization import Standardization

RNG = np.random.default_rng(0)
REALS = RNG.normal(100.0, 50.0, (40, 3))
LABELS = RNG.integers(0, 3, 40)


def read(dataset: Dataset, split: str = "train") -> np.ndarray:
    part = getattr(dataset, split)
    return part.images(np.arange(part.num_examples))


def test_a_file_is_split_at_random_and_always_in_the_same_way(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=REALS, y=LABELS)
    config = DataConfig(str(tmp_path / "x.npz"), test_fraction=0.25)
    dataset, again = load_dataset(config), load_dataset(config)
    train, test = read(dataset), read(dataset, "test")
    assert (len(train), len(test)) == (30, 10)
    assert dataset.fingerprint == again.fingerprint
    # Every example is in one of both, with its label, in the order of the file.
    x = REALS.astype(np.float32).tolist()
    indices = [[x.index(row) for row in part.tolist()] for part in (train, test)]
    assert sorted(indices[0] + indices[1]) == list(range(40))
    assert all(part == sorted(part) for part in indices)
    np.testing.assert_array_equal(dataset.test.labels, LABELS[indices[1]])
    assert dataset.num_classes == 3
    # NumPy's legacy generator is frozen: this split is the same on every machine and version.
    assert indices[1] == sorted(np.random.RandomState(0).permutation(40)[:10])
    other = DataConfig(config.dataset, test_fraction=0.25, split_seed=1)
    assert load_dataset(other).fingerprint != dataset.fingerprint


def test_one_file_trains_and_another_tests(tmp_path: Path) -> None:
    np.save(tmp_path / "train.npy", REALS)
    np.savez(tmp_path / "test.npz", x=REALS[:7] + 1.0)
    config = DataConfig(str(tmp_path / "train.npy"), str(tmp_path / "test.npz"))
    dataset = load_dataset(config)
    assert dataset.config == config
    np.testing.assert_array_equal(read(dataset), REALS.astype(np.float32))
    np.testing.assert_array_equal(read(dataset, "test"), (REALS[:7] + 1.0).astype(np.float32))


def test_arrays_make_the_data_set_that_a_file_of_them_makes(tmp_path: Path) -> None:
    mask = RNG.random((40, 3)) < 0.8
    names = ["length", "width", "height"]
    arrays: dict[str, Any] = {
        "x_train": REALS,
        "x_test": REALS[:9],
        "y_train": LABELS,
        "y_test": LABELS[:9],
        "train_mask": mask,
    }
    np.savez(tmp_path / "x.npz", **arrays, names=names)
    file, own = load_dataset(tmp_path / "x.npz"), Dataset.from_arrays(**arrays, names=names)
    assert file.fingerprint == own.fingerprint
    assert file.names == own.names == tuple(names)
    assert own.config == DataConfig("arrays")
    assert own.has_missing
    np.testing.assert_array_equal(read(own), np.where(mask, REALS, np.nan).astype(np.float32))
    np.testing.assert_array_equal(read(own, "test"), REALS[:9].astype(np.float32))


@pytest.mark.parametrize(
    ("x", "observed"),
    [
        (RNG.integers(0, 256, (20, 4, 4)), lambda x: x / 255),
        (RNG.integers(0, 2, (20, 4)), lambda x: x),
        (RNG.random((20, 4)) < 0.5, lambda x: x),
        (RNG.integers(0, 9, (20, 4)), lambda x: x),
        (RNG.random((20, 4)), lambda x: x),
        (RNG.normal(size=(20, 4)), lambda x: x),
    ],
)
def test_masked_values_are_missing_and_the_others_mean_the_same(
    x: np.ndarray, observed: Any
) -> None:
    mask = RNG.random(x.shape) < 0.7
    masked = Dataset.from_arrays(x, x, train_mask=mask, test_mask=mask)
    assert masked.kind == Dataset.from_arrays(x, x).kind
    values = read(masked).reshape(x.shape)
    np.testing.assert_array_equal(np.isnan(values), ~mask)
    # One float32 rounding, and one more of the division by 255.
    np.testing.assert_allclose(values[mask], observed(x)[mask], rtol=1.2e-7)
    assert describe(masked, "gaussian").count("missing") == 1


def test_examples_without_any_value_are_said() -> None:
    x = REALS.copy()
    x[[3, 5]] = np.nan
    (note,) = Dataset.from_arrays(x, REALS).notes
    assert note.startswith("2 of the 40 examples of x_train have no value at all")


def test_standardized_values_have_mean_0_and_stddev_1_and_go_back() -> None:
    """Large offsets lose nothing: they are subtracted in float64."""
    x = np.concatenate([REALS, REALS[:, :1] + 1e8, np.full((40, 1), 0.1)], axis=1)
    x[::4, 1] = np.nan
    dataset = Dataset.from_arrays(x, x[:9], standardize=True)
    values = read(dataset).astype(np.float64)
    # Of float32: a relative rounding of 6e-8 of values of up to 3.
    np.testing.assert_allclose(np.nanmean(values[:, :4], 0), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.nanstd(values[:, :4], 0), 1.0, rtol=1e-6)
    np.testing.assert_allclose(values[:, 4], 0.0, atol=1e-7)
    scale = dataset.standardization
    assert scale is not None
    np.testing.assert_allclose(scale.undo(read(dataset))[:, :3], x[:, :3], rtol=1e-5)
    np.testing.assert_allclose(scale.stddev[:3], np.nanstd(x[:, :3], 0), rtol=1e-6)
    assert scale.stddev[4] == 1.0
    expected = np.log(np.nanstd(x[:, :4], 0)).sum()
    np.testing.assert_allclose(scale.log_scale, expected, rtol=1e-6)
    # The data are the same; only the values that the model sees are others.
    assert dataset.fingerprint == Dataset.from_arrays(x, x[:9]).fingerprint


@pytest.mark.parametrize("spread", [10.0, 600.0, 1e6])
def test_times_in_seconds_are_standardized(spread: float) -> None:
    """Their stddev is as little as 1e-9 of their mean, less than the rounding of a float."""
    x = np.stack([1.7e9 + RNG.uniform(0.0, spread, 300), np.full(300, 1.7e9)], axis=1)
    dataset = Dataset.from_arrays(x, x, standardize=True)
    values = read(dataset).astype(np.float64)
    # A mean that is rounded to a float may be off by 1e-3; float64 rounds times by 2.4e-7 s.
    np.testing.assert_allclose(values.mean(0), 0.0, atol=1.1e-3)
    np.testing.assert_allclose(values.std(0), [1.0, 0.0], atol=1e-6)
    (line,) = doubts(dataset, "gaussian")
    assert "are near 1.7e+09, where float32" in line


def test_tensors_are_standardized_as_arrays_are() -> None:
    """An export subtracts a mean that no float holds; given values are floats there."""
    x = np.array([[1.7e9 + 128.0, 101.0], [1.7e9 - 256.0, 99.0]], np.float32)
    scale = Standardization(np.array([1.7e9 + 77.7, 100.0]), np.array([90.0, 2.0], np.float32))
    np.testing.assert_allclose(scale.apply(tf.constant(x)), scale.apply(x), rtol=1e-6)


@pytest.mark.parametrize("kind", ["intensities", "counts"])
def test_only_reals_are_standardized(kind: Any) -> None:
    with refused("standardize"):
        Dataset.from_arrays(
            RNG.integers(0, 2, (9, 3)), test_fraction=0.5, kind=kind, standardize=True
        )


@pytest.mark.parametrize(
    "x",
    [
        RNG.integers(0, 256, (40, 4, 4), np.uint8),
        RNG.integers(0, 2, (40, 3)),
        RNG.integers(0, 9, (40, 3)),
        RNG.random((40, 3)).astype(">f8"),
        np.where(RNG.random((40, 3)) < 0.8, REALS, np.nan),
        np.asfortranarray(REALS),
    ],
)
@pytest.mark.parametrize("standardize", [False, True])
def test_a_set_larger_than_memory_has_the_same_values_and_fingerprint(
    x: np.ndarray, standardize: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", x)
    kind: Any = "real" if standardize else None
    settings = {"test_fraction": 0.3, "kind": kind, "standardize": standardize}
    config = DataConfig(str(tmp_path / "x.npy"), **settings)  # type: ignore[arg-type]
    memory = load_dataset(config)
    monkeypatch.setattr(assembly, "MAX_BYTES_IN_MEMORY", 0)
    disk = load_dataset(config)
    assert isinstance(memory.train, ArraySplit)
    assert isinstance(disk.train, DiskSplit)
    assert memory.fingerprint == disk.fingerprint
    for split in ("train", "test"):
        np.testing.assert_array_equal(read(memory, split), read(disk, split))
    indices = [5, 5, 2, 3, 27]
    np.testing.assert_array_equal(memory.train.images(indices), disk.train.images(indices))
    assert memory.has_missing == disk.has_missing
    assert memory.num_categories == disk.num_categories
    likelihood = memory.default_likelihood
    assert describe(memory, likelihood) == describe(disk, likelihood)


def streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Dataset]:
    """A file of REALS that is not taken into memory, and its data."""
    monkeypatch.setattr(assembly, "MAX_BYTES_IN_MEMORY", 0)
    path = tmp_path / "x.npy"
    np.save(path, REALS)
    dataset = load_dataset(DataConfig(str(path), test_fraction=0.5))
    return path, dataset


def test_a_file_that_is_cut_short_while_it_is_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mapped file would kill the process."""
    path, dataset = streamed(tmp_path, monkeypatch)
    with path.open("r+b") as file:
        file.truncate(200)
    with pytest.raises(
        SMVIError, match=r"x\.npy can no longer be read \(it is shorter than it was"
    ):
        read(dataset)


def test_a_file_that_is_written_to_is_refused_and_one_that_is_deleted_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, dataset = streamed(tmp_path, monkeypatch)
    before = read(dataset)
    (tmp_path / "link.npy").hardlink_to(path)
    path.unlink()
    np.testing.assert_array_equal(read(dataset), before)
    with (tmp_path / "link.npy").open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"12345678")
    os.utime(tmp_path / "link.npy", ns=(1, 1))  # the clock of files may be coarse
    with pytest.raises(SMVIError, match=r"x\.npy can no longer be read \(it has changed"):
        read(dataset)


def test_a_split_that_cannot_be_read_is_one_line_in_a_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, dataset = streamed(tmp_path, monkeypatch)
    os.truncate(path, 200)
    batches = train_batches(dataset.train, batch_size=2, seed=0, num_steps=1, binarize=False)
    with pytest.raises(SMVIError) as caught, explain_read_errors():
        list(batches)
    assert str(caught.value) == (
        f"{path} can no longer be read (it is shorter than it was); restore it and run again."
    )
    with pytest.raises(tf.errors.InvalidArgumentError), explain_read_errors():
        tf.ensure_shape(tf.zeros(2), [3])


@pytest.mark.parametrize(
    ("arrays", "settings", "message"),
    [
        ({"x": REALS}, {}, "has no test data; give test_fraction"),
        ({"x": REALS, "x_train": REALS}, {"test_fraction": 0.5}, "has x, x_train; write x_train"),
        ({"x_train": REALS, "x_test": REALS}, {"test_fraction": 0.5}, "has x_train and x_test al"),
        ({"x": REALS, "y": LABELS[:9]}, {"test_fraction": 0.5}, r"y has shape \(9,\) for 40"),
        ({"x": REALS, "y": LABELS - 9}, {"test_fraction": 0.5}, "y .* must be integers from 0"),
        ({"x": REALS, "mask": REALS > 0}, {"test_fraction": 0.01}, "leaves 0 of 40 examples"),
        ({"x": REALS, "mask": REALS[:9] > 0}, {"test_fraction": 0.5}, r"mask is bool of shape \(9"),
        ({"x": REALS, "mask": REALS}, {"test_fraction": 0.5}, "mask is float64"),
        ({"x": REALS, "names": ["a", "b"]}, {"test_fraction": 0.5}, "names is .* of shape"),
        ({"x": REALS, "names": [1, 2, 3]}, {"test_fraction": 0.5}, "names is int64"),
        ({"x": REALS}, {"test_fraction": 0.5, "kind": "counts"}, "kind = 'counts' is not what"),
        ({"x": REALS}, {"test_fraction": 0.5, "kind": "intensities"}, "'intensities' is not what"),
    ],
)
def test_files_that_do_not_fit_are_refused_in_one_line(
    arrays: dict[str, Any], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(SMVIError, match=message) as caught:
        load_dataset(DataConfig(str(tmp_path / "x.npz"), **settings))
    assert "\n" not in str(caught.value)


def test_two_files_of_other_shapes_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", REALS)
    np.save(tmp_path / "y.npy", REALS[:, :2])
    with pytest.raises(SMVIError, match=r"examples of x\.npy have shape \(3,\), and .* \(2,\)"):
        load_dataset(DataConfig(str(tmp_path / "x.npy"), str(tmp_path / "y.npy")))


@pytest.mark.parametrize("arguments", [{}, {"x_test": REALS, "test_fraction": 0.5}])
def test_arrays_need_test_data_once(arguments: dict[str, Any]) -> None:
    with refused("test_fraction"):
        Dataset.from_arrays(REALS, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_a_set_larger_than_memory_takes_little_of_it(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 MB are loaded, trained and tested on in 10 MB, of NumPy and of Arrow alike."""
    x = RNG.standard_normal((100_000, 100), np.float32)
    path = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        np.save(path, x)
    else:
        table = pa.table({f"c{i}": x[:, i] for i in range(100)})
        parquet.write_table(table, path, row_group_size=5000)
        del table
    del x
    monkeypatch.setattr(assembly, "MAX_BYTES_IN_MEMORY", 1 << 20)
    monkeypatch.setattr(rows, "BLOCK_NUMBERS", 1 << 16)
    tf.constant(0)  # what TensorFlow takes at its first use is not counted
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        dataset = load_dataset(DataConfig(str(path), test_fraction=0.2, standardize=True))
        steps = train_batches(dataset.train, batch_size=50, seed=0, num_steps=40, binarize=False)
        tests = eval_batches(dataset.test, batch_size=500, seed=0, binarize=False)
        assert sum(1 for _ in steps) == 40
        assert sum(len(indices) for indices, _ in tests) == 20_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10e6
    assert pa.total_allocated_bytes() - before < 10e6
