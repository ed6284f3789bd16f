"""How long a plan says that work takes."""

import dataclasses
from pathlib import Path

import pytest

from tests.support.small_sweep import CONFIG
from tfp_smvi.sweeps import planning
from tfp_smvi.sweeps.planning import plan_sweep


@pytest.mark.parametrize(("epoch", "seconds"), [(0.014, 0.1), (0.1, 0.3), (0.11, 0.4)])
def test_work_that_is_left_takes_some_time(
    epoch: float, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a rounding to 0 of three short epochs; 0.1 three times is 0.3 and a rounding."""
    pace = planning._Pace(epoch, {}, "a test")
    monkeypatch.setattr(planning, "_timed_pace", lambda *arguments: pace)
    config = dataclasses.replace(CONFIG, lams=(0.0, 0.5))
    plan = plan_sweep(tmp_path / "sweep", config)
    assert [run.seconds for run in plan.runs] == [seconds, seconds]
    assert plan.seconds == pytest.approx(2 * seconds)
