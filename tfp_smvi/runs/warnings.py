"""What is wrong with a training although it ended: the warnings of a run, without TensorFlow."""

from collections.abc import Iterable

from tfp_smvi.config import RunConfig, TrainConfig
from tfp_smvi.core.errors import name_fields
from tfp_smvi.objectives.weights import FixedWeight, Weight

__all__ = ["run_warnings", "training_warnings", "weight_of"]


def weight_of(config: TrainConfig) -> Weight:
    """The weight of the divergence in a training."""
    return FixedWeight(config.lam, config.lam_warmup_steps, config.lam_warmup_power)


def training_warnings(config: RunConfig, step: int) -> tuple[str, ...]:
    """Lists what is wrong with a training that ends at a step.

    Returns:
        One line for each warning; "{epochs}" names a setting, for `name_fields`.
    """
    line = weight_of(config.train).unfinished(step)
    return () if line is None else (line,)


def run_warnings(recorded: Iterable[str], config: RunConfig, step: int) -> tuple[str, ...]:
    """The warnings of a run whose training ended at a step: what it recorded, and what it lacks."""
    lines = (*recorded, *map(name_fields, training_warnings(config, step)))
    return tuple(dict.fromkeys(lines))
