"""What is wrong with a training although it ended: the warnings of a run, without TensorFlow."""

from collections.abc import Iterable

from tfp_smvi.config import RunConfig, TrainConfig
from tfp_smvi.core.collapse import collapse_symptoms
from tfp_smvi.core.errors import SMVIError, name_fields
from tfp_smvi.objectives.multiplier import Multiplier
from tfp_smvi.objectives.weights import FixedWeight, Weight
from tfp_smvi.runs.constraints import constraint_of, constraint_warning
from tfp_smvi.runs.records import EpochRecord

__all__ = [
    "collapse_warnings",
    "final_warnings",
    "lam_reached",
    "run_warnings",
    "training_warnings",
    "weight_of",
]


def weight_of(config: TrainConfig) -> Weight:
    """The weight of the divergence in a training.

    Raises:
        SMVIError: its warm-up is not planned yet.
    """
    if config.lam_warmup_steps is None:
        raise SMVIError("is not planned yet", field="lam_warmup_steps", remedy="give a number")
    constraint = constraint_of(config)
    if constraint is not None:
        return Multiplier(
            constraint,
            config.lam_warmup_steps,
            config.lam_warmup_power,
            config.averaging_steps,
        )
    return FixedWeight(config.lam, config.lam_warmup_steps, config.lam_warmup_power)


def lam_reached(config: TrainConfig, record: EpochRecord) -> float:
    """The weight of the divergence at the end of an epoch, also of one that does not record it."""
    return weight_of(config).reached(record.step) if record.lam is None else record.lam


def training_warnings(
    config: RunConfig, step: int, steps_per_epoch: int | None = None
) -> tuple[str, ...]:
    """Lists what is wrong with a training that will end at a step.

    Args:
        config: the settings.
        step: the steps of the training.
        steps_per_epoch: if it is known, a line can name the epochs that are needed.

    Returns:
        One line for each warning; "{epochs}" names a setting, for `name_fields`.
    """
    line = weight_of(config.train).unfinished(step, steps_per_epoch)
    return () if line is None else (line,)


def final_warnings(
    config: RunConfig, last: EpochRecord, step: int | None = None
) -> tuple[str, ...]:
    """Lists what is wrong with a training that has ended, as `training_warnings` does.

    Args:
        config: the settings.
        last: its last epoch.
        step: its last step; None for that of the epoch.
    """
    line = constraint_warning(last)
    lines = training_warnings(config, last.step if step is None else step, last.epoch_steps)
    lines = lines if lines or line is None else (line,)
    return lines + collapse_warnings(last)


def collapse_warnings(last: EpochRecord) -> tuple[str, ...]:
    """A line if the posterior had collapsed by the end of an epoch, as `final_warnings` has it."""
    symptoms = collapse_symptoms(last.active_units, last.reconstruction_change)
    if symptoms is None:
        return ()
    return (
        f"The posterior has collapsed: on test data, {symptoms}. A gap near 0 is no merit then, "
        "and features say little. Lower {lam}, or raise {lam_warmup_steps} or {epochs}.",
    )


def run_warnings(recorded: Iterable[str], config: RunConfig, last: EpochRecord) -> tuple[str, ...]:
    """The warnings of a run whose training ended with an epoch: recorded ones and what it lacks."""
    return tuple(dict.fromkeys((*recorded, *map(name_fields, final_warnings(config, last)))))
