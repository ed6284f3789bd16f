"""Small training runs, in this process and by the command line, and what two runs must share."""

import dataclasses
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tfp_smvi.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from tfp_smvi.runs.checkpoint import Checkpoint, restore_checkpoint, save_checkpoint
from tfp_smvi.runs.directory import read_run
from tfp_smvi.runs.records import EpochRecord

EPOCHS = 4
STEPS_PER_EPOCH = 44  # 1437 digits in batches of 32
CONFIG = RunConfig(
    DataConfig("digits"),
    ModelConfig(latent_dim=4, hidden_sizes=(32, 32), activation="silu"),
    # The warm-up ends within the run, so that a wrong step after a restart changes the bits.
    TrainConfig(lam=0.5, epochs=EPOCHS, batch_size=32, lam_warmup_steps=100),
)
# The same as CONFIG.
OPTIONS = (
    *("--dataset", "digits", "--latent-dim", "4", "--hidden-sizes", "32,32"),
    *("--lam", "0.5", "--epochs", str(EPOCHS), "--batch-size", "32", "--lam-warmup-steps", "100"),
)


class ReferenceRun(NamedTuple):
    """A run of `tfp-smvi train` and what it printed."""

    process: subprocess.CompletedProcess[str]
    run_dir: Path


class Recorder:
    """A reporter that notes what it receives and can do something in the middle of an epoch."""

    def __init__(self, at_step: int | None = None, action: Any = None) -> None:
        self.begins: list[int] = []
        self.steps: list[int] = []
        self.epochs: list[int] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self._at_step, self._action = at_step, action

    def begin(self, num_epochs: int, step: int, steps_per_epoch: int) -> None:
        self.begins.append(step)

    def progress(self, progress: Any) -> None:
        self.steps.append(progress.step)
        if self._at_step is not None and progress.step >= self._at_step:
            self._at_step = None
            self._action()

    def epoch(self, record: EpochRecord) -> None:
        self.epochs.append(record.epoch)

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def config(**train: Any) -> RunConfig:
    """CONFIG with other settings of the training."""
    return dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, **train))


def script() -> str:
    """The path of the console script that belongs to this interpreter."""
    path = Path(sys.executable).with_name("tfp-smvi")
    assert path.exists(), f"{path} is missing; install the package with pip install -e '.[test]'."
    return str(path)


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own."""
    return subprocess.run(
        [script(), *arguments], capture_output=True, text=True, check=False, **options
    )


def call(*arguments: str) -> int:
    """Runs the command line in this process, by its entry point, and returns its exit code."""
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="tfp-smvi")
    before, sys.argv = sys.argv, ["tfp-smvi", *arguments]  # some commands record it
    try:
        entry.load()(list(arguments))
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code
    finally:
        sys.argv = before
    raise AssertionError("the command line returned instead of exiting")


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs the command line, which must refuse its arguments, and returns its last line."""
    assert call(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [line for line in lines if line.startswith("Error: ")] == lines[-1:]
    return lines[-1]


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs the command line, which must fail with one line of output, and returns that line."""
    assert call(*arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    # Before it may be what the data were taken for.
    (line,) = (line for line in captured.err.splitlines() if not line.startswith("Data: "))
    assert line.startswith("Error: ")
    return line


def dead_process() -> int:
    """The number of a process that has ended, for the litter that it might have left."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def newest(run_dir: Path) -> Checkpoint:
    """Reads the newest checkpoint, which must be whole."""

    def refuse(message: str) -> None:
        raise AssertionError(message)

    checkpoint = restore_checkpoint(run_dir / "checkpoints", refuse)
    assert checkpoint is not None
    return checkpoint


def edit_config(run_dir: Path, change: dict[str, object]) -> None:
    """Changes fields in the sections of a run's config.json that have them."""
    record = json.loads((run_dir / "config.json").read_text())
    for section in (*record["config"].values(), record["data"]):
        section.update({name: value for name, value in change.items() if name in section})
    (run_dir / "config.json").write_text(json.dumps(record))


def forget_data(run_dir: Path) -> None:
    """Changes a run as if it had been trained on data of another content."""
    edit_config(run_dir, {"fingerprint": "0" * 64})
    believe_config(run_dir)


def believe_config(run_dir: Path) -> None:
    """Changes the newest checkpoint as if the run's config.json had always been as it is."""
    step, arrays, state = newest(run_dir)
    state = dataclasses.replace(state, run=read_run(run_dir))
    save_checkpoint(run_dir / "checkpoints", step, arrays, state)


def records(run_dir: Path) -> list[dict[str, Any]]:
    """Reads metrics.jsonl without the times."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if key != "seconds"}
        for line in lines
    ]


def read_events(run_dir: Path) -> dict[str, list[Any]]:
    """Reads the events of each curve, such as "elbo/train", and image series, by step.

    TensorBoard reads files by name, and two that one process began within a second may not be in
    the order of time.
    """
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    events = EventMultiplexer(size_guidance={"tensors": 0})
    events.AddRunsFromDirectory(str(run_dir / "tensorboard")).Reload()
    return {
        tag if run == "." else f"{tag}/{run}": sorted(
            events.Tensors(run, tag), key=lambda event: event.step
        )
        for run, tags in events.Runs().items()
        for tag in tags["tensors"]
        if not tag.startswith("_hparams_/")
    }


def event_steps(run_dir: Path) -> dict[str, list[int]]:
    """Reads the steps of each curve and image series, in ascending order."""
    return {tag: [event.step for event in events] for tag, events in read_events(run_dir).items()}


def assert_same_bits(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> None:
    """Asserts that arrays are the same, bit for bit."""
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype, name
        assert array.tobytes() == other[name].tobytes(), f"{name} differs"


def assert_same_run(one: Path, other: Path) -> None:
    """Asserts that two runs have the same bits and log, with each epoch once."""
    assert newest(one).step == newest(other).step
    assert_same_bits(newest(one).arrays, newest(other).arrays)
    assert records(one) == records(other)
    steps = [record["step"] for record in records(one)]
    for run_dir in (one, other):
        series = event_steps(run_dir)
        assert {"elbo/train", "lam/train"} <= series.keys()
        assert "samples" in series
        assert all(found == steps for found in series.values()), series
