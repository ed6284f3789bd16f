"""Early stopping: the rule, on histories that are made up."""

import dataclasses
import math
from typing import Any

import pytest

from tests.support import runs
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.runs.early_stopping import EarlyStopping, early_stop, has_ended
from tfp_smvi.runs.records import ConstraintRecord, EpochRecord, Metrics, TrainMetrics


def history(*elbos: float) -> list[EpochRecord]:
    """Epochs of 10 steps with these ELBOs, and divergences and errors of the same size."""
    return [
        EpochRecord(
            epoch,
            10 * epoch,
            TrainMetrics(elbo, elbo, elbo, 1.0, math.nan, 1.0),
            Metrics(elbo, elbo, elbo, 1.0, -elbo),
            1.0,
            constraint=ConstraintRecord("gap", 1.0, 1.0, elbo, "met"),
        )
        for epoch, elbo in enumerate(elbos, start=1)
    ]


RISING = history(-9.0, -8.0, -7.0, -6.0)
STUCK = history(-9.0, -7.0, -7.0, -7.0)


@pytest.mark.parametrize("metric", ["test.elbo", "test.divergence", "constraint.error"])
def test_a_metric_that_improves_goes_on_and_one_that_does_not_ends(metric: str) -> None:
    """Catches a direction that is wrong, and an error that is judged by its sign."""
    rule = EarlyStopping(metric, patience=2)  # type: ignore[arg-type]
    assert rule.stop(RISING) is None
    assert rule.stop(STUCK[:3]) is None
    line = rule.stop(STUCK)
    assert line is not None
    value = {"test.divergence": "7"}.get(metric, "-7")
    assert line == (
        f"Early stopping after epoch 4: {metric} has not improved on the {value} of epoch 2 for "
        "2 epochs."
    )


def test_an_improvement_is_more_than_min_delta_on_the_best() -> None:
    """Small steps that add up are an improvement: they are compared with the best that counted."""
    slow = history(-9.0, -8.6, -8.2, -7.8)
    assert EarlyStopping("test.elbo", patience=2, min_delta=0.5).stop(slow) is None
    assert EarlyStopping("test.elbo", patience=2, min_delta=1.5).stop(slow) is not None


def test_once_ended_more_epochs_do_not_undo_it_and_more_patience_does() -> None:
    back = [*STUCK, *history(0.0, 0.0, 0.0, 0.0, 1.0)[4:]]
    assert EarlyStopping("test.elbo", patience=2).stop(back) is not None
    assert EarlyStopping("test.elbo", patience=4).stop(back) is None


def test_epochs_of_the_warm_up_of_lam_do_not_count() -> None:
    falling = history(-5.0, -6.0, -7.0, -6.0)
    train = runs.config(
        epochs=9, early_stopping="test.elbo", patience=2, lam=1.0, lam_warmup_steps=30
    ).train
    assert early_stop(train, falling) is None
    constant = dataclasses.replace(train, lam=0.0)
    assert early_stop(constant, falling) is not None
    assert has_ended(constant, falling)
    assert not has_ended(train, falling)
    assert not has_ended(train, [])


def test_epochs_before_a_target_is_followed_do_not_count() -> None:
    """Control begins after 100 steps at the least, whatever the warm-up is; epochs have 10."""
    stuck = history(*[-5.0] * 14)
    settings: dict[str, Any] = {"lam": 0.0, "target_gap": 1.0, "early_stopping": "constraint.error"}
    train = runs.config(epochs=30, patience=2, lam_warmup_steps=5, **settings).train
    assert early_stop(train, stuck[:12]) is None
    line = early_stop(train, stuck)  # 11 is the first that counts
    assert line is not None
    assert "of epoch 11 for 2 epochs" in line


def test_a_metric_that_is_nan_does_not_improve() -> None:
    assert EarlyStopping("train.divergence", patience=2).stop(RISING) is not None


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(SMVIError, match="metric = 'val_loss' is not allowed; give one of: "):
        EarlyStopping("val_loss")  # type: ignore[arg-type]
    with pytest.raises(SMVIError, match="patience = 3 is not allowed; give early_stopping too"):
        runs.config(patience=3)
    with pytest.raises(SMVIError, match="patience = 0 is not allowed"):
        runs.config(early_stopping="test.elbo", patience=0)
    with pytest.raises(SMVIError, match=r"min_delta = -1\.0 is not allowed"):
        runs.config(early_stopping="test.elbo", min_delta=-1.0)
    with pytest.raises(SMVIError, match=r"give test\.divergence"):
        runs.config(early_stopping="train.divergence", lam=0.0).train.require_stopping_metric()
    with pytest.raises(SMVIError, match="give target_gap, max_divergence or min_elbo too"):
        runs.config(early_stopping="constraint.error").train.require_stopping_metric()
