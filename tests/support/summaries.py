"""Estimates of examples for summaries of an evaluation, and its warnings."""

import json
from typing import Any

import numpy as np

from tfp_smvi.config import EvaluateConfig
from tfp_smvi.evaluation.summary import summarize_bracket, summarize_split
from tfp_smvi.evaluation.warnings import warnings_about

__all__ = ["bracket_values", "example_values", "warnings_for"]


def example_values(**changes: Any) -> dict[str, np.ndarray]:
    """Estimates of 100 examples that deserve no warning, unless changed."""
    spread = np.linspace(-1.0, 1.0, 100)
    arrays = {
        "elbo": -100.0 + spread,
        "iwae_bound": -99.0 + spread,
        "log_likelihood": -98.0 + 1.1 * spread,
        "divergence": 3.0 + spread,
        "effective_sample_size": 9.0 + spread,
    }
    arrays |= {f"{name}_error": np.full(100, 0.1) for name in list(arrays)}
    arrays |= {"kl": 20.0 + spread, "acceptance_rate": np.full((100, 8), 0.65)}
    arrays["posterior_mean"] = np.stack([spread, 0.05 * spread, 0.25 * spread], axis=1)
    return arrays | changes


def bracket_values(width: float = 0.05) -> dict[str, np.ndarray]:
    bound = np.linspace(-101.0, -99.0, 100)
    rates = np.full((100, 8), 0.65)
    return {
        "lower_bound": bound,
        "lower_bound_error": np.full(100, 0.1),
        "upper_bound": bound + width,
        "upper_bound_error": np.full(100, 0.1),
        "acceptance_rate": rates,
        "reverse_acceptance_rate": rates,
    }


def warnings_for(bracket: dict[str, np.ndarray], **changes: Any) -> list[str]:
    summary = summarize_split(example_values(**changes))
    json.dumps(summary.to_json(), allow_nan=False)
    return warnings_about({"test": summary}, summarize_bracket(bracket), EvaluateConfig())
