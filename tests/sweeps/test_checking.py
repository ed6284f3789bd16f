"""A sweep that its data do not allow: one error, before anything is made or changed."""

import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.errors import refused
from tests.support.small_sweep import CONFIG, Recorder, changed, script_as_python
from tfp_smvi.config import DataConfig, SweepConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.sweeps.driver import SweepInterrupted, sweep


def files(folder: Path) -> dict[str, bytes]:
    """All files of a folder but locks, which have no content."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def on_data(path: Path, labels: Any, **settings: Any) -> SweepConfig:
    """CONFIG on ten examples with these labels, saved at a path."""
    arrays: dict[str, Any] = {
        f"x_{name}": np.eye(10, dtype=np.float32) for name in ("train", "test")
    }
    if labels is not None:
        arrays |= {f"y_{name}": np.array(labels) for name in ("train", "test")}
    np.savez(path, **arrays)
    train = dataclasses.replace(CONFIG.train, data=DataConfig(str(path)))
    return dataclasses.replace(changed(**settings), train=train)


@pytest.mark.parametrize(
    ("labels", "settings", "field", "reason"),
    [
        (None, {}, None, "has no labels for both"),
        ([0] * 9 + [1], {"classify": {"labels": (12,)}}, "labels", "6 examples of each class"),
        (
            [0, 1] * 5,
            {"grid": {"classify": None}},
            "batch_size",
            "more than the 10 training examples",
        ),
    ],
)
def test_data_that_do_not_allow_a_setting_are_refused_and_nothing_is_made(
    labels: Any, settings: dict[str, Any], field: str | None, reason: str, tmp_path: Path
) -> None:
    config = on_data(tmp_path / "data.npz", labels, **settings)
    reporter = Recorder()
    with refused(field) as caught:
        sweep(tmp_path / "runs" / "sweep", config, reporter=reporter)
    assert reason in str(caught.value)
    assert str(caught.value).count("--no-classify") == (field != "batch_size")
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]
    assert (reporter.stages, reporter.messages) == (
        [],
        [],
    )  # the error is raised, and reported once


def test_a_file_of_data_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    train = dataclasses.replace(CONFIG.train, data=DataConfig(str(tmp_path / "data.npz")))
    with pytest.raises(SMVIError, match=r"data\.npz: no such file"):
        sweep(tmp_path / "sweep", changed(grid={"train": train}))
    assert not [*tmp_path.iterdir()]


def test_a_sweep_that_is_there_is_left_as_it_is(copied_sweep: Path) -> None:
    before = files(copied_sweep)
    with refused("labels", None):
        sweep(copied_sweep, changed(classify={"labels": (3000,)}), redo=True)
    assert files(copied_sweep) == before


def test_default_numbers_of_labels_that_do_not_fit_are_noted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digits allow 600 and 1000. The check itself runs, and no run after it."""
    reporter = Recorder()
    monkeypatch.setattr("tfp_smvi.sweeps.driver.make_task", refuse_to_start)
    sweep(tmp_path / "sweep", changed(classify={"labels": None}), reporter=reporter)
    assert [line.partition(":")[0] for line in reporter.messages] == [
        "Classification from 3000 labels is left out"
    ]


def refuse_to_start(*arguments: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_check(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopping(Recorder):
        def note(self, message: str) -> None:
            os.kill(os.getpid(), number)

    say = """echo '{"event": "note", "message": "the check has begun"}'"""
    script_as_python(monkeypatch, tmp_path, f"{say}; exec sleep 600")
    with pytest.raises(SweepInterrupted) as caught:
        sweep(tmp_path / "sweep", CONFIG, reporter=Stopping())
    assert caught.value.signum == number
    assert not (tmp_path / "sweep").exists()


def test_a_check_that_dies_leaves_the_reason_to_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script_as_python(monkeypatch, tmp_path, "kill -9 $$")
    summary = sweep(tmp_path / "sweep", CONFIG)
    assert all("SIGKILL" in str(entry.error) for entry in summary.runs)


def test_a_machine_that_starts_no_process_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(SMVIError, match=r"no process can be started \(No such file"):
        sweep(tmp_path / "sweep", CONFIG)
    assert not [*tmp_path.iterdir()]


def test_a_sweep_is_not_extended_on_other_data(tmp_path: Path) -> None:
    """The same file and shapes with other values: their lams must not be compared."""
    config = on_data(tmp_path / "data.npz", [0, 1] * 5, grid={"classify": None, "lams": (0.0,)})
    small = dataclasses.replace(config.train.train, batch_size=5)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, train=small))
    sweep(tmp_path / "sweep", config)
    arrays = dict(np.load(tmp_path / "data.npz"))
    arrays["x_train"] = arrays["x_train"][::-1]
    np.savez(tmp_path / "data.npz", **arrays)
    before = files(tmp_path / "sweep")
    with refused(None) as caught:
        sweep(tmp_path / "sweep", dataclasses.replace(config, lams=(0.0, 1.0)))
    assert "lam0-seed0 was trained on other data than those of now" in str(caught.value)
    assert files(tmp_path / "sweep") == before
