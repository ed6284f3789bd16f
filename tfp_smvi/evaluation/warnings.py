"""Warnings about an evaluation, in plain words."""

import math
from collections.abc import Mapping
from typing import Any

from tfp_smvi.core.text import format_number
from tfp_smvi.evaluation.summary import MINIMUM_EFFECTIVE_SAMPLE_SIZE

__all__ = ["warnings_about"]

JSON = dict[str, Any]

ACCEPTANCE_RANGE = (0.4, 0.95)
WIDEST_BRACKET = 0.5
LARGEST_ELBO_ERROR = 0.02
# By chance, a difference exceeds three standard errors about once in 700 evaluations.
ALLOWED_ERRORS = 3.0


def warnings_about(splits: Mapping[str, JSON], bracket: JSON) -> list[str]:
    """Says in plain words why the numbers should not be trusted; nothing where they may be.

    Args:
        splits: the summaries by split.
        bracket: the summary of the simulated data.
    """
    warnings = [line for name, summary in splits.items() for line in _split_warnings(name, summary)]
    warnings += _acceptance_warnings("simulated", bracket["acceptance_rate"])
    width = bracket["width"]["mean"]
    if width is None or width > WIDEST_BRACKET:
        warnings.append(
            f"On images simulated from the model, the bounds of the log-likelihood are {format_number(width)} nat "
            f"apart, more than {WIDEST_BRACKET}: take more --num-temperatures."
        )
    return warnings


def _split_warnings(name: str, summary: JSON) -> list[str]:
    warnings = _acceptance_warnings(name, summary["acceptance_rate"])
    if summary["num_not_finite"]:
        warnings.append(
            f"{name}: {summary['num_not_finite']} examples have no finite estimate; no mean is given."
        )
    size, few = summary["effective_sample_size"], MINIMUM_EFFECTIVE_SAMPLE_SIZE
    if size["mean"] is None or size["mean"] < few or size["share_under_2"] > 0.1:
        warnings.append(
            f"{name}: {100 * size['share_under_2']:.0f} % of the examples have an effective sample size under "
            f"{few:g}, where one chain says it all and its error is underestimated: take more "
            "--num-temperatures or --num-chains."
        )
    gap = summary["gap"]
    error = gap["standard_error"] or 0.0
    if gap["mean"] is not None and gap["mean"] < -ALLOWED_ERRORS * error:
        warnings.append(
            f"{name}: the log-likelihood estimate is {-gap['mean']:.3f} nat below the ELBO, more than its "
            "errors allow, so the annealing failed: take more --num-temperatures or --num-chains."
        )
    elbo_error = summary["elbo"]["monte_carlo_error"]
    if elbo_error is not None and elbo_error > LARGEST_ELBO_ERROR:
        warnings.append(
            f"{name}: the draws give the ELBO an error of {elbo_error:.3f} nat, more than {LARGEST_ELBO_ERROR}: "
            "take more --num-elbo-samples or --num-examples."
        )
    return warnings


def _acceptance_warnings(name: str, rates: JSON) -> list[str]:
    low, high = ACCEPTANCE_RANGE
    per_segment = [math.nan if rate is None else rate for rate in rates["per_segment"]]
    outside = [rate for rate in per_segment if not low <= rate <= high]
    if not outside:
        return []
    return [
        f"{name}: the acceptance rate is {format_number(outside[0])} in {len(outside)} of {len(per_segment)} segments "
        f"of the path, outside {low} to {high}: the pilot run did not find a good step size, and the chains "
        "move too little or too rarely."
    ]
