"""Summaries of an evaluation: means over examples, with standard errors.

References:
    [1] Y. Burda, R. Grosse, R. Salakhutdinov. Importance Weighted Autoencoders. ICLR 2016. Section
    5.2.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfp_smvi.core.estimates import estimate

__all__ = [
    "MINIMUM_EFFECTIVE_SAMPLE_SIZE",
    "gaps",
    "summarize_bracket",
    "summarize_rates",
    "summarize_split",
]

Arrays = Mapping[str, np.ndarray]
JSON = dict[str, Any]

# A unit is active if its posterior mean varies more than this over the data [1].
ACTIVE_VARIANCE = 0.01
MINIMUM_EFFECTIVE_SAMPLE_SIZE = 2.0


def summarize_split(arrays: Arrays) -> JSON:
    """Summarizes the examples of a split.

    Args:
        arrays: the results of `BlockEstimator.bounds` and `BlockEstimator.annealed`, [num_examples,
            ...].

    Returns:
        For each quantity its mean, the standard error of the mean over examples and, where draws or
        chains give one, the part of it that comes from them, "monte_carlo_error": JSON values, None
        where a number is not finite.
    """
    gap_error = np.hypot(arrays["log_likelihood_error"], arrays["elbo_error"])
    summary: JSON = {"num_examples": len(arrays["elbo"])}
    for name in ("elbo", "iwae_bound", "log_likelihood", "divergence"):
        summary[name] = estimate(arrays[name], arrays[f"{name}_error"]).to_json()
    summary["kl"] = estimate(arrays["kl"]).to_json()
    summary["gap"] = estimate(gaps(arrays), gap_error).to_json()
    summary["acceptance_rate"] = summarize_rates(arrays["acceptance_rate"])
    sizes = arrays["effective_sample_size"]
    summary["effective_sample_size"] = {
        **estimate(sizes).to_json(),
        "share_under_2": float(np.mean(~(sizes >= MINIMUM_EFFECTIVE_SAMPLE_SIZE))),
    }
    # Var_x(E_q[z|x]) > 0.01; a single example has no variance.
    means = arrays["posterior_mean"]
    active = np.sum(np.var(means, axis=0) > ACTIVE_VARIANCE)
    summary["active_units"] = int(active) if len(means) > 1 else None
    summary["latent_dim"] = means.shape[1]
    summary["num_not_finite"] = int(np.sum(~np.isfinite(arrays["log_likelihood"] + arrays["elbo"])))
    return summary


def gaps(arrays: Arrays) -> np.ndarray:
    """Returns log p(x) - ELBO, the estimate of KL(q(z|x), p(z|x)): float64 [num_examples], nats."""
    return arrays["log_likelihood"].astype(np.float64) - arrays["elbo"]


def summarize_bracket(arrays: Arrays) -> JSON:
    """Summarizes the bounds of `BlockEstimator.bracketed` on simulated examples: as `summarize_split`."""
    lower, upper = (
        arrays["lower_bound"].astype(np.float64),
        arrays["upper_bound"].astype(np.float64),
    )
    return {
        "num_examples": len(lower),
        "lower_bound": estimate(lower, arrays["lower_bound_error"]).to_json(),
        "upper_bound": estimate(upper, arrays["upper_bound_error"]).to_json(),
        "width": estimate(upper - lower).to_json(),
        "acceptance_rate": summarize_rates(arrays["acceptance_rate"]),
        "reverse_acceptance_rate": summarize_rates(arrays["reverse_acceptance_rate"]),
    }


def summarize_rates(rates: np.ndarray) -> JSON:
    """Acceptance rates [num_examples, num_segments], as means over examples."""
    rates = np.asarray(rates, np.float64)
    return {
        "mean": _finite(rates.mean()),
        "per_segment": [_finite(rate) for rate in rates.mean(axis=0)],
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
