"""Estimates: their intervals, and what of them goes into files."""

import math

import numpy as np
import pytest

from tfp_smvi.core.estimates import Estimate, estimate, student_t


@pytest.mark.parametrize(
    ("degrees_of_freedom", "quantile"),
    [(1, 12.706), (2, 4.303), (9, 2.262), (99, 1.984), (math.inf, 1.960)],
)
def test_half_an_interval_is_the_quantile_of_the_tables(
    degrees_of_freedom: float, quantile: float
) -> None:
    """Those of any textbook, to three places."""
    assert student_t(degrees_of_freedom) == pytest.approx(quantile, abs=0.0005)
    half = Estimate(0.0, 2.0, degrees_of_freedom=degrees_of_freedom).half_width
    assert half == pytest.approx(2.0 * student_t(degrees_of_freedom))


def test_a_single_value_has_no_interval() -> None:
    assert math.isnan(student_t(0))
    assert math.isnan(estimate(np.array([1.0])).half_width)


def test_an_estimate_knows_its_degrees_of_freedom_and_files_do_not() -> None:
    mean = estimate(np.array([1.0, 2.0, 6.0]))
    assert mean.degrees_of_freedom == 2
    assert mean.to_json() == {"mean": 3.0, "standard_error": mean.standard_error}
    read = Estimate.from_json(mean.to_json())
    assert read == mean  # as results in memory and on disk are
    assert read.half_width == pytest.approx(1.960 * mean.standard_error, rel=1e-3)
    assert read.known_to(2).half_width == mean.half_width
