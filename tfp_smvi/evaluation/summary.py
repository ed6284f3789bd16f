"""Summaries of an evaluation: means over examples, with standard errors."""

import math
from collections.abc import Mapping

import numpy as np

from tfp_smvi.core.collapse import count_active_units
from tfp_smvi.core.estimates import Estimate, estimate
from tfp_smvi.evaluation.diagnostics import summarize_moments, summarize_tails, worst_examples
from tfp_smvi.evaluation.results import BracketSummary, Rates, SampleSizes, SplitSummary
from tfp_smvi.inference.warnings import share_of_few

__all__ = [
    "gaps",
    "summarize_bracket",
    "summarize_rates",
    "summarize_split",
]

Arrays = Mapping[str, np.ndarray]

# Infinity minus infinity is NaN here, which is reported, and a spread may be infinite.
_quietly = np.errstate(invalid="ignore", over="ignore")


@_quietly
def summarize_split(arrays: Arrays, num_importance_samples: int = 1000) -> SplitSummary:
    """Summarizes the examples of a split.

    Args:
        arrays: the results of `BlockEstimator.bounds` and `BlockEstimator.annealed`,
            [num_examples, ...].
        num_importance_samples: the draws of the IWAE bound.

    Returns:
        For each quantity its mean, the standard error of the mean over examples and, if draws or
        chains give one, the part of it that comes from them.
    """

    def of(name: str) -> Estimate:
        return estimate(arrays[name], arrays[f"{name}_error"])

    gap_error = np.hypot(arrays["log_likelihood_error"], arrays["elbo_error"])
    means = arrays["posterior_mean"]
    gap = gaps(arrays)
    return SplitSummary(
        num_examples=len(arrays["elbo"]),
        elbo=of("elbo"),
        iwae_bound=of("iwae_bound"),
        log_likelihood=of("log_likelihood"),
        divergence=of("divergence"),
        weighted_divergence=of("weighted_divergence") if "weighted_divergence" in arrays else None,
        kl=estimate(arrays["kl"], arrays.get("kl_error")),
        gap=estimate(gap, gap_error),
        acceptance_rate=summarize_rates(arrays["acceptance_rate"]),
        effective_sample_size=_summarize_sizes(arrays["effective_sample_size"]),
        active_units=count_active_units(means),
        latent_dim=means.shape[1],
        num_not_finite=int(np.sum(~np.isfinite(arrays["log_likelihood"] + arrays["elbo"]))),
        tails=summarize_tails(arrays, num_importance_samples),
        moments=summarize_moments(arrays),
        reconstruction_gain=_of_newer("reconstruction_gain", arrays),
        worst=worst_examples(arrays, gap),
    )


@_quietly
def gaps(arrays: Arrays) -> np.ndarray:
    """Returns log p(x) - ELBO, the estimate of KL(q(z|x), p(z|x)): float64 [num_examples], nats."""
    return arrays["log_likelihood"].astype(np.float64) - arrays["elbo"]


@_quietly
def summarize_bracket(arrays: Arrays) -> BracketSummary:
    """Summarizes the bounds of `BlockEstimator.bracketed` on simulated examples."""
    lower = arrays["lower_bound"].astype(np.float64)
    upper = arrays["upper_bound"].astype(np.float64)
    return BracketSummary(
        num_examples=len(lower),
        lower_bound=estimate(lower, arrays["lower_bound_error"]),
        upper_bound=estimate(upper, arrays["upper_bound_error"]),
        width=estimate(upper - lower),
        acceptance_rate=summarize_rates(arrays["acceptance_rate"]),
        reverse_acceptance_rate=summarize_rates(arrays["reverse_acceptance_rate"]),
    )


def summarize_rates(rates: np.ndarray) -> Rates:
    """Acceptance rates [num_examples, num_segments], as means over examples."""
    rates = np.asarray(rates, np.float64)
    per_segment = tuple(_finite(rate) for rate in rates.mean(axis=0))
    return Rates(_finite(rates.mean()), per_segment)


def _of_newer(name: str, arrays: Arrays) -> Estimate | None:
    return estimate(arrays[name]) if name in arrays else None


def _summarize_sizes(sizes: np.ndarray) -> SampleSizes:
    mean = estimate(sizes)
    return SampleSizes(mean.mean, mean.standard_error, share_of_few(sizes))


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else math.nan
