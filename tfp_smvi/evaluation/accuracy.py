"""The number of temperatures that a wanted accuracy of the log-likelihood takes."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from tfp_smvi.config import EvaluateConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.core.reporters import EvaluationReporter
from tfp_smvi.engines.base import Engine
from tfp_smvi.evaluation.blocks import SIMULATED, Block
from tfp_smvi.evaluation.results import TemperatureChoice
from tfp_smvi.evaluation.session import EvaluationSession
from tfp_smvi.evaluation.summary import summarize_bracket
from tfp_smvi.evaluation.warnings import other_start
from tfp_smvi.evaluation.work import complete

__all__ = ["CANDIDATES", "Chosen", "choose_temperatures", "with_temperatures"]

# Each doubles the cost of the one before. The last one costs sixteen times the default.
CANDIDATES = (12, 24, 48, 96, 192, 384, 768)


class Chosen(NamedTuple):
    """A configuration with its number of temperatures, and how that was chosen; None if given."""

    config: EvaluateConfig
    choice: TemperatureChoice | None


def choose_temperatures(
    session: EvaluationSession,
    config: EvaluateConfig,
    engine: Engine,
    reporter: EvaluationReporter,
    *,
    merge: bool = False,
) -> Chosen:
    """Doubles the number of temperatures until the bracket on simulated data is narrow enough.

    That is, until its width and one standard error are at most `config.accuracy`. Only the bracket
    is computed, and its blocks are saved as those of any evaluation: a search that was stopped goes
    on, shards that share a directory share them, and the evaluation finds them again.

    Args:
        session: the model and its data.
        config: what to estimate; with no accuracy, it is returned as it is.
        engine: runs the blocks.
        reporter: receives progress updates.
        merge: computes nothing.

    Raises:
        SMVIError: no number is enough, or as `complete`.
    """
    if config.accuracy is None:
        return Chosen(config, None)
    brackets: dict[str, Estimate] = {}
    for count in CANDIDATES:
        changed = with_temperatures(config, count)
        blocks = session.plan(changed, kinds=())
        _complete_quietly(session, blocks, engine, reporter, merge)
        width = summarize_bracket(session.load("bracket", changed, SIMULATED)).width
        brackets[str(count)] = width
        reporter.note(f"At {count} temperatures, the bracket is {width} nat.")
        # A width below 0 is chance.
        if max(width.mean, 0.0) + width.standard_error <= config.accuracy:
            return Chosen(changed, TemperatureChoice(count, brackets))
    raise SMVIError(
        f"is not reached with {count} temperatures, where the bracket is {width} nat",
        field="accuracy",
        value=config.accuracy,
        remedy=f"give a larger number, or {other_start(config)}; or, if the error is the larger "
        "part, raise {num_simulated}",
    )


def with_temperatures(config: EvaluateConfig, count: int) -> EvaluateConfig:
    """The configuration with another number of temperatures."""
    return dataclasses.replace(config, ais=dataclasses.replace(config.ais, num_temperatures=count))


def _complete_quietly(
    session: EvaluationSession,
    blocks: Sequence[Block],
    engine: Engine,
    reporter: EvaluationReporter,
    merge: bool,
) -> None:
    """Computes the blocks that are missing, without a word if none is."""
    if not all(map(session.is_done, blocks)):
        complete(session, blocks, engine, reporter, merge=merge)
