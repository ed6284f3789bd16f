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
def summarize_split(
    arrays: Arrays, num_importance_samples: int = 1000, latent_dim: int | None = None
) -> SplitSummary:
    """Summarizes the examples of a split.

    Args:
        arrays: the results of `BlockEstimator.annealed` and, of a model with q(z|x), of
            `BlockEstimator.bounds`: [num_examples, ...].
        num_importance_samples: the draws of the IWAE bound.
        latent_dim: the size of z; None for that of `posterior_mean`.

    Returns:
        For each quantity its mean, the standard error of the mean over examples and, if draws or
        chains give one, the part of it that comes from them.
    """

    def of(name: str) -> Estimate | None:
        return estimate(arrays[name], arrays.get(f"{name}_error")) if name in arrays else None

    log_likelihood, error = arrays["log_likelihood"], arrays["log_likelihood_error"]
    gap = gaps(arrays) if "elbo" in arrays else None
    return SplitSummary(
        num_examples=len(log_likelihood),
        elbo=of("elbo"),
        iwae_bound=of("iwae_bound"),
        log_likelihood=estimate(log_likelihood, error),
        divergence=of("divergence"),
        weighted_divergence=of("weighted_divergence"),
        kl=of("kl"),
        gap=None if gap is None else estimate(gap, np.hypot(error, arrays["elbo_error"])),
        acceptance_rate=summarize_rates(arrays["acceptance_rate"]),
        effective_sample_size=_summarize_sizes(arrays["effective_sample_size"]),
        active_units=None if gap is None else count_active_units(arrays["posterior_mean"]),
        latent_dim=latent_dim or arrays["posterior_mean"].shape[1],
        num_not_finite=int(np.sum(~np.isfinite(log_likelihood + arrays.get("elbo", 0.0)))),
        tails=summarize_tails(arrays, num_importance_samples),
        moments=None if gap is None else summarize_moments(arrays),
        reconstruction_change=of("reconstruction_change"),
        worst=() if gap is None else worst_examples(arrays, gap),
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


def _summarize_sizes(sizes: np.ndarray) -> SampleSizes:
    mean = estimate(sizes)
    return SampleSizes(mean.mean, mean.standard_error, share_of_few(sizes))


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else math.nan
