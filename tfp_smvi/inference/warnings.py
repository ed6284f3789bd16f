"""When an estimate should not be trusted: the limits, and how a warning says it.

The results of the estimators and the evaluation of a model share them. A warning names a setting
as "{num_chains}", for `name_fields`.

References:
    [1] S. Nowozin. Debiasing evidence approximations: On importance-weighted autoencoders and
        jackknife variational inference. ICLR 2018.
"""

from collections.abc import Sequence

import numpy as np

from tfp_smvi.core.text import format_number

__all__ = [
    "FEWEST_WEIGHTS",
    "MINIMUM_EFFECTIVE_SAMPLE_SIZE",
    "acceptance_problem",
    "few_warnings",
    "jackknife_bias",
    "not_finite_warnings",
    "share_of_few",
    "size_warnings",
    "too_few",
    "weight_warnings",
]

ACCEPTANCE_RANGE = (0.4, 0.95)
MINIMUM_EFFECTIVE_SAMPLE_SIZE = 2.0
# More estimates than this share with a smaller effective sample size are too many.
LARGEST_SHARE_OF_FEW = 0.1
# The effective sample size of two weights is 2 or less, however good they are.
FEWEST_WEIGHTS = 3
# Weights as even as this are right whatever the chains' acceptance rate.
EVEN_SHARE = 0.5


def share_of_few(sizes: np.ndarray) -> float:
    """The share of effective sample sizes [batch] under the minimum; NaN is under it."""
    return float(np.mean(~(sizes >= MINIMUM_EFFECTIVE_SAMPLE_SIZE)))


def too_few(mean: float, share: float) -> bool:
    """Whether effective sample sizes with this mean, and this share of few, are too small."""
    # NaN neither
    return not mean >= MINIMUM_EFFECTIVE_SAMPLE_SIZE or share > LARGEST_SHARE_OF_FEW


def acceptance_problem(per_segment: Sequence[float], mean_size: float, count: int) -> str | None:
    """Says where acceptance rates are out of range; None if nowhere, or if weights are even.

    Args:
        per_segment: the rates, means over data points: [num_segments].
        mean_size: the effective sample size, a mean over data points.
        count: the number of chains.
    """
    low, high = ACCEPTANCE_RANGE
    outside = [rate for rate in per_segment if not low <= rate <= high]
    if not outside or mean_size >= EVEN_SHARE * count:
        return None
    return (
        f"the acceptance rate is {format_number(outside[0])} in {len(outside)} of "
        f"{len(per_segment)} segments of the path, outside {low} to {high}"
    )


def jackknife_bias(log_weights: np.ndarray) -> np.ndarray:
    """How much too low `log mean(w)` is in expectation, by the jackknife: float [batch], nats.

        (n - 1) (log mean(w) - 1/n sum_i log mean(w without w_i))

    If one weight dominates, the truth is further away than this.

    Args:
        log_weights: float [num_weights, batch], nats.

    Source: [1, section 3].
    """
    count = len(log_weights)
    if count < 2:
        return np.full(log_weights.shape[1], np.nan)
    log_sum = np.logaddexp.reduce(log_weights, axis=0)
    with np.errstate(divide="ignore"):
        without = log_sum + np.log1p(-np.exp(log_weights - log_sum))
    # The difference to the largest one would be its rounding error: the others are summed instead.
    largest = log_weights.argmax(axis=0)[np.newaxis]
    others = log_weights.copy()
    np.put_along_axis(others, largest, -np.inf, axis=0)
    np.put_along_axis(without, largest, np.logaddexp.reduce(others, axis=0)[np.newaxis], axis=0)
    all_but_one = without.mean(axis=0) - np.log(count - 1)
    return (count - 1) * (log_sum - np.log(count) - all_but_one)


def weight_warnings(
    log_weights: np.ndarray, acceptance_rate: np.ndarray, direction: int
) -> list[str]:
    """Lists why the estimates of annealed chains should not be trusted; empty if they can be.

    Args:
        log_weights: float [num_chains, batch], nats.
        acceptance_rate: float [num_segments, batch].
        direction: 1 forwards, -1 in reverse.
    """
    log_weights = np.asarray(log_weights, np.float64)
    count = len(log_weights)
    with np.errstate(invalid="ignore"):
        log_sums = np.logaddexp.reduce(log_weights, axis=0)
    finite = np.isfinite(log_sums)
    lines = not_finite_warnings(finite)
    if not finite.any():
        return lines
    if count < FEWEST_WEIGHTS:
        return lines + few_warnings(count, "chains", "{num_chains}")
    log_weights, log_sums = log_weights[:, finite], log_sums[finite]
    sizes = np.exp(2 * log_sums - np.logaddexp.reduce(2 * log_weights, axis=0))
    bias = jackknife_bias(log_weights)
    remedy = (
        "raise {num_temperatures} or {num_chains}, or start closer to the target, such as at q(z|x)"
    )
    lines += size_warnings(sizes, bias, count, "chains", "low" if direction > 0 else "high", remedy)
    rates = acceptance_rate[:, finite].mean(axis=1).tolist()
    acceptance = acceptance_problem(rates, sizes.mean(), count)
    if acceptance:
        lines.append(
            f"{acceptance[0].upper()}{acceptance[1:]}: take {{step_size}} from tune_step_sizes "
            "with the same scale."
        )
    return lines


def not_finite_warnings(finite: np.ndarray) -> list[str]:
    """Says how many estimates [batch] are not finite; empty if all are."""
    if finite.all():
        return []
    return [
        f"{np.sum(~finite)} of {len(finite)} estimates are not finite: check that the log density "
        "is finite wherever the chains go."
    ]


def few_warnings(count: int, unit: str, setting: str) -> list[str]:
    """Says that one or two weights do not show how far off their mean is."""
    if count >= FEWEST_WEIGHTS:
        return []
    return [
        f"{count} {unit if count > 1 else unit[:-1]} cannot tell how far off an estimate is, and "
        f"its standard error is of no use: raise {setting} to {FEWEST_WEIGHTS} or more."
    ]


def size_warnings(
    sizes: np.ndarray, bias: np.ndarray, count: int, unit: str, side: str, remedy: str
) -> list[str]:
    """Says that effective sample sizes are too small; empty if they are not.

    Args:
        sizes: float [batch].
        bias: how far off the estimates are at least: float [batch], nats.
        count: the number of weights, at least FEWEST_WEIGHTS.
        unit: what has a weight, in the plural.
        side: on which side of the truth the estimates are, "low" or "high".
        remedy: what to do.
    """
    if not too_few(sizes.mean(), share_of_few(sizes)):
        return []
    few = ~(sizes >= MINIMUM_EFFECTIVE_SAMPLE_SIZE)
    return [
        f"The effective sample size is {sizes.mean():.1f} of {count} {unit} on average, and under "
        f"{MINIMUM_EFFECTIVE_SAMPLE_SIZE:g} for {few.sum()} of {len(sizes)} data points. There a "
        f"single weight decides: the estimate is probably {bias[few].mean():.1f} nats or more too "
        f"{side}, and its standard error is underestimated; {remedy}."
    ]
