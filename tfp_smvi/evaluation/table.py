"""The table of an evaluation, for people."""

from typing import Any

from tfp_smvi.core.text import align, format_active_units, format_estimate, format_number

__all__ = ["format_table"]

JSON = dict[str, Any]


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
        [
            "acceptance rate",
            *(format_number(s["acceptance_rate"]["mean"]) for s in splits.values()),
        ],
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


def _sizes(summary: JSON, report: JSON) -> str:
    return f"{format_number(summary['effective_sample_size']['mean'])} of {report['settings']['ais']['num_chains']}"
