"""Tables: CSV and Parquet, their columns, classes and missing cells."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from tests.support.errors import refused
from tfp_smvi.config import DataConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import Dataset, load_dataset

RNG = np.random.default_rng(0)
SPECIES = np.array(["setosa", "virginica", "setosa", "versicolor"] * 5)
TABLE: dict[str, Any] = {
    "length": RNG.normal(size=20),
    "width": pa.array([None, *RNG.integers(-9, 9, 19).tolist()], pa.int32()),
    "species": SPECIES,
    "alive": RNG.random(20) < 0.5,
}
VALUES = np.stack(
    [
        np.asarray(TABLE[name], np.float64)
        if name != "width"
        else [np.nan, *map(float, TABLE["width"].to_pylist()[1:])]
        for name in ("length", "width", "alive")
    ],
    axis=1,
)


def write(path: Path, columns: dict[str, Any]) -> str:
    table = pa.table(columns)
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=7)
    else:
        csv.write_csv(table, path)
    return str(path)


def read(dataset: Dataset, split: str) -> np.ndarray:
    part = getattr(dataset, split)
    return part.images(np.arange(part.num_examples))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_has_named_entries_classes_and_missing_cells(suffix: str, tmp_path: Path) -> None:
    columns = {**TABLE, "alive": TABLE["alive"].astype(int)} if suffix == ".csv" else TABLE
    path = write(tmp_path / f"x{suffix}", columns)
    config = DataConfig(path, test_fraction=0.4, label_column="species")
    dataset = load_dataset(config)
    assert dataset.names == ("length", "width", "alive")
    assert (dataset.kind, dataset.has_missing, dataset.num_classes) == ("real", True, 3)
    test = np.sort(np.random.RandomState(0).permutation(20)[:8])
    train = np.setdiff1d(np.arange(20), test)
    for split, rows in (("train", train), ("test", test)):
        np.testing.assert_array_equal(read(dataset, split), VALUES[rows].astype(np.float32))
        names = np.array(["setosa", "versicolor", "virginica"])
        np.testing.assert_array_equal(names[getattr(dataset, split).labels], SPECIES[rows])
    assert any("0 = setosa, 1 = versicolor, 2 = virginica" in note for note in dataset.notes)
    # The two forms of the same table are the same data, on every machine.
    assert dataset.fingerprint.startswith("1d40b3879219d7c1")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_whole_numbers_are_counts_and_the_column_label_has_the_classes(
    suffix: str, tmp_path: Path
) -> None:
    columns = {"a": RNG.integers(0, 30, 9), "label": RNG.integers(0, 4, 9), "b": [0, 1, 2] * 3}
    path = write(tmp_path / f"x{suffix}", columns)
    other = write(tmp_path / f"y{suffix}", columns)
    dataset = load_dataset(DataConfig(path, other))
    assert (dataset.kind, dataset.names) == ("counts", ("a", "b"))
    np.testing.assert_array_equal(dataset.train.labels, columns["label"])
    assert dataset.notes == ()
    expected = np.stack([columns["a"], columns["b"]], axis=1)
    np.testing.assert_array_equal(read(dataset, "test"), expected)


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("", {}, "cannot be read as .csv"),
        ("a,b\n", {}, "no rows"),
        ("a,b\n1,2\n1\n", {}, "cannot be read as .csv .*Expected 2 columns, got 1"),
        ("a,b\n1,2\n1,yes\n", {}, "cannot be read as .csv .*invalid value 'yes'"),
        ("a,a\n1,2\n3,4\n", {}, "has two columns 'a'"),
        (",a\n0,2\n1,4\n", {}, "column 1 has no name"),
        ("0.5,1.5\n0,2\n1,4\n", {}, "numbers in place of names: '0.5, 1.5'"),
        ("label\n0\n1\n", {}, "has no column of values"),
        ("a,label\n1,0\n2,\n", {}, "column 'label' has no class in 1 rows"),
        ("a,b\n,1\n,2\n", {"test_fraction": 0.5}, None),
        ("a,b\n1,\n,\n", {"test_fraction": 0.5}, "has no value that is not NaN"),
        ("a,b\n1,inf\n2,3\n", {}, "infinite"),
    ],
)
def test_tables_that_do_not_fit_are_refused_in_one_line(
    text: str, settings: dict[str, Any], message: str | None, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text(text)
    config = DataConfig(str(tmp_path / "x.csv"), **{"test_fraction": 0.5, **settings})
    if message is None:
        assert np.isnan(read(load_dataset(config), "train")).any()
        return
    with pytest.raises(SMVIError, match=message) as caught:
        load_dataset(config)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "x.csv") in str(caught.value)


def test_parquet_of_texts_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"a": [1, 2], "b": ["x", "y"]})
    with pytest.raises(
        SMVIError, match=r"x\.parquet: column 'b' is of type string; .*label_column"
    ):
        load_dataset(DataConfig(path, test_fraction=0.5))
    (tmp_path / "x.parquet").write_bytes((tmp_path / "x.parquet").read_bytes()[:-9])
    with pytest.raises(SMVIError, match=r"x\.parquet: cannot be read as \.parquet"):
        load_dataset(DataConfig(path, test_fraction=0.5))


def test_columns_that_are_not_there_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", {"a": [1, 2], "b": [3, 4]})
    with refused("label_column", "c"):
        load_dataset(DataConfig(path, test_fraction=0.5, label_column="c"))
    np.save(tmp_path / "x.npy", np.ones((4, 3)))
    with refused("label_column", "c"):
        load_dataset(DataConfig(str(tmp_path / "x.npy"), test_fraction=0.5, label_column="c"))
    other = write(tmp_path / "y.csv", {"b": [1, 2], "a": [3, 4]})
    with pytest.raises(SMVIError, match=r"columns of x\.csv and y\.csv differ: a and b"):
        load_dataset(DataConfig(path, other))
