"""ELBO, log-likelihood and the gap between them for a trained run, with errors and a bracket from both sides.

The gap is KL(q(z|x), p(z|x)) = log p(x) - ELBO. log p(x) comes from annealed importance sampling,
whose accuracy is read off data simulated from the model, where exact posterior samples give a bound
from the other side.

References:
    [1] D. Levy and S. Ermon. Trading-off Learning and Inference in Deep Latent Variable Models. [2]
    Y. Wu, Y. Burda, R. Salakhutdinov, R. Grosse. On the quantitative analysis of decoder-based
    generative
        models. ICLR 2017.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfp_smvi.config import EvaluateConfig
from tfp_smvi.core.reporters import EvaluationReporter
from tfp_smvi.core.runtime import environment
from tfp_smvi.data import Dataset
from tfp_smvi.evaluation.blocks import SIMULATED, EvaluationSession, Shard
from tfp_smvi.evaluation.summary import gaps, summarize_bracket, summarize_split
from tfp_smvi.evaluation.warnings import warnings_about
from tfp_smvi.storage.atomic import write_atomically, write_json

Results = Mapping[str, dict[str, np.ndarray]]

__all__ = ["describe", "evaluate"]

# What `BlockEstimator` says about an example.
PER_EXAMPLE = (
    *(
        "elbo",
        "elbo_error",
        "kl",
        "iwae_bound",
        "iwae_bound_error",
        "divergence",
        "divergence_error",
    ),
    *(
        "log_likelihood",
        "log_likelihood_error",
        "effective_sample_size",
        "acceptance_rate",
        "step_size",
    ),
    "posterior_mean",
)


def evaluate(
    run_dir: Path | str,
    config: EvaluateConfig = EvaluateConfig(),  # noqa: B008  # it is frozen
    *,
    data_dir: Path | None = None,
    dataset: Dataset | None = None,
    shard: Shard | None = None,
    merge: bool = False,
    reporter: EvaluationReporter | None = None,
) -> dict[str, Any] | None:
    """Evaluates a trained run, and goes on where an evaluation with the same settings was stopped.

    Works block by block; each is saved when it is done, in the run directory's folder "evaluation".
    Writes evaluation.json, the report, and evaluation.npz, the values of each example, into the run
    directory. The bits are a function of the run, the settings and the machine, however the work
    was cut and shared out.

    Args:
        run_dir: the run directory.
        config: what to estimate.
        data_dir: where prepared data sets live; None for the default.
        dataset: the data themselves, for a run on data that are known by no name; they must be
            those.
        shard: does this part of the blocks alone and writes no report.
        merge: computes nothing, and puts together what shards did.
        reporter: hears of the progress.

    Returns:
        The report, as in evaluation.json, in nats; None for a shard.

    Raises:
        SMVIError: there is no trained run, its data are not at hand, a block to merge is missing,
            or a file cannot be read or written.

    Source: [1, section 5], [2].
    """
    session = EvaluationSession(run_dir, data_dir, reporter, dataset)
    with session.writing("evaluation.npz", "evaluation.json"):
        if not session.complete(session.units(config), shard, merge=merge):
            return None
        results: Results = {split: session.results(config, split) for split in config.splits}
        simulated = session.results(config, SIMULATED)
        report = _make_report(session, config, results, simulated)
        _write(session.run_dir, report, results, simulated)
    return report


def describe(session: EvaluationSession, config: EvaluateConfig) -> dict[str, Any]:
    """Returns what was evaluated, how and on what: JSON values."""
    run = session.run
    return {
        "settings": config.to_json(),
        "run": {
            "config": run.config.to_json(),
            "step": run.step,
            "epochs": len(run.history),
            "weights": session.weights,
            "data_fingerprint": run.data_fingerprint,
        },
        **environment().to_json(),
    }


def _make_report(
    session: EvaluationSession,
    config: EvaluateConfig,
    results: Results,
    simulated: dict[str, np.ndarray],
) -> dict[str, Any]:
    splits = {split: summarize_split(arrays) for split, arrays in results.items()}
    bracket = summarize_bracket(simulated)
    report = {"splits": splits, "bracket": bracket, "warnings": warnings_about(splits, bracket)}
    return report | describe(session, config)


def _write(
    run_dir: Path,
    report: dict[str, Any],
    results: Results,
    simulated: dict[str, np.ndarray],
) -> None:
    """Writes the values first, so that a report never lacks them."""
    values = {f"simulated_{name}": array for name, array in simulated.items()}
    for split, arrays in results.items():
        values |= {f"{split}_{name}": arrays[name] for name in PER_EXAMPLE}
        values[f"{split}_gap"] = gaps(arrays)
    path = run_dir / "evaluation.npz"
    write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **values))
    write_json(run_dir / "evaluation.json", report)
