"""A sweep whose runs end early: each is complete, and goes on with more patience."""

import dataclasses
from pathlib import Path

import pytest

from tests.support.small_sweep import CONFIG
from tfp_smvi.config import SweepConfig
from tfp_smvi.sweeps.driver import sweep
from tfp_smvi.sweeps.summary import open_summary


def with_rule(**train: object) -> SweepConfig:
    """One run that no epoch improves by 1000 nats, classified after each epoch."""
    chosen = {"epochs": 6, "early_stopping": "test.elbo", "min_delta": 1000.0, **train}
    run = dataclasses.replace(
        CONFIG.train,
        train=dataclasses.replace(CONFIG.train.train, **chosen),  # type: ignore[arg-type]
    )
    return dataclasses.replace(CONFIG, train=run, lams=(0.0,), classify_every=1)


@pytest.mark.slow
def test_a_run_that_ends_early_is_complete_and_goes_on_with_more_patience(tmp_path: Path) -> None:
    config = with_rule(patience=1)
    (entry,) = sweep(tmp_path, config).runs
    assert entry.done, entry.error
    assert [record.epoch for record in entry.history] == [1, 2]
    assert entry.evaluation is not None
    assert entry.evaluation.run is not None
    assert entry.evaluation.run.step == entry.history[-1].step
    assert entry.classification is not None
    assert [*entry.classification_by_epoch] == [1]
    (again,) = open_summary(tmp_path, config, [], lambda line: None, redo=False).runs
    assert again.done
    patient = with_rule(patience=2)
    (waiting,) = open_summary(tmp_path, patient, [], lambda line: None, redo=False).runs
    assert not waiting.done
    (longer,) = sweep(tmp_path, patient).runs
    assert longer.done, longer.error
    assert [record.epoch for record in longer.history] == [1, 2, 3]
    assert [*longer.classification_by_epoch] == [1, 2]
