"""How the annealed log-likelihood moves with the number of temperatures, and where it settles.

References:
    [1] D. Levy and S. Ermon. Trading-off Learning and Inference in Deep Latent Variable Models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfp_smvi.config import EvaluateConfig
from tfp_smvi.core.errors import name_fields
from tfp_smvi.core.estimates import Estimate, estimate
from tfp_smvi.core.records import JSONObject, Record
from tfp_smvi.core.reporters import EvaluationReporter, Silent
from tfp_smvi.core.runtime import Machine, environment
from tfp_smvi.data import Dataset
from tfp_smvi.engines.base import Engine
from tfp_smvi.engines.local import ThisProcess
from tfp_smvi.evaluation.accuracy import with_temperatures
from tfp_smvi.evaluation.blocks import SIMULATED, Shard
from tfp_smvi.evaluation.outside import OutsideModel
from tfp_smvi.evaluation.results import BracketSummary, EvaluatedModel, EvaluatedRun, Rates
from tfp_smvi.evaluation.session import EvaluationSession, open_session
from tfp_smvi.evaluation.summary import summarize_bracket, summarize_rates
from tfp_smvi.evaluation.warnings import describe_wide, other_start
from tfp_smvi.evaluation.work import complete, writing
from tfp_smvi.storage.atomic import write_json

__all__ = [
    "Convergence",
    "measure_convergence",
    "settled_at",
    "warnings_about",
]


@dataclass(frozen=True)
class AnnealedSummary(Record):
    """The estimates of a split with one number of temperatures, in nats.

    Attributes:
        log_likelihood: log p(x).
        difference_to_last: to the estimate with the largest number of temperatures.
        acceptance_rate: of the chains.
        effective_sample_size: of the chains' weights.
    """

    log_likelihood: Estimate
    difference_to_last: Estimate
    acceptance_rate: Rates
    effective_sample_size: Estimate


@dataclass(frozen=True)
class SplitConvergence(Record):
    """The estimates of a split by number of temperatures.

    Attributes:
        num_examples: the number of examples.
        settled_at: see `settled_at`.
        by_num_temperatures: the estimates; a JSON key is the number.
    """

    num_examples: int
    settled_at: int | None
    by_num_temperatures: Mapping[str, AnnealedSummary]


@dataclass(frozen=True)
class Convergence(Record):
    """What `measure_convergence` found, as in convergence.json.

    Attributes:
        splits: by split.
        brackets: the width of the bracket by number of temperatures.
        warnings: why the numbers should not be trusted.
        settings: what was estimated; its own number of temperatures was not used.
        run: the run that was evaluated; None for a model without one.
        versions: the versions of the packages that matter.
        machine: the machine.
        model: the model without a run that was evaluated; None, and not written, for a run.
    """

    splits: Mapping[str, SplitConvergence]
    brackets: Mapping[str, BracketSummary]
    warnings: tuple[str, ...]
    settings: EvaluateConfig
    run: EvaluatedRun | None
    versions: Mapping[str, str]
    machine: Machine
    model: EvaluatedModel | None = None

    def to_json(self) -> JSONObject:
        """Returns the fields as JSON values, without the number of temperatures not used."""
        values = super().to_json()
        del values["settings"]["ais"]["num_temperatures"]
        if self.model is None:
            del values["model"]
        return values


def measure_convergence(
    run_dir: Path | str | OutsideModel,
    config: EvaluateConfig,
    num_temperatures: Sequence[int],
    *,
    data_dir: Path | None = None,
    dataset: Dataset | None = None,
    shard: Shard | None = None,
    merge: bool = False,
    engine: Engine | None = None,
    reporter: EvaluationReporter | None = None,
) -> Convergence | None:
    """Estimates log p(x) with several numbers of temperatures, on the same examples.

    It works and is resumed as `evaluate`, with which it shares its blocks. Writes convergence.json
    into the run directory, or the folder of a model without a run.

    Args:
        run_dir: the run directory, or a model without a run.
        config: what to estimate; its own number of temperatures is not used.
        num_temperatures: numbers of temperatures, growing, at least two.
        data_dir: as in `evaluate`.
        dataset: as in `evaluate`.
        shard: as in `evaluate`.
        merge: as in `evaluate`.
        engine: as in `evaluate`.
        reporter: as in `evaluate`.

    Returns:
        The result, as in convergence.json, in nats; None for a shard.

    Raises:
        SMVIError: as `evaluate`.

    Source: [1], whose check it is.
    """
    reporter = reporter or Silent()
    with (
        open_session(run_dir, data_dir, dataset, reporter) as session,
        writing(session, "convergence.png", "convergence.json"),
    ):
        config = session.subject.resolve(config)
        configs = {count: with_temperatures(config, count) for count in num_temperatures}
        plans = (session.plan(changed, kinds=("annealed",)) for changed in configs.values())
        blocks = [block for blocks in plans for block in blocks]
        engine = ThisProcess() if engine is None else engine
        if not complete(session, blocks, engine, reporter, shard=shard, merge=merge):
            return None
        convergence = _summarize(session, config, configs)
        write_json(session.run_dir / "convergence.json", convergence)
    return convergence


def settled_at(
    log_likelihoods: Mapping[int, np.ndarray], widths: Mapping[int, Estimate]
) -> int | None:
    """Finds the number of temperatures from which on the mean estimate no longer moves.

    It is the smallest number whose mean differences to those of all larger numbers have 95 %
    intervals over examples, by Student's t, that hold 0, and whose bracket is not wide, as in
    `describe_wide`: chains that all miss a mode agree at once, and are wrong.

    Args:
        log_likelihoods: float [num_examples] by number of temperatures, on the same examples.
        widths: the widths of the bracket by number of temperatures, in nats.

    Returns:
        The number, or None if the estimate moves up to the largest one or brackets are too wide.
    """
    counts = sorted(log_likelihoods)
    for position, count in enumerate(counts[:-1]):
        later = counts[position + 1 :]
        differences = (log_likelihoods[larger] - log_likelihoods[count] for larger in later)
        if describe_wide(widths[count]) is None and not any(
            _moved(np.asarray(difference, np.float64)) for difference in differences
        ):
            return count
    return None


def warnings_about(
    splits: Mapping[str, SplitConvergence],
    brackets: Mapping[str, BracketSummary],
    settings: EvaluateConfig,
) -> list[str]:
    """Lists why estimates have not settled, in a line each.

    Returns:
        The lines; "{initial}" names a setting, for `name_fields`.
    """
    largest = max(brackets, key=int)
    if (apart := describe_wide(brackets[largest].width)) is not None:
        return [
            f"At {largest} temperatures, on examples simulated from the model, the bounds of the "
            f"log-likelihood are {apart}: compare larger numbers, or {other_start(settings)}."
        ]
    return [
        f"{split}: the estimate still moves at {largest} temperatures: compare larger numbers."
        for split, summary in splits.items()
        if summary.settled_at is None
    ]


def _summarize(
    session: EvaluationSession, config: EvaluateConfig, configs: Mapping[int, EvaluateConfig]
) -> Convergence:
    brackets = {
        count: summarize_bracket(session.load("bracket", changed, SIMULATED))
        for count, changed in configs.items()
    }
    widths = {count: bracket.width for count, bracket in brackets.items()}
    splits = {split: _summarize_split(session, configs, split, widths) for split in config.splits}
    by_name = {str(count): bracket for count, bracket in brackets.items()}
    warnings = (*session.subject.warnings, *warnings_about(splits, by_name, config))
    here = environment()
    return Convergence(
        splits=splits,
        brackets=by_name,
        warnings=tuple(map(name_fields, warnings)),
        settings=config,
        run=session.subject.run,
        versions=here.versions,
        machine=here.machine,
        model=session.subject.outside,
    )


def _summarize_split(
    session: EvaluationSession,
    configs: Mapping[int, EvaluateConfig],
    split: str,
    widths: Mapping[int, Estimate],
) -> SplitConvergence:
    results = {
        count: session.load("annealed", changed, split) for count, changed in configs.items()
    }
    log_likelihoods = {count: arrays["log_likelihood"] for count, arrays in results.items()}
    last = log_likelihoods[max(log_likelihoods)]
    summaries = {}
    for count, arrays in results.items():
        values = arrays["log_likelihood"]
        summaries[str(count)] = AnnealedSummary(
            log_likelihood=estimate(values, arrays["log_likelihood_error"]),
            difference_to_last=estimate(values.astype(np.float64) - last),
            acceptance_rate=summarize_rates(arrays["acceptance_rate"]),
            effective_sample_size=estimate(arrays["effective_sample_size"]),
        )
    return SplitConvergence(len(last), settled_at(log_likelihoods, widths), summaries)


def _moved(differences: np.ndarray) -> bool:
    """Whether a mean difference is larger than its errors allow, or not finite."""
    if not np.all(np.isfinite(differences)):
        return True
    mean = estimate(differences)
    return abs(mean.mean) > mean.half_width  # not if the error is not known
