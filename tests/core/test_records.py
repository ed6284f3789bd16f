"""Records: to and from JSON, with every wrong value refused by its field."""

import math
from dataclasses import dataclass

import pytest

from tests.support.errors import refused
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.core.records import Record


@dataclass(frozen=True)
class Whole(Record):
    """A record in a record."""

    part: Estimate
    count: int = 0


def test_a_record_reads_like_its_json() -> None:
    record = Whole(Estimate(1.5, 0.5), 3)
    assert record["part"]["mean"] == record.part.mean == record.to_json()["part"]["mean"]
    for name in ("to_json", "_check", "mean"):
        with pytest.raises(KeyError, match=name):
            record[name]


@pytest.mark.parametrize("count", [10**400, 2**63, -(2**63) - 1, 1.0, True, "1", None, [], {}])
def test_whole_numbers_have_64_bits(count: object) -> None:
    with refused("count", count):
        Whole.from_json({"part": {"mean": 1.0}, "count": count})
    assert Whole.from_json({"part": {"mean": None}, "count": 2**63 - 1}).count == 2**63 - 1


@pytest.mark.parametrize("mean", [10**400, "many", "9" * 400, "1e999", True, [1.0]])
def test_numbers_that_are_none_are_refused(mean: object) -> None:
    with refused("mean", mean):
        Estimate.from_json({"mean": mean})
    assert math.isinf(Estimate.from_json({"mean": "inf"}).mean)
