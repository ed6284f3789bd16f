"""The test that ranks are uniform, with the band of their distribution function; both are exact.

If z ~ p(z) and x ~ p(x|z), then z is an exact sample of p(z|x). Among L draws of q(z|x) = p(z|x)
its rank is uniform on 0, ..., L, for every latent and for every function of x and z [1, 3].

The ranks of many x are compared with that by their empirical distribution function (ECDF). With N
ranks and K = L + 1 values, the number C_j of ranks below j is binomial(N, j / K). The statistic is
the smallest of its tail probabilities,

    t = min over j = 1, ..., K - 1 of min(P(C_j <= c_j), P(C_j >= c_j))

the pointwise level at which a band of binomial quantiles just holds the ECDF [2]. The band holds
all C_j at once with a probability that is known exactly: C is a Poisson process under the condition
that it ends at N [4], and a walk over its values sums up the paths inside. So the p-value

    p = 1 - P(no C_j has a tail probability of t or less)

needs no simulation, and a band of simultaneous level alpha holds an ECDF if and only if p > alpha.

References:
    [1] S. Talts, M. Betancourt, D. Simpson, A. Vehtari, A. Gelman. Validating Bayesian Inference
        Algorithms with Simulation-Based Calibration. 2018.
    [2] T. Säilynoja, P.-C. Bürkner, A. Vehtari. Graphical test for discrete uniformity and its
        applications in goodness-of-fit evaluation and multiple sample comparison. Statistics and
        Computing 32. 2022.
    [3] M. Modrák, A. H. Moon, S. Kim, P. Bürkner, N. Huurre, K. Faltejsková, A. Gelman, A. Vehtari.
        Simulation-Based Calibration Checking for Bayesian Computation: The Choice of Test
        Quantities Shapes Sensitivity. Bayesian Analysis. 2023.
    [4] A. Moscovich, B. Nadler. Fast calculation of boundary crossing probabilities for Poisson
        processes. Statistics & Probability Letters 123. 2017.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import special  # type: ignore[import-untyped]

__all__ = [
    "Band",
    "central_coverage",
    "ecdf_difference",
    "uniform_band",
    "uniform_p_value",
]


class Band(NamedTuple):
    """What the number of ranks below each of 1, ..., num_values - 1 may be.

    Attributes:
        lower: the smallest number: int [num_values - 1].
        upper: the largest one.
    """

    lower: np.ndarray
    upper: np.ndarray


def uniform_p_value(ranks: np.ndarray, num_values: int) -> float:
    """Returns the exact p-value of the hypothesis that ranks are uniform on 0, ..., num_values - 1.

    Args:
        ranks: whole numbers [num_ranks], at least one.
        num_values: K, at least 2.

    Returns:
        P(t or less), with t as at the top of the module. Ranks that are uniform have a p-value of
        alpha or less with a probability of at most alpha, and of nearly alpha if they are many.

    Source: [2], with [4] in place of simulation.
    """
    counts, places = _counts_below(ranks, num_values), _places(num_values)
    above = len(ranks) - counts
    # P(C_j >= c) = P(N - C_j <= N - c), and N - C_j is binomial(N, 1 - j / K).
    tails = special.bdtr([counts, above], len(ranks), [places, places[::-1]])
    smallest = float(tails.min())
    inside = _probability_inside(_band_at(smallest, len(ranks), num_values), len(ranks))
    # The bounds matter where rounding hides what lies outside: one tail, and the sum of all.
    return float(np.clip(1.0 - inside, smallest, min(tails.size * smallest, 1.0)))


@functools.lru_cache(maxsize=64)
def uniform_band(num_ranks: int, num_values: int, level: float) -> Band:
    """Returns the band that holds all counts of uniform ranks but with a probability of `level`.

    It holds those of given ranks if and only if their `uniform_p_value` is above the level.

    Args:
        num_ranks: N, at least 1.
        num_values: K, at least 2.
        level: between 0 and 1.

    Source: [2].
    """
    low, high = level / (2.0 * num_values), 1.0  # the union bound, and a band of nothing
    while high > low * (1.0 + 1e-9):
        middle = float(np.sqrt(low * high))
        band = _band_at(middle, num_ranks, num_values)
        if 1.0 - _probability_inside(band, num_ranks) <= level:
            low = middle
        else:
            high = middle
    return _band_at(low, num_ranks, num_values)


def ecdf_difference(ranks: np.ndarray, num_values: int) -> np.ndarray:
    """Returns the ECDF of ranks at 1/K, ..., (K - 1)/K minus that of uniform ones.

    Args:
        ranks: whole numbers [num_ranks].
        num_values: K.

    Returns:
        float64 [num_values - 1].
    """
    return _counts_below(ranks, num_values) / len(ranks) - _places(num_values)


def central_coverage(ranks: np.ndarray, num_values: int, level: float) -> np.ndarray:
    """Returns whether values are in the central interval between two of the sorted draws.

    Under calibration that has a probability of exactly `level`, if (1 - level) / 2 * num_values is
    a whole number.

    Args:
        ranks: whole numbers [...] among num_values - 1 draws.
        num_values: K.
        level: such as 0.95.

    Returns:
        bool [...].
    """
    outside = round(0.5 * (1.0 - level) * num_values)
    return (ranks >= outside) & (ranks < num_values - outside)


def _places(num_values: int) -> np.ndarray:
    return np.arange(1, num_values) / num_values


def _counts_below(ranks: np.ndarray, num_values: int) -> np.ndarray:
    """How many ranks are below 1, ..., num_values - 1."""
    return np.cumsum(np.bincount(np.asarray(ranks, np.int64), minlength=num_values))[:-1]


def _band_at(tail: float, num_ranks: int, num_values: int) -> Band:
    """The counts whose two tail probabilities are both above `tail`."""
    places = _places(num_values)
    below, lower = np.full(len(places), -1), np.full(len(places), num_ranks)
    while np.any(lower - below > 1):
        middle = (below + lower) // 2
        enough = special.bdtr(middle, num_ranks, places) > tail
        # Where both are next to each other, the middle is below, and stays there.
        lower, below = np.where(enough, middle, lower), np.where(enough, below, middle)
    return Band(lower, num_ranks - lower[::-1])


def _probability_inside(band: Band, num_ranks: int) -> float:
    """The probability that all counts of uniform ranks are in a band.

    Counts of a Poisson process of rate N / K that ends at N have the same distribution: the sum
    over all paths that stay inside, divided by P(it ends at N) [4].
    """
    rate = num_ranks / (len(band.lower) + 1)
    steps = np.arange(num_ranks + 1)
    jumps = np.exp(steps * np.log(rate) - rate - special.gammaln(steps + 1.0))
    paths, start = np.ones(1), 0
    for low, high in zip([*band.lower, num_ranks], [*band.upper, num_ranks], strict=True):
        if low > high:
            return 0.0
        reached = np.convolve(paths, jumps[: high - start + 1])
        paths, start = reached[low - start : high - start + 1], low
    end = np.exp(num_ranks * np.log(num_ranks) - num_ranks - special.gammaln(num_ranks + 1.0))
    return float(paths[0] / end)
