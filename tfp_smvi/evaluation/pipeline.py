"""ELBO, log-likelihood and the gap between them, with errors and a bracket.

The gap is KL(q(z|x), p(z|x)) = log p(x) - ELBO. log p(x) comes from annealed importance sampling.
Its accuracy is measured on data simulated from the model, for which exact posterior samples give a
bound from the other side.

References:
    [1] D. Levy and S. Ermon. Trading-off Learning and Inference in Deep Latent Variable Models.
    [2] Y. Wu, Y. Burda, R. Salakhutdinov, R. Grosse. On the quantitative analysis of decoder-based
        generative models. ICLR 2017.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfp_smvi.config import EvaluateConfig
from tfp_smvi.core.errors import name_fields
from tfp_smvi.core.reporters import EvaluationReporter, Silent
from tfp_smvi.core.runtime import environment
from tfp_smvi.data import Dataset
from tfp_smvi.data.rows import spans
from tfp_smvi.engines.base import Engine
from tfp_smvi.engines.local import ThisProcess
from tfp_smvi.evaluation.accuracy import choose_temperatures
from tfp_smvi.evaluation.blocks import SIMULATED, Shard
from tfp_smvi.evaluation.calibration_summary import calibration_values, summarize_calibration
from tfp_smvi.evaluation.local import require_families
from tfp_smvi.evaluation.local_summary import local_values, summarize_local
from tfp_smvi.evaluation.outside import OutsideModel
from tfp_smvi.evaluation.pictures import worst_pictures
from tfp_smvi.evaluation.results import Evaluation
from tfp_smvi.evaluation.session import NEWER, EvaluationSession, open_session
from tfp_smvi.evaluation.summary import gaps, summarize_bracket, summarize_split
from tfp_smvi.evaluation.warnings import warnings_about
from tfp_smvi.evaluation.work import complete, writing
from tfp_smvi.models.protocol import TrainableModel
from tfp_smvi.storage.arrays import write_arrays
from tfp_smvi.storage.atomic import write_json

__all__ = ["evaluate"]

Arrays = Mapping[str, np.ndarray]

# What `BlockEstimator` returns for an example.
PER_EXAMPLE = (
    *("elbo", "elbo_error", "kl", "iwae_bound", "iwae_bound_error"),
    *("divergence", "divergence_error"),
    *("log_likelihood", "log_likelihood_error", "effective_sample_size", "acceptance_rate"),
    *("step_size", "posterior_mean"),
)

# An analytic KL divergence has no error, some posteriors no known covariance, and old blocks less.
OPTIONAL = ("kl_error", *NEWER)

# What chains say of q(z|x), where they start; without an encoder that is the prior.
OF_MOMENTS = ("shift", "squared_shift", "variance_ratio")


def evaluate(
    run_dir: Path | str | OutsideModel,
    config: EvaluateConfig = EvaluateConfig(),  # noqa: B008  # it is frozen
    *,
    data_dir: Path | None = None,
    dataset: Dataset | None = None,
    model: TrainableModel | None = None,
    shard: Shard | None = None,
    merge: bool = False,
    engine: Engine | None = None,
    reporter: EvaluationReporter | None = None,
) -> Evaluation | None:
    """Evaluates a model, and continues an evaluation with the same settings that was stopped.

    The work is done block by block. Each block is saved when it is done, in the folder "evaluation"
    of the run directory. Writes evaluation.json, the result, and evaluation.npz, the values of each
    example, into the run directory. The bits depend on the run, the settings and the machine, and
    not on how the work was cut and shared out. For a model without a run all of this goes to its
    `output`, and of a model without q(z|x) there is what needs none: log p(x) and the bracket.

    Args:
        run_dir: the run directory of a trained run, or a model without a run.
        config: what to estimate.
        data_dir: the folder of prepared data sets; None for the default.
        dataset: the data themselves, for a run on data that are known by no name. The run must have
            been trained on them. A model without a run has its own.
        model: a model as `fit` was given, which gets the weights; for a run of such a model. Only
            this process can evaluate it.
        shard: does only this part of the blocks and writes no report.
        merge: computes nothing, and combines the results of shards.
        engine: runs the work; None for this process. Other processes need a run, and data that they
            can load by name.
        reporter: receives progress updates.

    Returns:
        The result, as in evaluation.json, in nats; None for a shard.

    Raises:
        SMVIError: there is no trained run, its data are not found, a model without a run cannot be
            used, a block to merge is missing, or a file cannot be read or written.

    Source: [1, section 5], [2].
    """
    reporter = reporter or Silent()
    with (
        open_session(run_dir, data_dir, dataset, reporter, model) as session,
        writing(session, "evaluation.npz", "evaluation.json"),
    ):
        config = session.subject.resolve(config)
        require_families(config, session.subject.latent_dim)
        engine = ThisProcess() if engine is None else engine
        chosen = choose_temperatures(session, config, engine, reporter, merge=merge)
        given, config = config, chosen.config
        blocks = session.plan(config)
        if not complete(session, blocks, engine, reporter, shard=shard, merge=merge):
            return None
        results = {split: _load_split(session, config, split) for split in config.splits}
        simulated = session.load("bracket", config, SIMULATED)
        calibrated = _load_calibration(session, config)
        evaluation = dataclasses.replace(
            _summarize(session, given, results, simulated, calibrated),
            temperatures=chosen.choice,
            hosts=session.hosts(blocks),
        )
        # The values come first, so that a report never lacks them.
        values = _per_example(config, results, simulated, calibrated)
        values |= worst_pictures(session, evaluation.splits)
        write_arrays(session.run_dir / "evaluation.npz", values)
        write_json(session.run_dir / "evaluation.json", evaluation)
    return evaluation


def _load_split(session: EvaluationSession, config: EvaluateConfig, split: str) -> Arrays:
    """The results of all kinds; those of restarts are of the first examples alone."""
    kinds = reversed(session.kinds(config))
    arrays = {
        name: array for kind in kinds for name, array in session.load(kind, config, split).items()
    }
    left_out = () if session.has("bounds") else OF_MOMENTS
    return {name: array for name, array in arrays.items() if name not in left_out}


def _load_calibration(session: EvaluationSession, config: EvaluateConfig) -> Arrays:
    """The ranks of simulated examples; empty if none were asked for, or there is no q(z|x)."""
    asked = config.num_calibration > 0 and session.has("calibration")
    return session.load("calibration", config, SIMULATED) if asked else {}


def _summarize(
    session: EvaluationSession,
    config: EvaluateConfig,
    results: Mapping[str, Arrays],
    simulated: Arrays,
    calibrated: Arrays,
) -> Evaluation:
    splits = {
        split: dataclasses.replace(
            summarize_split(arrays, config.num_importance_samples, session.subject.latent_dim),
            local=summarize_local(config, arrays) if config.local else None,
        )
        for split, arrays in results.items()
    }
    bracket = summarize_bracket(simulated)
    calibration = summarize_calibration(calibrated) if calibrated else None
    here = environment()
    warnings = (*session.subject.warnings, *warnings_about(splits, bracket, config, calibration))
    return Evaluation(
        splits=splits,
        bracket=bracket,
        calibration=calibration,
        warnings=tuple(map(name_fields, warnings)),
        settings=config,
        run=session.subject.run,
        versions=here.versions,
        machine=here.machine,
        units="given" if session.subject.dataset.standardization is None else "standardized",
        log_scale=_log_scale(
            session.subject.dataset, {name: s.num_examples for name, s in splits.items()}
        ),
        model=session.subject.outside,
    )


def _log_scale(dataset: Dataset, counts: Mapping[str, int]) -> dict[str, float] | None:
    """sum(log stddev) of the first examples of each split, as in `Evaluation`."""
    scale = dataset.standardization
    if scale is None:
        return None
    means = {}
    for split, count in counts.items():
        examples = dataset.train if split == "train" else dataset.test
        parts = (
            scale.log_scales(examples.images(np.arange(start, stop)))
            for start, stop in spans((count, *dataset.image_shape))
        )
        means[split] = float(np.mean(np.concatenate([*parts])))
    return means


def _per_example(
    config: EvaluateConfig,
    results: Mapping[str, Arrays],
    simulated: Arrays,
    calibrated: Arrays,
) -> dict[str, np.ndarray]:
    """The values of each example, as in evaluation.npz."""
    values = {f"simulated_{name}": array for name, array in simulated.items()}
    if calibrated:
        ranks = calibration_values(calibrated)
        values |= {f"calibration_{name}": array for name, array in ranks.items()}
    for split, arrays in results.items():
        names = [name for name in (*PER_EXAMPLE, *OPTIONAL) if name in arrays]
        values |= {f"{split}_{name}": arrays[name] for name in names}
        if "elbo" in arrays:
            values[f"{split}_gap"] = gaps(arrays)
        if config.local:
            local_arrays = local_values(config, arrays)
            values |= {f"{split}_{name}": array for name, array in local_arrays.items()}
    return values
