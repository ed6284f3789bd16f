"""What a configuration takes from the data, and what it refuses for them."""

import dataclasses
from typing import get_args

import numpy as np
import pytest

from tests.support import runs
from tests.support.errors import refused
from tfp_smvi.config import Kind, LikelihoodName, ModelConfig
from tfp_smvi.data import ArraySplit, Dataset
from tfp_smvi.training.checks import resolve

KINDS: tuple[Kind, ...] = ("intensities", "real", "counts")
FITTING = {
    "intensities": ("bernoulli", "gaussian"),
    "real": ("gaussian",),
    "counts": ("gaussian", "poisson", "negative_binomial", "categorical"),
}


def make_dataset(kind: Kind = "counts", *, missing: bool = False, largest: float = 6.0) -> Dataset:
    """Forty vectors; counts are from 0 to 6, but for one if `largest` is given."""
    x = np.random.default_rng(0).integers(0, 7, (40, 5)).astype(np.float32)
    x[0, 0] = 6.0
    x = {"intensities": x / 6.0, "real": x - 3.5, "counts": x}[kind]
    if kind == "counts":
        x[0, 0] = largest
    if missing:
        x[3, 2] = np.nan
    split = ArraySplit(x, None, kind)
    return Dataset("cells.npz", split, split, None, "0" * 64)


def resolved(dataset: Dataset, **model: object) -> ModelConfig:
    config = dataclasses.replace(
        runs.CONFIG, data=dataset.config, model=ModelConfig.from_json(model)
    )
    return resolve(config, dataset).model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("likelihood", get_args(LikelihoodName))
def test_a_likelihood_must_fit_the_kind_of_values(kind: Kind, likelihood: LikelihoodName) -> None:
    if likelihood in FITTING[kind]:
        assert resolved(make_dataset(kind), likelihood=likelihood).likelihood == likelihood
        return
    with refused("likelihood", likelihood) as caught:
        resolved(make_dataset(kind), likelihood=likelihood)
    assert caught.value.remedy.startswith(f"give {' or '.join(FITTING[kind])}")


@pytest.mark.parametrize(
    ("kind", "likelihood"),
    [("intensities", "bernoulli"), ("real", "gaussian"), ("counts", "poisson")],
)
def test_the_likelihood_follows_from_the_kind_of_values(
    kind: Kind, likelihood: LikelihoodName
) -> None:
    assert resolved(make_dataset(kind)).likelihood == likelihood


def test_the_number_of_categories_follows_from_the_data() -> None:
    assert resolved(make_dataset(), likelihood="categorical").num_categories == 7
    assert resolved(make_dataset(), likelihood="categorical", num_categories=9).num_categories == 9
    with refused("num_categories", 6):
        resolved(make_dataset(), likelihood="categorical", num_categories=6)
    with refused("num_categories", 7):
        resolved(make_dataset(), num_categories=7)


def test_large_counts_are_no_categories() -> None:
    allowed = resolved(make_dataset(largest=9_999.0), likelihood="categorical")
    assert allowed.num_categories == 10_000
    with refused("num_categories", 10_001) as caught:
        resolved(make_dataset(largest=10_000.0), likelihood="categorical")
    assert "largest value of cells.npz is 10000" in str(caught.value)
    with refused("num_categories", 10_001):
        resolved(make_dataset(), likelihood="categorical", num_categories=10_001)
    # Counts themselves may be of any size.
    assert resolved(make_dataset(largest=70_000.0), likelihood="poisson").num_categories is None


def test_a_decoder_of_too_many_outputs_is_refused_with_its_memory() -> None:
    x = np.zeros((40, 125), np.float32)
    split = ArraySplit(x, None, "counts")
    dataset = Dataset("wide.npz", split, split, None, "0" * 64)
    model = {"likelihood": "categorical", "hidden_sizes": (100, 50)}
    assert resolved(dataset, num_categories=8_000, **model).num_categories == 8_000
    with refused("num_categories", 8_001) as caught:
        resolved(dataset, num_categories=8_001, **model)
    # The output layer mirrors the first layer of the encoder: 100 x 1,000,125 weights, five times.
    assert (
        "makes 125 x 8,001 = 1,000,125 outputs of the decoder, whose weights take 2 GB in training"
    ) in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_values_of_the_data_are_recorded(kind: Kind) -> None:
    assert resolved(make_dataset(kind, missing=True)).missing
    assert not resolved(make_dataset(kind)).missing
    assert resolved(make_dataset(kind), missing=True).missing
