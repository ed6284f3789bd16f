"""What an evaluation says: means with standard errors, warnings in plain words, and a table for people.

References:
    [1] Y. Burda, R. Grosse, R. Salakhutdinov. Importance Weighted Autoencoders. ICLR 2016. Section 5.2.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = [
    "align",
    "estimate",
    "format_active_units",
    "format_estimate",
    "format_number",
    "format_table",
    "gaps",
    "summarize_bracket",
    "summarize_rates",
    "summarize_split",
    "warnings_about",
]

Arrays = Mapping[str, np.ndarray]
JSON = dict[str, Any]

# A unit is active if its posterior mean varies more than this over the data [1].
ACTIVE_VARIANCE = 0.01
ACCEPTANCE_RANGE = (0.4, 0.95)
MINIMUM_EFFECTIVE_SAMPLE_SIZE = 2.0
WIDEST_BRACKET = 0.5
LARGEST_ELBO_ERROR = 0.02
# By chance, a difference exceeds three standard errors about once in 700 evaluations.
ALLOWED_ERRORS = 3.0


def summarize_split(arrays: Arrays) -> JSON:
    """Summarizes the examples of a split.

    Args:
        arrays: the results of `BlockEstimator.bounds` and `BlockEstimator.annealed`, [num_examples, ...].

    Returns:
        For each quantity its mean, the standard error of the mean over examples and, where draws or chains give
        one, the part of it that comes from them, "monte_carlo_error": JSON values, None where a number is not
        finite.
    """
    gap_error = np.hypot(arrays["log_likelihood_error"], arrays["elbo_error"])
    summary: JSON = {"num_examples": len(arrays["elbo"])}
    for name in ("elbo", "iwae_bound", "log_likelihood", "divergence"):
        summary[name] = estimate(arrays[name], arrays[f"{name}_error"])
    summary["kl"] = estimate(arrays["kl"])
    summary["gap"] = estimate(gaps(arrays), gap_error)
    summary["acceptance_rate"] = summarize_rates(arrays["acceptance_rate"])
    sizes = arrays["effective_sample_size"]
    summary["effective_sample_size"] = {
        **estimate(sizes),
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
    lower, upper = arrays["lower_bound"].astype(np.float64), arrays["upper_bound"].astype(np.float64)
    return {
        "num_examples": len(lower),
        "lower_bound": estimate(lower, arrays["lower_bound_error"]),
        "upper_bound": estimate(upper, arrays["upper_bound_error"]),
        "width": estimate(upper - lower),
        "acceptance_rate": summarize_rates(arrays["acceptance_rate"]),
        "reverse_acceptance_rate": summarize_rates(arrays["reverse_acceptance_rate"]),
    }


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


def format_active_units(summary: JSON) -> str:
    """Such as "12 of 50"."""
    active = summary["active_units"]
    return f"{'?' if active is None else active} of {summary['latent_dim']}"


def format_table(report: JSON) -> str:
    """Lays a report out for people, a column per split."""
    splits = report["splits"]
    rows = [["", *splits], ["examples", *(str(s["num_examples"]) for s in splits.values())]]
    for name, label in (
        ("elbo", "ELBO"),
        ("iwae_bound", f"IWAE bound, {report['settings']['num_importance_samples']} draws"),
        ("log_likelihood", "log-likelihood (AIS)"),
        ("gap", "gap = log-likelihood - ELBO"),
        ("kl", "KL(q(z|x), p(z))"),
        ("divergence", "divergence D_SM"),
    ):
        rows.append([label, *(format_estimate(s[name]) for s in splits.values())])
    rows += [
        ["active units", *(format_active_units(s) for s in splits.values())],
        ["acceptance rate", *(format_number(s["acceptance_rate"]["mean"]) for s in splits.values())],
        ["effective sample size", *(_sizes(s, report) for s in splits.values())],
    ]
    bracket = report["bracket"]
    return "\n".join(
        [
            *align(rows),
            "",
            f"On {bracket['num_examples']} images simulated from the model, in nats:",
            *align(
                [
                    ["lower bound of the log-likelihood", format_estimate(bracket["lower_bound"])],
                    ["upper bound of the log-likelihood", format_estimate(bracket["upper_bound"])],
                    ["bracket = upper - lower", format_estimate(bracket["width"])],
                ]
            ),
            "",
            "Values are in nats, means over examples +/- one standard error.",
        ]
    )


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligns the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def estimate(values: np.ndarray, errors: np.ndarray | None = None) -> JSON:
    """The mean over examples, its standard error, and the part of that which draws or chains cause."""
    values = np.asarray(values, np.float64)
    count = len(values)
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        mean = _finite(values.mean())
        spread = _finite(values.std(ddof=1)) if count > 1 else None
    summary = {"mean": mean, "standard_error": None if spread is None else spread / math.sqrt(count)}
    if errors is not None:
        squares = np.asarray(errors, np.float64) ** 2
        summary["monte_carlo_error"] = _finite(math.sqrt(squares.sum()) / count)
    return summary


def summarize_rates(rates: np.ndarray) -> JSON:
    """Acceptance rates [num_examples, num_segments], as means over examples."""
    rates = np.asarray(rates, np.float64)
    return {"mean": _finite(rates.mean()), "per_segment": [_finite(rate) for rate in rates.mean(axis=0)]}


def _finite(value: float) -> float | None:
    """The number, or None, which JSON has, for what is not finite."""
    return float(value) if math.isfinite(value) else None


def format_number(value: float | None) -> str:
    """Such as "0.65"."""
    return "not finite" if value is None or math.isnan(value) else f"{value:.2f}"


def format_estimate(value: JSON) -> str:
    """Such as "-98.31 +/- 0.45"."""
    if value["mean"] is None:
        return "not finite"
    error = value["standard_error"]
    return f"{value['mean']:.3f}" + (f" +/- {error:.3f}" if error is not None else "")


def _sizes(summary: JSON, report: JSON) -> str:
    return f"{format_number(summary['effective_sample_size']['mean'])} of {report['settings']['ais']['num_chains']}"
