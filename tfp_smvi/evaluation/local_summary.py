"""Summaries of the best q(z|x) of each example: the two halves of the gap."""

from collections.abc import Mapping

import numpy as np

from tfp_smvi.config import EvaluateConfig
from tfp_smvi.core.estimates import estimate
from tfp_smvi.evaluation.blocks import KINDS
from tfp_smvi.evaluation.local_results import FamilySummary, LocalSummary, RestartSummary

__all__ = ["local_values", "summarize_local"]

Arrays = Mapping[str, np.ndarray]

# Two ends are different optima if their means are further apart, in standard deviations: an example
# that has converged has about 0.01 nat to gain, which is 0.15 standard deviations of one latent.
OTHER_OPTIMUM = 1.0
# A second optimum is better by this many nats, and this many standard errors.
BETTER, ALLOWED_ERRORS = 0.1, 3.0

_quietly = np.errstate(invalid="ignore", over="ignore")


@_quietly
def summarize_local(config: EvaluateConfig, arrays: Arrays) -> LocalSummary:
    """Summarizes the examples of a split.

    Args:
        config: the families.
        arrays: the results of all estimates, [num_examples, ...], and those of
            `LocalEstimator.restarted`, of the first examples alone.
    """
    families: dict[str, FamilySummary] = {
        family: _summarize_family(_of_family(config, arrays, family), arrays)
        for family in config.local_families
    }
    return LocalSummary(families, _summarize_restart(arrays))


@_quietly
def local_values(config: EvaluateConfig, arrays: Arrays) -> dict[str, np.ndarray]:
    """The values of each example, as in evaluation.npz, after the name of the split.

    Args:
        config: the families.
        arrays: as in `summarize_local`.
    """
    values = {name: arrays[name] for name in KINDS["restart"].results}
    for family in config.local_families:
        results = _of_family(config, arrays, family)
        results["approximation_gap"] = _approximation_gap(results, arrays)
        values |= {f"{family}_{name}": array for name, array in results.items()}
    return values


def _of_family(config: EvaluateConfig, arrays: Arrays, family: str) -> dict[str, np.ndarray]:
    """The results of a family: [num_examples] by name."""
    names: list[str] = list(config.local_families)
    column = names.index(family)
    return {name: arrays[name][:, column] for name in KINDS["local"].results}


def _approximation_gap(results: Arrays, arrays: Arrays) -> np.ndarray:
    """log p(x) - ELBO(q*): the rest of the gap."""
    gap = arrays["log_likelihood"].astype(np.float64) - arrays["elbo"]
    return gap - results["amortization_gap"]


def _summarize_family(results: Arrays, arrays: Arrays) -> FamilySummary:
    amortization, error = results["amortization_gap"], results["amortization_gap_error"]
    elbo_error = np.hypot(arrays["elbo_error"], error)
    return FamilySummary(
        elbo=estimate(arrays["elbo"].astype(np.float64) + amortization, elbo_error),
        amortization_gap=estimate(amortization, error),
        approximation_gap=estimate(
            _approximation_gap(results, arrays),
            np.hypot(arrays["log_likelihood_error"], elbo_error),
        ),
        divergence=estimate(results["local_divergence"], results["local_divergence_error"]),
        share_not_converged=float(1.0 - np.mean(results["local_converged"])),
        mean_steps=float(np.mean(results["local_steps"])),
    )


def _summarize_restart(arrays: Arrays) -> RestartSummary:
    both = arrays["restart_converged"] == 1.0
    gain, error = arrays["restart_gain"][both], arrays["restart_gain_error"][both]
    other = arrays["restart_distance"][both] > OTHER_OPTIMUM
    better = other & (gain > np.maximum(BETTER, ALLOWED_ERRORS * error))
    return RestartSummary(
        num_examples=int(both.sum()),
        num_other=int(other.sum()),
        num_better=int(better.sum()),
        gain=estimate(gain, error) if both.any() else None,
    )
