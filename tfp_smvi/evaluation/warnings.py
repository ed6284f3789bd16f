"""Warnings about an evaluation, in plain words."""

import math
from collections.abc import Iterator, Mapping

from tfp_smvi.config import EvaluateConfig
from tfp_smvi.core.collapse import collapse_symptoms
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.core.text import format_number
from tfp_smvi.evaluation.calibration_results import CalibrationSummary
from tfp_smvi.evaluation.calibration_summary import calibration_warnings
from tfp_smvi.evaluation.diagnostics import LARGEST_K
from tfp_smvi.evaluation.local_results import LocalSummary
from tfp_smvi.evaluation.results import BracketSummary, Rates, SplitSummary
from tfp_smvi.inference.warnings import (
    FEWEST_WEIGHTS,
    MINIMUM_EFFECTIVE_SAMPLE_SIZE,
    acceptance_problem,
    few_warnings,
    too_few,
)

__all__ = ["WIDEST_BRACKET", "describe_wide", "other_start", "warnings_about"]

# The widest bracket, in nats, of a log-likelihood that can be trusted.
WIDEST_BRACKET = 0.5
LARGEST_ELBO_ERROR = 0.02
LARGEST_SHARE_NOT_CONVERGED = 0.1
LARGEST_SHARE_BAD = 0.1
# By chance, a difference exceeds three standard errors about once in 700 evaluations.
ALLOWED_ERRORS = 3.0


def warnings_about(
    splits: Mapping[str, SplitSummary],
    bracket: BracketSummary,
    settings: EvaluateConfig,
    calibration: CalibrationSummary | None = None,
) -> list[str]:
    """Lists the reasons why the numbers should not be trusted; empty if they can be.

    Args:
        splits: the summaries by split.
        bracket: the summary of the simulated data.
        settings: what was estimated, and how.
        calibration: of q(z|x), if it is known.

    Returns:
        One line for each reason; "{num_temperatures}" names a setting, for `name_fields`.
    """
    num_chains = settings.ais.num_chains
    warnings = few_warnings(num_chains, "chains", "{num_chains}")
    for name, summary in splits.items():
        warnings += [*_of_weights(name, summary, num_chains), *_of_split(name, summary)]
        warnings += [*_of_halves(name, summary.local), *_of_collapse(name, summary)]
        warnings += _of_tails(name, summary, bracket)
    if (apart := describe_wide(bracket.width)) is not None:
        warnings.append(
            f"On examples simulated from the model, the bounds of the log-likelihood are {apart}: "
            f"raise {{num_temperatures}}, or {other_start(settings)}."
        )
        warnings += _of_rates("simulated", bracket.acceptance_rate, 0.0, num_chains)
    return [*warnings, *calibration_warnings(calibration)]


def describe_wide(width: Estimate) -> str | None:
    """How far apart the bounds of a bracket are, in words; None if they are close.

    An error over examples as large as that says that they are not known to be close.
    """
    if not math.isfinite(width.mean):
        return "not finite"
    if width.mean > WIDEST_BRACKET:
        return f"{format_number(width.mean)} nat apart, more than {WIDEST_BRACKET}"
    if width.standard_error > WIDEST_BRACKET:  # NaN, of a single example, is not
        return f"{width} nat apart, with an error of more than {WIDEST_BRACKET}"
    return None


def other_start(settings: EvaluateConfig) -> str:
    """Where chains may start to make a bracket narrower, with settings as "{initial}"."""
    wider = f"from a wider one ({{initial_scale}} {2.0 * settings.ais.initial_scale:g})"
    if settings.ais.initial == "prior":
        return f"let the chains start {wider}"
    return (
        f"let the chains start from the prior ({{initial}} prior) or {wider}, in case q(z|x) "
        "misses a part of the posterior"
    )


def _of_weights(name: str, summary: SplitSummary, num_chains: int) -> Iterator[str]:
    size = summary.effective_sample_size
    yield from _of_rates(name, summary.acceptance_rate, size.mean, num_chains)
    if num_chains >= FEWEST_WEIGHTS and too_few(size.mean, size.share_under_2):
        yield (
            f"{name}: {100 * size.share_under_2:.0f} % of the examples have an effective sample "
            f"size under {MINIMUM_EFFECTIVE_SAMPLE_SIZE:g}: one chain decides their estimate, and "
            "the error is underestimated. Raise {num_temperatures} or {num_chains}."
        )


def _of_split(name: str, summary: SplitSummary) -> Iterator[str]:
    if summary.num_not_finite:
        yield (
            f"{name}: {summary.num_not_finite} examples have no finite estimate; no mean is given."
        )
    gap, elbo = summary.gap, summary.elbo
    if gap is None or elbo is None:  # there is no q(z|x)
        return
    error = 0.0 if math.isnan(gap.standard_error) else gap.standard_error
    if gap.mean < -ALLOWED_ERRORS * error:
        yield (
            f"{name}: the log-likelihood estimate is {-gap.mean:.3f} nat below the ELBO, more than "
            "its errors allow, so the annealing failed: raise {num_temperatures} or {num_chains}."
        )
    elbo_error = elbo.monte_carlo_error
    if elbo_error is not None and elbo_error > LARGEST_ELBO_ERROR:
        yield (
            f"{name}: the draws give the ELBO an error of {elbo_error:.3f} nat, more than "
            f"{LARGEST_ELBO_ERROR}: raise {{num_elbo_samples}} or {{num_examples}}."
        )


def _of_halves(name: str, local: LocalSummary | None) -> Iterator[str]:
    for family, summary in local.families.items() if local else ():
        if summary.share_not_converged > LARGEST_SHARE_NOT_CONVERGED:
            yield (
                f"{name}: {100 * summary.share_not_converged:.0f} % of the examples have not "
                f"converged to their best q(z|x) ({family}), so that their amortization gap is a "
                "lower bound: raise {local_steps}."
            )
        rest = summary.approximation_gap
        if rest.mean < -ALLOWED_ERRORS * rest.standard_error:
            yield (
                f"{name}: the log-likelihood estimate is {-rest.mean:.3f} nat below the ELBO of "
                f"the best q(z|x) ({family}), more than its errors allow, so the annealing failed: "
                "raise {num_temperatures} or {num_chains}."
            )


def _of_collapse(name: str, summary: SplitSummary) -> Iterator[str]:
    change = summary.reconstruction_change
    symptoms = collapse_symptoms(summary.active_units, change.mean if change else None)
    if symptoms is not None:
        yield (
            f"{name}: the posterior has collapsed: {symptoms}. A gap near 0 is no merit then, and "
            "features say little."
        )


def _of_tails(name: str, summary: SplitSummary, bracket: BracketSummary) -> Iterator[str]:
    """Tails matter where annealing leaves a doubt: else log p(x) does not rest on them."""
    size, tails = summary.effective_sample_size, summary.tails
    wide = describe_wide(bracket.width) is not None
    doubtful = wide or too_few(size.mean, size.share_under_2)
    if doubtful and tails is not None and tails.share_bad > LARGEST_SHARE_BAD:
        yield (
            f"{name}: {100 * tails.share_bad:.0f} % of the examples have a Pareto k above "
            f"{LARGEST_K}: q(z|x) misses tails or modes of the posterior there, and the IWAE bound "
            "does not confirm the log-likelihood."
        )


def _of_rates(name: str, rates: Rates, mean_size: float, num_chains: int) -> list[str]:
    problem = acceptance_problem(rates.per_segment, mean_size, num_chains)
    if problem is None:
        return []
    return [
        f"{name}: {problem}: the pilot run found no good step size, and the chains move too "
        "little or too rarely."
    ]
