"""What a training plans ahead: the warm-up of lam, and the learning rate at each step.

Both are functions of the step and of the settings that a run records when it is made. More epochs
later do not change them, so that they do not change what the run has done.

References:
    [1] I. Loshchilov and F. Hutter. SGDR: Stochastic Gradient Descent with Warm Restarts. 2017.
    [2] Y. Burda, R. Grosse and R. Salakhutdinov. Importance Weighted Autoencoders. 2016.
        Section 5.
"""

import dataclasses
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import tensorflow as tf
from tf_keras.optimizers.schedules import CosineDecay, PiecewiseConstantDecay

from tfp_smvi.config import RateSchedule, RunConfig, TrainConfig
from tfp_smvi.core.runtime import uses_gpu
from tfp_smvi.models.products import multiplies_bfloat16
from tfp_smvi.runs.directory import read_run

__all__ = ["SCHEDULES", "Rate", "notes_of_plan", "plan"]

# A learning rate that stays, or one of the step, as Adam takes them.
Rate: TypeAlias = float | Callable[[tf.Tensor], tf.Tensor]

# The warm-up of lam: two thirds of the planned steps, at most 5,000; see results/recipe.md. A lam
# that follows a constraint needs the rest to settle.
WARMUP_SHARE, CONTROLLED_WARMUP_SHARE = Fraction(2, 3), Fraction(1, 4)
MOST_WARMUP_STEPS = 5000
# What a cosine ends with, as a share of the first learning rate: above 0, so that a run that goes
# on beyond its plan still learns.
COSINE_END = 0.01
# The stages of [2]: stage i has 3^i passes over the data.
NUM_STAGES = 8


def plan(config: RunConfig, steps_per_epoch: int, run_dir: Path, *, fresh: bool) -> RunConfig:
    """Completes a configuration with what a run keeps once it is made: its plan, its activation.

    Args:
        config: the configuration.
        steps_per_epoch: of the training.
        run_dir: the run directory; the numbers that its run has recorded stay.
        fresh: whether an existing run there will be deleted.

    Raises:
        SMVIError: the config.json of the run cannot be read.
    """
    train, start = config.train, config.train.init_from
    origin = None if start is None else _config(Path(start))
    if not fresh and (earlier := _config(run_dir)) is not None:
        train, origin = train.completed_by(earlier.train), earlier
    planned = train.planned_epochs or train.epochs
    if train.lam_warmup_steps is None:
        share = WARMUP_SHARE if train.constraint is None else CONTROLLED_WARMUP_SHARE
        steps = min(int(share * planned * steps_per_epoch), MOST_WARMUP_STEPS)
        train = dataclasses.replace(train, lam_warmup_steps=steps)
    if train.learning_rate_schedule == "cosine":
        train = dataclasses.replace(train, planned_epochs=planned)
    model = config.model.with_activation(origin.model if origin else None)
    return dataclasses.replace(config, model=model, train=train)


def _config(run_dir: Path) -> RunConfig | None:
    """The configuration of a run; None if there is none."""
    return read_run(run_dir).config if (run_dir / "config.json").exists() else None


def notes_of_plan(config: TrainConfig) -> Iterator[str]:
    """Yields a line for what a training asks for and does not get."""
    if config.precision == "tf32" and not uses_gpu():
        yield "The precision tf32 is float32 here: TensorFlow finds no GPU."
    if config.precision == "bfloat16" and not multiplies_bfloat16():
        yield (
            "This processor does not multiply bfloat16 numbers: the products are those of float32, "
            "rounded, and no faster."
        )
    planned = config.planned_epochs or config.epochs
    if config.learning_rate_schedule == "cosine" and planned < config.epochs:
        rate = COSINE_END * config.learning_rate
        epochs = f"{planned} epoch{'s' * (planned != 1)}"
        yield f"The learning rate is planned for {epochs}, and stays at {rate:.2g} then."


def _constant(config: TrainConfig, steps_per_epoch: int) -> Rate:
    """Stays: rate(step) = rate."""
    return config.learning_rate


def _cosine(config: TrainConfig, steps_per_epoch: int) -> Rate:
    """Falls to COSINE_END of the rate over the planned steps, and stays there.

    rate(step) = rate * (end + (1 - end) * (1 + cos(pi * min(1, step / planned_steps))) / 2)

    Source: [1, eq. 5], without restarts.
    """
    assert config.planned_epochs is not None
    return CosineDecay(
        config.learning_rate, config.planned_epochs * steps_per_epoch, alpha=COSINE_END
    )


def _steps(config: TrainConfig, steps_per_epoch: int) -> Rate:
    """Falls by a factor of 10^(-1/7) after 1, 3, 9, ..., 729 more epochs, to a tenth of the rate.

    rate(step) = rate * 10^(-i/7) for 3^i epochs, i = 0, ..., 7

    Source: [2], whose 3,280 epochs end with those of i = 7; later ones keep its rate.
    """
    ends = [sum(3**j for j in range(i)) for i in range(1, NUM_STAGES)]
    return PiecewiseConstantDecay(
        # A boundary is the last step of its stage.
        [float(end * steps_per_epoch - 1) for end in ends],
        [config.learning_rate * 10.0 ** (-i / 7.0) for i in range(NUM_STAGES)],
    )


# The learning rate at a step, from the settings and the steps of an epoch.
SCHEDULES: dict[RateSchedule, Callable[[TrainConfig, int], Rate]] = {
    "constant": _constant,
    "cosine": _cosine,
    "step": _steps,
}
