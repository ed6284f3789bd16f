"""What is wrong with q(z|x), and where: tails, moments, and the worst examples.

References:
    [1] A. Vehtari, D. Simpson, A. Gelman, Y. Yao, J. Gabry. Pareto Smoothed Importance Sampling.
        JMLR, 2024.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tfp_smvi.core.collapse import active_units
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.core.records import Record

__all__ = [
    "LARGEST_K",
    "ExampleSummary",
    "LatentMoments",
    "MomentSummary",
    "TailSummary",
    "reliable_k",
    "root",
    "summarize_moments",
    "summarize_tails",
    "worst_examples",
]

Arrays = Mapping[str, np.ndarray]

GOOD_K, LARGEST_K = 0.5, 0.7
NUM_WORST = 10


@dataclass(frozen=True)
class TailSummary(Record):
    """The tails of the importance weights p(x, z) / q(z|x), by the Pareto k of each example.

    Attributes:
        share_good: the share of the examples with k of at most 0.5, whose importance-weighted bound
            and its error can be trusted as an estimate of log p(x).
        share_fair: with k from 0.5 to 0.7.
        share_bad: with k above 0.7: q(z|x) misses tails or modes of p(z|x).
        share_unknown: with a k that is not known.
        threshold: the largest k with which a mean of so many weights can be trusted, at most 0.7.
        share_above_threshold: the share with a k above it.
    """

    share_good: float
    share_fair: float
    share_bad: float
    share_unknown: float
    threshold: float
    share_above_threshold: float


@dataclass(frozen=True)
class LatentMoments(Record):
    """The moments of q(z|x) compared with those of p(z|x) in one latent, over examples.

    Attributes:
        latent: its number, counted from 0.
        squared_shift: (mean_q - mean_p)^2 / variance_p; noise does not make it larger, and chance
            may make it negative.
        width_ratio: stddev_q / stddev_p.
    """

    latent: int
    squared_shift: Estimate
    width_ratio: Estimate


@dataclass(frozen=True)
class MomentSummary(Record):
    """The moments of q(z|x) compared with those of p(z|x) in the active latents.

    Attributes:
        squared_shift: as in `LatentMoments`, the mean over active latents.
        width_ratio: as in `LatentMoments`, by the mean of variance_p / variance_q over them.
        latents: each active latent.
    """

    squared_shift: Estimate
    width_ratio: Estimate
    latents: tuple[LatentMoments, ...]

    @property
    def shift(self) -> Estimate:
        """|mean_q - mean_p| in stddev_p, the root mean square over examples and active latents."""
        return root(self.squared_shift)


@dataclass(frozen=True)
class ExampleSummary(Record):
    """One example.

    Attributes:
        index: its number in the split, counted from 0.
        gap: log p(x) - ELBO, in nats.
        elbo: in nats.
        log_likelihood: log p(x) by annealed importance sampling, in nats.
        divergence: D_SM(q(z|x), p(z|x)), squared nats per squared unit of z.
        weighted_divergence: D_w(q(z|x), p(z|x)), squared nats; NaN if it is not known, as the next.
        pareto_k: the shape of the tail of its importance weights.
    """

    index: int
    gap: float
    elbo: float
    log_likelihood: float
    divergence: float
    weighted_divergence: float
    pareto_k: float


def reliable_k(num_weights: int) -> float:
    """The largest Pareto k with which the mean of so many weights can be trusted.

    min(1 - 1 / log10(S), 0.7), which is 0.67 for S = 1,000 and 0.7 from 2,155 on.

    Source: [1, section 3.2.4].
    """
    return min(1.0 - 1.0 / math.log10(num_weights), LARGEST_K) if num_weights > 10 else 0.0


def summarize_tails(arrays: Arrays, num_weights: int) -> TailSummary | None:
    """Summarizes Pareto k; None if no example has one, as with fewer than 25 draws.

    Args:
        arrays: the results of `BlockEstimator.bounds`.
        num_weights: the draws for each example.
    """
    k = arrays.get("pareto_k")
    if k is None or np.all(np.isnan(k)):
        return None
    threshold = reliable_k(num_weights)
    return TailSummary(
        share_good=float(np.mean(k <= GOOD_K)),
        share_fair=float(np.mean((k > GOOD_K) & (k <= LARGEST_K))),
        share_bad=float(np.mean(k > LARGEST_K)),
        share_unknown=float(np.mean(np.isnan(k))),
        threshold=threshold,
        share_above_threshold=float(np.mean(k > threshold)),
    )


def summarize_moments(arrays: Arrays) -> MomentSummary | None:
    """Compares the moments of q(z|x) and p(z|x); None if nothing is known of them.

    With s the squared shift and v the variance ratio of an example in units of q(z|x),

        squared_shift = sum_x c s / sum_x c v,   width_ratio = (sum_x c v / sum_x c)^(-1/2)

    where c = 1 - 1 / effective sample size, which leaves out examples with a single chain. Errors
    are those of ratios of means over examples.

    Args:
        arrays: the results of `BlockEstimator.bounds` and `BlockEstimator.annealed`.
    """
    if "squared_shift" not in arrays or "variance_ratio" not in arrays:
        return None
    active = np.flatnonzero(active_units(arrays["posterior_mean"])).tolist()
    shifts, variances = (
        arrays[name].astype(np.float64) for name in ("squared_shift", "variance_ratio")
    )
    weights = 1.0 - 1.0 / arrays["effective_sample_size"].astype(np.float64)
    valid_rows = (
        np.isfinite(weights) & np.isfinite(shifts + variances).all(axis=1) & (weights > 0.0)
    )
    if not valid_rows.any() or not active:
        return None
    shifts, variances, weights = shifts[valid_rows], variances[valid_rows], weights[valid_rows]

    def of(latents: list[int]) -> tuple[Estimate, Estimate]:
        shift, variance = (
            weights * values[:, latents].mean(axis=1) for values in (shifts, variances)
        )
        return _ratio(shift, variance), _inverse_root(_ratio(variance, weights))

    latents = tuple(LatentMoments(latent, *of([latent])) for latent in active)
    return MomentSummary(*of(active), latents)


def worst_examples(arrays: Arrays, gaps: np.ndarray) -> tuple[ExampleSummary, ...]:
    """The ten examples with the largest gaps, the largest first; those without a gap are not there.

    Args:
        arrays: the results of `BlockEstimator.bounds` and `BlockEstimator.annealed`.
        gaps: float [num_examples].
    """
    order = [int(i) for i in np.argsort(-gaps, kind="stable") if np.isfinite(gaps[i])][:NUM_WORST]

    def number(name: str, index: int) -> float:
        return float(arrays[name][index]) if name in arrays else math.nan

    names = ("elbo", "log_likelihood", "divergence", "weighted_divergence", "pareto_k")
    return tuple(
        ExampleSummary(index, float(gaps[index]), *(number(name, index) for name in names))
        for index in order
    )


def root(square: Estimate) -> Estimate:
    """The root of an estimate of a square, 0 if that is negative; its error is half an interval."""
    low, high = (
        math.sqrt(max(square.mean + sign * square.standard_error, 0.0)) for sign in (-1, 1)
    )
    return Estimate(math.sqrt(max(square.mean, 0.0)), (high - low) / 2.0)


def _ratio(numerators: np.ndarray, denominators: np.ndarray) -> Estimate:
    """mean(numerators) / mean(denominators), with the delta method's error over examples."""
    count, mean = len(numerators), float(denominators.mean())
    ratio = float(numerators.mean()) / mean
    if count < 2:
        return Estimate(ratio)
    spread = float((numerators - ratio * denominators).std(ddof=1))
    return Estimate(ratio, spread / mean / math.sqrt(count), degrees_of_freedom=count - 1)


def _inverse_root(value: Estimate) -> Estimate:
    """1 / sqrt(value), with the delta method's error."""
    if not value.mean > 0.0:
        return Estimate(math.nan)
    inverse = value.mean**-0.5
    return Estimate(inverse, inverse * value.standard_error / value.mean / 2.0)
