"""How the annealed log-likelihood moves with the number of temperatures, and where it stops moving.

References:
    [1] D. Levy and S. Ermon. Trading-off Learning and Inference in Deep Latent Variable Models.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfp_smvi.config import EvaluateConfig
from tfp_smvi.core.estimates import estimate
from tfp_smvi.core.reporters import EvaluationReporter
from tfp_smvi.core.text import align, format_estimate, format_number
from tfp_smvi.data import Dataset
from tfp_smvi.evaluation.blocks import SIMULATED, EvaluationSession, Shard
from tfp_smvi.evaluation.pipeline import describe
from tfp_smvi.evaluation.summary import summarize_bracket, summarize_rates
from tfp_smvi.storage.atomic import write_json

__all__ = ["format_convergence", "measure_convergence", "settled_at"]

# A difference of more than two standard errors is taken for a movement.
ALLOWED_ERRORS = 2.0


def measure_convergence(
    run_dir: Path | str,
    config: EvaluateConfig,
    num_temperatures: Sequence[int],
    *,
    data_dir: Path | None = None,
    dataset: Dataset | None = None,
    shard: Shard | None = None,
    merge: bool = False,
    reporter: EvaluationReporter | None = None,
) -> dict[str, Any] | None:
    """Estimates log p(x) with several numbers of temperatures, on the same examples.

    Works and is resumed as `evaluate`, with which it shares its blocks. Writes convergence.json
    into the run directory.

    Args:
        run_dir: the run directory.
        config: what to estimate; its own number of temperatures is not used.
        num_temperatures: numbers of temperatures, growing, at least two.
        data_dir: as in `evaluate`.
        dataset: as in `evaluate`.
        shard: as in `evaluate`.
        merge: as in `evaluate`.
        reporter: as in `evaluate`.

    Returns:
        The report, as in convergence.json, in nats; None for a shard.

    Raises:
        SMVIError: as `evaluate`.

    Source: [1], whose check it is.
    """
    session = EvaluationSession(run_dir, data_dir, reporter, dataset)
    configs = {count: _with_temperatures(config, count) for count in num_temperatures}
    units = [unit for each in configs.values() for unit in session.units(each, bounds=False)]
    with session.writing("convergence.png", "convergence.json"):
        if not session.complete(units, shard, merge=merge):
            return None
        report = _make_report(session, config, configs)
        _write(session.run_dir, report)
    return report


def _make_report(
    session: EvaluationSession, config: EvaluateConfig, configs: dict[int, EvaluateConfig]
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "splits": {split: _summarize(session, configs, split) for split in config.splits},
        "brackets": {
            str(count): summarize_bracket(session.results(each, SIMULATED))
            for count, each in configs.items()
        },
        "warnings": [],
        **describe(session, config),
    }
    del report["settings"]["ais"]["num_temperatures"]  # there are several, by_num_temperatures
    report["warnings"] = [
        f"{split}: the estimate still moves at {max(configs)} temperatures: compare larger numbers."
        for split, summary in report["splits"].items()
        if summary["settled_at"] is None
    ]
    return report


def settled_at(log_likelihoods: dict[int, np.ndarray]) -> int | None:
    """Finds the number of temperatures from which on the mean estimate no longer moves.

    It is the smallest number whose mean differs from those of all larger numbers by at most two
    standard errors of the difference, over examples.

    Args:
        log_likelihoods: float [num_examples] by number of temperatures, the same examples in each.

    Returns:
        The number, or None if the estimate moves up to the largest one.
    """
    counts = sorted(log_likelihoods)
    for position, count in enumerate(counts[:-1]):
        differences = (
            log_likelihoods[later] - log_likelihoods[count] for later in counts[position + 1 :]
        )
        if not any(_moved(np.asarray(difference, np.float64)) for difference in differences):
            return count
    return None


def format_convergence(report: dict[str, Any]) -> str:
    """Lays a report out for people."""
    lines = []
    for split, summary in report["splits"].items():
        rows = [
            [
                "temperatures",
                "log-likelihood",
                "to the largest number",
                "acceptance",
                "ESS",
                "bracket",
            ]
        ]
        for count, values in summary["by_num_temperatures"].items():
            rows.append(
                [
                    count,
                    format_estimate(values["log_likelihood"]),
                    format_estimate(values["difference_to_last"]),
                    format_number(values["acceptance_rate"]["mean"]),
                    format_number(values["effective_sample_size"]["mean"]),
                    format_estimate(report["brackets"][count]["width"]),
                ]
            )
        settled = summary["settled_at"]
        answer = (
            "still moves at the largest number" if settled is None else f"stops moving at {settled}"
        )
        lines += [f"{split}, {summary['num_examples']} examples:", *align(rows)]
        lines += [
            f"The estimate {answer} (differences of up to {ALLOWED_ERRORS:g} standard errors).",
            "",
        ]
    return "\n".join([*lines, "Values are in nats, means over examples +/- one standard error."])


def _with_temperatures(config: EvaluateConfig, count: int) -> EvaluateConfig:
    return dataclasses.replace(config, ais=dataclasses.replace(config.ais, num_temperatures=count))


def _summarize(
    session: EvaluationSession, configs: dict[int, EvaluateConfig], split: str
) -> dict[str, Any]:
    results = {count: session.results(each, split, bounds=False) for count, each in configs.items()}
    log_likelihoods = {count: arrays["log_likelihood"] for count, arrays in results.items()}
    last = log_likelihoods[max(log_likelihoods)]
    return {
        "num_examples": len(last),
        "settled_at": settled_at(log_likelihoods),
        "by_num_temperatures": {
            str(count): {
                "log_likelihood": estimate(
                    arrays["log_likelihood"], arrays["log_likelihood_error"]
                ).to_json(),
                "difference_to_last": estimate(
                    arrays["log_likelihood"].astype(np.float64) - last
                ).to_json(),
                "acceptance_rate": summarize_rates(arrays["acceptance_rate"]),
                "effective_sample_size": estimate(arrays["effective_sample_size"]).to_json(),
            }
            for count, arrays in results.items()
        },
    }


def _moved(differences: np.ndarray) -> bool:
    """Whether a mean difference is larger than its errors allow, or not finite."""
    if not np.all(np.isfinite(differences)):
        return True
    error = (
        differences.std(ddof=1) / math.sqrt(len(differences)) if len(differences) > 1 else math.inf
    )
    return bool(abs(differences.mean()) > ALLOWED_ERRORS * error)


def _write(run_dir: Path, report: dict[str, Any]) -> None:
    write_json(run_dir / "convergence.json", report)
