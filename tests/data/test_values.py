"""What integers and floats mean, the same for every source and for the features of an export."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.errors import refused
from tfp_smvi.config import Kind
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import ArraySplit, Dataset, load_dataset
from tfp_smvi.data.batches import eval_batches, train_batches
from tfp_smvi.data.dataset import default_likelihood
from tfp_smvi.data.description import describe, doubts
from tfp_smvi.data.values import store_values
from tfp_smvi.features.sources import ArrayImages

RNG = np.random.default_rng(0)
COUNT_LIKELIHOOD = default_likelihood("counts", (4,))
BITS = RNG.random((20, 6, 6)) < 0.3


def dataset_of(x: np.ndarray, kind: Kind = "intensities") -> Dataset:
    split = ArraySplit(x, None, kind)
    return Dataset("x", split, split, None, "x")


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.int64, np.uint16, np.float32])
def test_zeros_and_ones_are_bits_from_every_source(dtype: Any, tmp_path: Path) -> None:
    """Divided by 255, integers would give an intensity of 0.004 in place of 1."""
    x = BITS.astype(dtype)
    np.savez(tmp_path / "x.npz", x_train=x, x_test=x)
    loaded = load_dataset(tmp_path / "x.npz")
    for dataset in (loaded, dataset_of(x[..., None])):
        np.testing.assert_array_equal(dataset.train.images(range(20))[..., 0], BITS)
        assert "bits, 0 and 1, taken as they are" in describe(dataset, "bernoulli")
        assert doubts(dataset, "bernoulli") == []
    # The encoder's signature for uint8 divides by 255, and the one for floats does not.
    images = ArrayImages(x, {}, "x").read(0, 20).images
    expected = BITS * (1.0 if dtype is np.float32 else 255)
    np.testing.assert_array_equal(images, expected)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_bits_are_ones_in_a_split_that_is_in_no_data_set(dtype: Any) -> None:
    bits = BITS.astype(dtype)[..., None]
    split = ArraySplit(bits, None)
    np.testing.assert_array_equal(split.images(range(20)), bits)
    for binarize in (False, True):
        (_, x), *_ = eval_batches(split, batch_size=20, seed=0, binarize=binarize)
        np.testing.assert_array_equal(x, bits)
        (x,) = train_batches(split, batch_size=20, seed=0, num_steps=1, binarize=binarize)
        assert set(np.unique(x)) == {0.0, 1.0}


@pytest.mark.parametrize("memory", ["train", "test"])
def test_bits_beside_a_split_on_disk_are_ones(memory: str) -> None:
    class OnDisk:
        """A split that is no array."""

        num_examples, image_shape, labels = 20, (6, 6, 1), None
        kind, has_missing = "intensities", False

        def images(self, indices: Any) -> np.ndarray:
            return BITS[np.asarray(indices)][..., None].astype(np.float32)

    splits: dict[str, Any] = {"train": OnDisk(), "test": OnDisk()}
    splits[memory] = ArraySplit(BITS.astype(np.int64)[..., None], None)
    dataset = Dataset("x", **splits, num_classes=None, fingerprint="x")
    for split in (dataset.train, dataset.test):
        np.testing.assert_array_equal(split.images(range(20))[..., 0], BITS)
    assert doubts(dataset, "bernoulli") == []


def test_a_dark_batch_of_grey_levels_is_not_taken_for_bits() -> None:
    """What integers mean is decided on all images."""
    x = np.zeros((4000, 2, 2), np.uint8)
    x[:, 0, 0] = 1
    x[-1] = 200
    read = ArrayImages(x, {}, "x").read(0, 5)
    np.testing.assert_array_equal(read.images, x[:5])
    assert dataset_of(x[..., None]).train.images([0]).max() == np.float32(1) / np.float32(255)


def test_integers_of_two_meanings_are_refused() -> None:
    with pytest.raises(SMVIError, match="test has no integer above 1, and train has"):
        store_values({"train": np.full((2, 3, 1), 200), "test": np.ones((2, 3, 1), int)})


@pytest.mark.parametrize(("low", "high"), [(0, 65535), (-1, 9), (0, 256)])
def test_integers_that_are_no_grey_levels_are_refused(low: int, high: int) -> None:
    with pytest.raises(SMVIError, match=f"integers from {low} to {high}"):
        dataset_of(np.array([[low, high]]))


@pytest.mark.parametrize(
    ("value", "real_valued"),
    [(1 + 1e-12, False), (1 + 1e-6, False), (-1e-7, False), (1.001, True), (-0.001, True)],
)
def test_rounding_does_not_make_intensities_real_values(
    value: float, real_valued: bool, tmp_path: Path
) -> None:
    x = RNG.random((300, 2, 2))
    x[0, 0, 0] = value
    np.savez(tmp_path / "x.npz", x_train=x, x_test=x)
    notes: list[str] = []
    dataset = load_dataset(tmp_path / "x.npz", progress=notes.append)
    assert dataset.real_valued == real_valued
    assert notes == list(dataset.notes)
    stored = dataset.train.images(range(300))
    inside = stored.min() >= 0.0 and stored.max() <= 1.0
    assert inside == (not real_valued)
    # Whatever is done is said, by the loading or by the training.
    said = [*notes, *doubts(dataset, dataset.default_likelihood)]
    assert len(said) == (np.float32(value) < 0 or np.float32(value) > 1)


def test_floats_that_are_called_intensities_must_be() -> None:
    with refused("kind", "intensities"):
        dataset_of(np.array([[0.0, 2.0]]))
    assert dataset_of(np.array([[0.0, 2.0]]), "real").real_valued


@pytest.mark.parametrize(
    ("x", "likelihood", "words"),
    [
        (RNG.random((9, 6, 6, 3)), "gaussian", "6 x 6 pixels (height x width) with 3 channels"),
        (RNG.random((9, 6, 6, 1)), "bernoulli", "intensities from 0.0"),
        (RNG.random((9, 7)) * 255, "gaussian", "vectors of 7 numbers; real values from "),
        (
            RNG.integers(0, 256, (9, 6, 6, 1)),
            "bernoulli",
            "integers of 0 to 255: grey levels, bits are",
        ),
    ],
)
def test_the_line_says_what_data_are_taken_for(x: np.ndarray, likelihood: Any, words: str) -> None:
    dataset = dataset_of(x, "real" if x.max() > 1 and x.dtype.kind == "f" else "intensities")
    assert dataset.default_likelihood == likelihood
    line = describe(dataset, likelihood)
    assert line.startswith("Data: 9 to train and 9 to test, ")
    assert words in line
    assert f"; likelihood {likelihood}, the default for " in line


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (
            RNG.random((9, 3, 32, 32)),
            "are taken as 3 x 32 pixels with 32 channels, whose default {likelihood} is bernoulli "
            "and not gaussian; transpose them with x.transpose(0, 2, 3, 1).",
        ),
        (RNG.random((9, 3, 8, 8)), "channels first"),
        (RNG.random((9, 1, 8, 8)), "channels first"),
        (RNG.random((9, 2, 8, 8)), "channels first"),
        (RNG.random((9, 3, 4, 4)), "channels first"),
        (RNG.random((9, 4, 4, 4)), "red, green, blue and alpha"),
        (RNG.random((9, 8, 8, 4)), "red, green, blue and alpha"),
        (RNG.random((9, 8, 8, 2)), "grey and alpha"),
        (RNG.integers(0, 17, (9, 8, 8, 1)), "largest of all grey levels is 16 of 255"),
        (BITS[..., None] / 255, "largest of all intensities is 0.0039 of 1"),
        (RNG.integers(0, 256, (9, 8, 8, 1)).astype(np.float32), "whole numbers from 0"),
        (np.append(RNG.random(999), 1.1).reshape(10, 100), "at most 1 %"),
        (RNG.random((9, 8, 8, 3)) < 0.5, "All values are 0 or 1"),
    ],
)
def test_what_looks_like_a_mistake_is_said(x: np.ndarray, words: str) -> None:
    dataset = dataset_of(x, "real" if x.max() > 1 and x.dtype.kind == "f" else "intensities")
    (line,) = doubts(dataset, dataset.default_likelihood)
    assert words in line


def test_colours_with_alpha_are_not_binarized_by_default() -> None:
    assert dataset_of(RNG.random((9, 8, 8, 4))).default_likelihood == "gaussian"


def test_splits_of_different_scales_are_said() -> None:
    small, large = RNG.random((9, 5)), RNG.random((9, 5)) * 200
    dataset = Dataset(
        "x", ArraySplit(small, None, "real"), ArraySplit(large, None, "real"), None, "x"
    )
    (line,) = doubts(dataset, "gaussian")
    assert line.startswith("Training data go up to 0.9")


def test_ordinary_data_raise_no_doubt(digits: Dataset) -> None:
    standardized = RNG.standard_normal((50, 10))
    assert doubts(dataset_of(standardized, "real"), "gaussian") == []
    assert doubts(digits, "bernoulli") == []


@pytest.mark.parametrize(
    ("x", "kind", "likelihood"),
    [
        (RNG.integers(0, 9, (50, 4)), "counts", COUNT_LIKELIHOOD),
        (RNG.integers(0, 9, (50, 4)).astype(np.float64), "counts", COUNT_LIKELIHOOD),
        (RNG.integers(0, 9, (50, 4, 4)), "intensities", "bernoulli"),
        (RNG.integers(0, 2, (50, 4)), "intensities", "bernoulli"),
        (RNG.integers(-4, 9, (50, 4)), "real", "gaussian"),
        (RNG.integers(0, 9, (50, 4)) + 1e9, "real", "gaussian"),
        (RNG.normal(size=(50, 4)), "real", "gaussian"),
        (RNG.random((50, 4)), "intensities", "bernoulli"),
    ],
)
@pytest.mark.parametrize("missing", [False, True])
def test_kind_and_likelihood_follow_from_the_values_that_are_there(
    x: np.ndarray, kind: str, likelihood: str, missing: bool, tmp_path: Path
) -> None:
    if missing and x.ndim == 2:
        x = x.astype(np.float64)
        x[3, 1] = np.nan
    np.savez(tmp_path / "x.npz", x_train=x, x_test=x[10:])
    dataset = load_dataset(tmp_path / "x.npz")
    assert (dataset.kind, dataset.default_likelihood) == (kind, likelihood)
    assert dataset.has_missing == (missing and x.ndim == 2)
    assert dataset.real_valued == (kind != "intensities")
    assert dataset.num_categories == (9 if kind == "counts" else None)
    scale = 255 if kind == "intensities" and x.dtype.kind == "i" and x.max() > 1 else 1
    # One float32 rounding, and one more of the division.
    np.testing.assert_allclose(
        dataset.train.images(range(50)).reshape(x.shape), x / scale, rtol=1.2e-7
    )


def test_counts_are_called_counts() -> None:
    x = RNG.integers(0, 9, (50, 4)).astype(np.float64)
    x[0, 0] = np.nan
    line = describe(dataset_of(x, "counts"), "gaussian")
    assert "vectors of 4 numbers; whole numbers of at least 0: counts from" in line
    assert "counts from 0 to 8, taken as they are; 0.005 of them missing" in line


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (np.array([[0.5, 2.0]]), "intensities"),
        (np.array([[0.5, 2.0]]), "counts"),
        (np.array([[-1.0, 2.0]]), "counts"),
        (np.array([[0, 1 << 25]]), "counts"),
    ],
)
def test_values_of_another_kind_than_declared_are_refused(x: np.ndarray, kind: Kind) -> None:
    with refused("kind", kind):
        dataset_of(x, kind)


def test_splits_of_two_kinds_are_refused() -> None:
    x = RNG.integers(0, 9, (50, 4))
    with refused("kind"):
        Dataset("x", ArraySplit(x, None, "counts"), ArraySplit(x, None, "real"), None, "x")


@pytest.mark.parametrize("make", [train_batches, eval_batches])
def test_missing_bits_stay_missing(make: Any) -> None:
    x = np.full((20, 6), 0.5, np.float32)
    x[:, ::2] = np.nan
    batches = make(ArraySplit(x, None), batch_size=20, seed=0, binarize=True)
    batch = next(iter(batches))
    bits = batch if make is train_batches else batch[1]
    assert np.isnan(bits[:, ::2]).all()
    assert set(np.unique(bits[:, 1::2])) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("mean", "stddev", "words"),
    [
        (100.0, 50.0, "such as entry 1 with mean"),
        (0.0, 0.01, "such as entry 1 with mean"),
        (0.0, 1.0, None),
        (2.0, 5.0, None),
    ],
)
def test_reals_that_are_far_from_standardized_are_said(
    mean: float, stddev: float, words: str | None
) -> None:
    """The mean is off by 5 of its standard errors with a probability of 6e-7."""
    x = RNG.normal(mean, stddev, (500, 2)) * np.array([0.5, 1.0])
    lines = doubts(Dataset.from_arrays(x, x), "gaussian")
    assert [words in line for line in lines] == ([True] if words else [])  # type: ignore[operator]
    assert doubts(Dataset.from_arrays(x, x, standardize=True), "gaussian") == []
