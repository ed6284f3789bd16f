"""The exact test of uniform ranks against simulation, enumeration and its own band."""

import itertools

import numpy as np
import pytest

from tfp_smvi.inference.uniformity import (
    central_coverage,
    ecdf_difference,
    uniform_band,
    uniform_p_value,
)


def counts_below(ranks: np.ndarray, num_values: int) -> np.ndarray:
    return np.array([np.sum(ranks < place) for place in range(1, num_values)])


def test_the_p_value_is_that_of_all_possible_ranks() -> None:
    """Four ranks of three values: all 81 outcomes, each as likely, ordered by their p-value.

    An exact p-value p has P(p-value <= p) = p, for every p that occurs.
    """
    outcomes = itertools.product(range(3), repeat=4)
    p_values = np.array([uniform_p_value(np.array(ranks), 3) for ranks in outcomes])
    for p_value in np.unique(p_values.round(9)):
        assert np.mean(p_values <= p_value + 1e-9) == pytest.approx(p_value)


@pytest.mark.parametrize(("num_ranks", "num_values"), [(500, 80), (40, 80), (1, 2)])
def test_uniform_ranks_are_rejected_as_often_as_the_level_says(
    num_ranks: int, num_values: int
) -> None:
    """1,500 sets of ranks: catches a level that is off by a factor of 1.7 at 5 %.

    Few ranks have few p-values, and are rejected less often.
    """
    rng, count = np.random.default_rng(1), 1500
    p_values = np.array(
        [uniform_p_value(rng.integers(0, num_values, num_ranks), num_values) for _ in range(count)]
    )
    for level in (0.05, 0.2, 0.5):
        error = np.sqrt(level * (1.0 - level) / count)
        share = np.mean(p_values <= level)
        assert share < level + 5.0 * error
        if num_ranks == 500:
            assert share > level - 5.0 * error - 0.01  # a step of the p-value


def test_the_band_holds_what_the_test_accepts() -> None:
    """200 sets of ranks from uniform ones to those of a wrong width, of which half are rejected."""
    rng, rejected = np.random.default_rng(2), []
    band = uniform_band(100, 20, 0.1)
    for width in np.linspace(1.0, 1.8, 200):
        ranks = np.clip(10.0 + width * rng.uniform(-10.0, 10.0, 100), 0, 19).astype(int)
        counts = counts_below(ranks, 20)
        inside = np.all((band.lower <= counts) & (counts <= band.upper))
        rejected.append(uniform_p_value(ranks, 20) <= 0.1)
        assert inside != rejected[-1]
        np.testing.assert_allclose(ecdf_difference(ranks, 20), counts / 100 - np.arange(1, 20) / 20)
    assert 20 < sum(rejected) < 180


def test_a_p_value_that_rounding_hides_is_not_zero() -> None:
    assert 0.0 < uniform_p_value(np.zeros(100, int), 80) < 1e-100


def test_a_central_interval_holds_its_share_of_the_values() -> None:
    ranks = np.arange(80)
    for level in (0.5, 0.8, 0.95):
        assert central_coverage(ranks, 80, level).sum() == round(80 * level)
