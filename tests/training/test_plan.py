"""What a training plans ahead: the numbers themselves, and that more epochs change no past step."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.support.runs import (
    CONFIG,
    STEPS_PER_EPOCH,
    Recorder,
    assert_same_run,
    config,
    records,
)
from tfp_smvi.config import ModelConfig, RunConfig, TrainConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import Dataset, train_batches
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.directory import read_run
from tfp_smvi.runs.records import read_history
from tfp_smvi.training.checks import resolve
from tfp_smvi.training.loop import fit
from tfp_smvi.training.plan import SCHEDULES, plan
from tfp_smvi.training.results import FitResult
from tfp_smvi.training.trainer import Trainer


def rate(settings: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """The learning rate after a number of steps."""
    found = SCHEDULES[settings.learning_rate_schedule](settings, steps_per_epoch)
    return float(found(tf.constant(float(step))) if callable(found) else found)


def test_the_activation_is_that_of_the_run_which_goes_on_or_is_started_from(
    trained: FitResult, tmp_path: Path
) -> None:
    """And the default for a new one, which is recorded."""
    earlier, new = tmp_path / "run", tmp_path / "new"
    earlier.mkdir()
    text = (trained.run_dir / "config.json").read_text()
    (earlier / "config.json").write_text(text.replace('"silu"', '"softplus"'))
    asked = dataclasses.replace(CONFIG, model=ModelConfig())
    train = dataclasses.replace(CONFIG.train, init_from=str(earlier))
    started = dataclasses.replace(asked, train=train)

    def activation(config: RunConfig, run_dir: Path, *, fresh: bool = False) -> str | None:
        return plan(config, 10, run_dir, fresh=fresh).model.activation

    assert activation(asked, earlier) == activation(started, new) == "softplus"
    assert activation(asked, earlier, fresh=True) == activation(asked, new) == "silu"


@pytest.mark.parametrize(
    ("step", "share"),
    # cos(pi / 3) = 1/2, so that a third of the way is three quarters of the fall.
    [(0, 1.0), (100, 0.01 + 0.99 * 0.75), (150, 0.505), (300, 0.01), (1000, 0.01)],
)
def test_a_cosine_falls_to_a_hundredth_over_the_planned_epochs(step: int, share: float) -> None:
    settings = TrainConfig(learning_rate=0.002, learning_rate_schedule="cosine", planned_epochs=30)
    # Rounding of float32.
    assert rate(settings, step, 10) == pytest.approx(0.002 * share, rel=1e-5)


@pytest.mark.parametrize(
    ("epoch", "stage"),
    [(0, 0), (1, 1), (3, 1), (4, 2), (12, 2), (13, 3), (40, 4), (1093, 7), (3280, 7), (9999, 7)],
)
def test_steps_are_those_of_burda_et_al(epoch: int, stage: int) -> None:
    """Their stage i has 3^i epochs and the rate 10^(-i/7); a stage begins with its first step."""
    settings = TrainConfig(learning_rate=0.001, learning_rate_schedule="step")
    expected = [0.001 * 10.0 ** (-i / 7.0) for i in (stage - 1, stage)]
    assert rate(settings, epoch * 468, 468) == pytest.approx(expected[1], rel=1e-6)
    if epoch in (1, 4, 13, 40, 1093):
        assert rate(settings, epoch * 468 - 1, 468) == pytest.approx(expected[0], rel=1e-6)


def trainer_of(digits: Dataset, steps: int = 0, **settings: Any) -> Trainer:
    """A trainer after some steps, of four an epoch."""
    chosen = config(averaging_steps=0, **settings)
    trainer = Trainer(VAE(resolve(chosen, digits).model, digits.image_shape), chosen.train, 4)
    if steps:
        trainer.train(batches(digits), steps)
    return trainer


def batches(digits: Dataset) -> Any:
    return iter(train_batches(digits.train, batch_size=32, seed=0, num_steps=20, binarize=True))


def test_a_step_at_a_fallen_rate_is_one_at_that_rate(digits: Dataset) -> None:
    """Catches a rate of another step: at the edge of a stage it differs by 28 %."""
    falling = trainer_of(digits, 16, learning_rate_schedule="step")
    before = falling.arrays()
    constant = trainer_of(digits, learning_rate=1e-3 * 10.0 ** (-2 / 7))
    constant.assign(before)
    assert falling.learning_rate == pytest.approx(constant.learning_rate, rel=1e-6)
    for trainer in (falling, constant):
        trainer.train(batches(digits), 1)
    for name, weights in constant.arrays().items():
        # Up to the rounding of float32 in the update.
        np.testing.assert_allclose(falling.arrays()[name], weights, rtol=1e-5, atol=1e-7)


def test_weight_decay_shrinks_the_matrices_by_its_share_of_the_rate(digits: Dataset) -> None:
    plain = trainer_of(digits, learning_rate=0.01)
    decayed = trainer_of(digits, learning_rate=0.01, weight_decay=0.5)
    before = plain.arrays()
    decayed.assign(before)
    for trainer in (plain, decayed):
        trainer.train(batches(digits), 1)
    others = decayed.arrays()
    for name, weights in plain.arrays().items():
        matrix = weights.ndim >= 2 and not name.startswith("optimizer/")
        expected = weights - (0.01 * 0.5 * before[name] if matrix else 0.0)
        np.testing.assert_allclose(others[name], expected, rtol=1e-5, atol=1e-7, err_msg=name)


PLANNED = {"lam_warmup_steps": None, "learning_rate_schedule": "cosine", "weight_decay": 0.1}


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"epochs": 3}, 936),
        ({"epochs": 100}, 5000),
        ({"epochs": 100, "planned_epochs": 3}, 936),
        ({"epochs": 100, "lam_warmup_steps": 7}, 7),
        ({"epochs": 1}, 312),
    ],
)
def test_the_warm_up_is_two_thirds_of_the_planned_steps(
    settings: dict[str, Any], steps: int, tmp_path: Path
) -> None:
    given = RunConfig(train=TrainConfig(lam=0.5, **settings))
    planned = plan(given, 468, tmp_path, fresh=False).train
    assert planned.lam_warmup_steps == steps
    assert planned.planned_epochs == settings.get("planned_epochs")


@pytest.mark.slow
def test_a_run_with_a_plan_goes_on_as_if_all_epochs_had_been_asked_for_at_once(
    digits: Dataset, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fit(config(epochs=3, **PLANNED), digits, whole)
    fit(config(epochs=1, planned_epochs=3, **PLANNED), digits, parts)

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reporter = Recorder(STEPS_PER_EPOCH + 9, die)
        settings = config(epochs=3, **PLANNED)
        fit(settings, digits, parts, checkpoint_minutes=1e-9, reporter=reporter)
    fit(config(epochs=3, **PLANNED), digits, parts)
    assert_same_run(whole, parts)
    assert read_run(whole).config == read_run(parts).config
    # A sanity check of the comparison: the three settings change the bits.
    assert read_history(whole / "metrics.jsonl")[0].learning_rate == pytest.approx(
        1e-3 * (0.01 + 0.99 * (1.0 + math.cos(math.pi / 3.0)) / 2.0), rel=1e-5
    )


@pytest.mark.slow
def test_more_epochs_do_not_change_what_a_run_was_planned_for(
    digits: Dataset, tmp_path: Path
) -> None:
    fit(config(epochs=1, **PLANNED), digits, tmp_path)
    before, recorder = records(tmp_path), Recorder()
    fit(config(epochs=2, **PLANNED), digits, tmp_path, reporter=recorder)
    after, train = records(tmp_path), read_run(tmp_path).config.train
    assert after[0] == before[0]
    assert (train.lam_warmup_steps, train.planned_epochs) == (2 * STEPS_PER_EPOCH // 3, 1)
    assert [record["learning_rate"] for record in after] == pytest.approx([1e-5] * 2)
    assert [record["lam"] for record in after] == [0.5, 0.5]
    (note,) = recorder.notes
    assert note == "The learning rate is planned for 1 epoch, and stays at 1e-05 then."
    with pytest.raises(SMVIError, match=r"train\.planned_epochs: 1 here, 2 given"):
        fit(config(epochs=2, **PLANNED, planned_epochs=2), digits, tmp_path)


@pytest.mark.slow
def test_a_run_that_recorded_its_warm_up_keeps_it(digits: Dataset, tmp_path: Path) -> None:
    """As those of version 0.1 do."""
    fit(config(epochs=1), digits, tmp_path)
    fit(config(epochs=2, lam_warmup_steps=None), digits, tmp_path)
    train = read_run(tmp_path).config.train
    assert train.lam_warmup_steps == CONFIG.train.lam_warmup_steps
    assert train.planned_epochs is None
