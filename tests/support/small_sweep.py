"""The small sweep that the tests share, its reporter, and a stand-in for its processes."""

import dataclasses
import json
import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support import runs
from tests.support.forked import fork_children
from tfp_smvi.config import (
    AISConfig,
    ClassifyConfig,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    RunConfig,
    SweepConfig,
    TrainConfig,
)
from tfp_smvi.sweeps import driver
from tfp_smvi.sweeps.driver import sweep
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.results import Summary

EPOCHS = 3
# At the last one the objective is infinite within a few steps.
CONFIG = SweepConfig(
    RunConfig(
        DataConfig("digits"),
        ModelConfig(latent_dim=2, hidden_sizes=(16,), activation="silu"),
        TrainConfig(epochs=EPOCHS, batch_size=32, lam_warmup_steps=50),
    ),
    EvaluateConfig(
        AISConfig(
            num_chains=2,
            num_temperatures=4,
            num_leapfrog_steps=1,
            num_pilot_chains=2,
            num_pilot_temperatures=4,
        ),
        split="both",
        num_examples=20,
        num_elbo_samples=10,
        num_divergence_samples=10,
        num_importance_samples=10,
        num_simulated=10,
        num_calibration=20,
    ),
    ClassifyConfig(labels=(20, 30), kernel="linear", repeats=2, num_folds=2),
    classify_every=2,
    lams=(0.0, 0.5, 1e38),
)
DONE, FAILED = ("lam0-seed0", "lam0.5-seed0"), "lam1e+38-seed0"
RESULTS = ("evaluation/*/*.npz", "evaluation.*", "classification*.json", "gallery.npz")
# What a process says as it begins, in a shell script.
BEGIN = """echo '{"event": "begin", "stage": "evaluate"}'"""


class Recorder:
    """A reporter that keeps what it is called with."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, str]] = []
        self.fractions: list[float] = []
        self.updates: list[tuple[str, str]] = []
        self.messages: list[str] = []

    def begin(self, entries: Sequence[Entry], stages: Sequence[str], jobs: int) -> None:
        self.asked = [entry.run_dir for entry in entries]

    def stage(self, entry: Entry, stage: str) -> None:
        self.stages.append((entry.run_dir, stage))

    def progress(self, entry: Entry, fraction: float, text: str) -> None:
        self.fractions.append(fraction)

    def update(self, entry: Entry) -> None:
        self.updates.append((entry.run_dir, entry.status))

    def note(self, message: str) -> None:
        self.messages.append(message)

    warn = note


class WholeSweep(NamedTuple):
    """A sweep that nothing interrupts."""

    path: Path
    summary: Summary
    reporter: Recorder


def make_whole_sweep(path: Path, value_path: Path) -> None:
    """Makes it, two runs at once, in a forked process, and keeps it at value_path."""
    fork_children()
    reporter = Recorder()
    summary = sweep(path, CONFIG, jobs=2, command=["some", "words"], reporter=reporter)
    value_path.write_bytes(pickle.dumps(WholeSweep(path, summary, reporter)))


def entries(summary: Summary) -> dict[str, Entry]:
    """The runs by their directories."""
    return {entry.run_dir: entry for entry in summary.runs}


def read(sweep_dir: Path) -> dict[str, Any]:
    """The JSON object of sweep.json."""
    return json.loads((sweep_dir / "sweep.json").read_text())


def without_seconds(values: Any) -> Any:
    """The JSON values of a result, except the times that it took."""
    if isinstance(values, Entry | Summary):
        values = values.to_json()
    if isinstance(values, dict):
        return {key: without_seconds(value) for key, value in values.items() if key != "seconds"}
    return [*map(without_seconds, values)] if isinstance(values, list) else values


def result_times(sweep_dir: Path) -> dict[Path, int]:
    """When each file of results was written."""
    return {
        path.relative_to(sweep_dir): path.stat().st_mtime_ns
        for pattern in RESULTS
        for path in sweep_dir.glob(f"*/{pattern}")
    }


def changed(**sections: Mapping[str, Any]) -> SweepConfig:
    """CONFIG with other settings, by section; "model" and "train" are those of its runs."""
    config = CONFIG
    for name, values in sections.items():
        if name in ("model", "train"):
            part = dataclasses.replace(getattr(config.train, name), **values)
            config = dataclasses.replace(
                config, train=dataclasses.replace(config.train, **{name: part})
            )
        elif name == "grid":
            config = dataclasses.replace(config, **values)
        else:
            config = dataclasses.replace(
                config, **{name: dataclasses.replace(getattr(config, name), **values)}
            )
    return config


def no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a sweep begin without the process that checks its data."""
    monkeypatch.setattr(driver, "check_data", lambda *arguments: None)


def fake_stage(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Replaces the process of a run by a shell script, and checks no data."""
    no_check(monkeypatch)
    script_as_python(monkeypatch, folder, script)


def script_as_python(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Replaces Python in all processes of a sweep by a shell script."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def assert_same_sweep(
    sweep_dir: Path, whole_sweep: WholeSweep, names: Sequence[str] = DONE
) -> None:
    """Asserts that a sweep of some lams that end has the results of the whole one, bit for bit."""
    summary, whole = without_seconds(read(sweep_dir)), without_seconds(read(whole_sweep.path))
    assert summary["runs"] == [run for run in whole["runs"] if run["run_dir"] in names]
    for name in ("config", "seeds", "environment"):
        assert summary[name] == whole[name]
    for name in names:
        for file in ("evaluation.json", "evaluation.npz", "gallery.npz"):
            expected = (whole_sweep.path / name / file).read_bytes()
            assert (sweep_dir / name / file).read_bytes() == expected
        runs.assert_same_run(sweep_dir / name, whole_sweep.path / name)
