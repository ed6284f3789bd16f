"""What can happen to a run of `tfp-smvi train`: signals, kills, full and read-only disks.

Each fault ends with one clear line or none, never a traceback, and the run goes on from it to the
same bits.
"""

import contextlib
import dataclasses
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support import runs, signals
from tests.support.forked import start_forked
from tests.support.kills import RandomKills
from tests.support.limits import file_size_limit
from tests.support.runs import (
    EPOCHS,
    OPTIONS,
    STEPS_PER_EPOCH,
    Recorder,
    ReferenceRun,
    assert_same_run,
    newest,
)
from tests.support.signals import SignalAt
from tfp_smvi.config import DataConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import Dataset, assembly, load_dataset
from tfp_smvi.runs.checkpoint import list_checkpoints
from tfp_smvi.training import schedule
from tfp_smvi.training.loop import fit


def lines(text: str) -> list[str]:
    """What a command printed on stderr, by line, without its data and its epochs."""
    return [line for line in text.splitlines() if not line.startswith(("Data: ", "epoch "))]


@pytest.mark.slow
def test_run_that_is_stopped_and_killed_in_every_way_ends_with_the_bits_of_one_that_is_not(
    reference: ReferenceRun,
    tmp_path: Path,
    signal_at: SignalAt,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_dir = tmp_path / "run"
    train = ("train", *OPTIONS, "--run-dir", str(run_dir))
    partial = ".step-"

    # Killed before its first checkpoint has its name: nothing is saved, and what is half written is
    # no checkpoint.
    process = signals.killed_command("os.rename", partial, 1, *train)
    assert (process.returncode, lines(process.stderr)) == (-signal.SIGKILL, [])
    assert list_checkpoints(run_dir / "checkpoints") == []
    assert len(list((run_dir / "checkpoints").iterdir())) == 1

    # SIGINT while the first epoch's metrics are written: the epoch is saved. Without a checkpoint
    # the log is opened to be looked at and to be cleared before.
    signal_at("open", "metrics.jsonl", 3, signal.SIGINT)
    assert runs.call(*train) == 128 + signal.SIGINT
    assert lines(capsys.readouterr().err) == [
        f"Stopped by SIGINT; step {STEPS_PER_EPOCH} is saved in {run_dir}.",
        "Run the same command again to continue.",
    ]
    assert newest(run_dir).step == STEPS_PER_EPOCH

    # SIGTERM while it starts up again, and no step is lost.
    signal_at("open", "metrics.jsonl", 1, signal.SIGTERM)
    assert runs.call(*train) == 128 + signal.SIGTERM
    assert (
        lines(capsys.readouterr().err)[0]
        == f"Continuing after step {STEPS_PER_EPOCH} of {EPOCHS * STEPS_PER_EPOCH}."
    )
    assert newest(run_dir).step == STEPS_PER_EPOCH

    # Killed as it opens the file of its second save: metrics and curves are one epoch ahead of the
    # checkpoint.
    process = signals.killed_command("open", partial, 2, *train)
    assert process.returncode == -signal.SIGKILL
    assert newest(run_dir).step == 2 * STEPS_PER_EPOCH
    assert len(runs.records(run_dir)) == 3

    assert runs.call(*train) == 0
    assert lines(capsys.readouterr().err) == [
        f"Continuing after step {2 * STEPS_PER_EPOCH} of {EPOCHS * STEPS_PER_EPOCH}."
    ]
    assert_same_run(run_dir, reference.run_dir)
    assert list(run_dir.rglob("*.partial")) == []


@pytest.mark.kills
def test_run_that_is_killed_at_random_moments_ends_with_the_bits_of_one_that_is_not(
    tmp_path: Path, random_kills: RandomKills
) -> None:
    """Saves after each call, so that many kills hit a save. The moments are random."""
    options = ("train", *OPTIONS, "--epochs", "20", "--checkpoint-minutes", "1e-9", "--run-dir")
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    assert runs.call(*options, str(whole)) == 0
    while not random_kills.done:
        saved = newest_step(run_dir)
        if random_kills.kills % 4 == 1:  # within the start
            with subprocess.Popen(
                [runs.script(), *options, str(run_dir)], stderr=subprocess.PIPE, text=True
            ) as process:
                random_kills.kill(process, 8.0)
                code = process.returncode
        else:
            forked = start_forked(*options, str(run_dir))
            forked.wait_for("\n", 2)
            random_kills.kill(forked, 1.0)
            code = forked.returncode
        random_kills.losses += newest_step(run_dir) < saved
        if code == 0:
            random_kills.differences += not same_run(run_dir, whole)
            shutil.rmtree(run_dir)
    assert runs.call(*options, str(run_dir)) == 0
    random_kills.differences += not same_run(run_dir, whole)
    random_kills.check()


def newest_step(run_dir: Path) -> int:
    """The step of the newest checkpoint, which must be whole; 0 without a checkpoint."""
    return newest(run_dir).step if list_checkpoints(run_dir / "checkpoints") else 0


def same_run(one: Path, other: Path) -> bool:
    """Whether two runs are the same; the difference is printed."""
    try:
        assert_same_run(one, other)
    except AssertionError as difference:
        print(difference)
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "module"), [(signal.SIGINT, "tensorflow_probability"), (signal.SIGTERM, "keras")]
)
def test_signal_while_tensorflow_loads_ends_the_program_without_a_traceback(
    tmp_path: Path, number: signal.Signals, module: str
) -> None:
    process = signals.signalled_start(
        "import", module, 20, number, "train", *OPTIONS, "--run-dir", str(tmp_path / "run")
    )
    assert process.returncode == 128 + number
    assert process.stderr.splitlines() == ["Stopped."]
    assert process.stdout == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_full_disk_is_one_clear_line_and_the_checkpoint_before_it_is_intact(
    digits: Dataset,
    reference: ReferenceRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A limit on the size of a file acts as a full disk: each checkpoint is larger."""
    last, before = (
        path.stat().st_size for path in list_checkpoints(reference.run_dir / "checkpoints")
    )
    limit = (before + last) // 2
    run_dir = tmp_path / "run"
    with file_size_limit(limit):
        assert runs.call("train", *OPTIONS, "--run-dir", str(run_dir)) == 1
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = lines(output.err)
    assert line.startswith(f"Error: cannot write to {run_dir} (File too large)")
    assert newest(run_dir).step == (EPOCHS - 1) * STEPS_PER_EPOCH
    assert len(list((run_dir / "checkpoints").iterdir())) == 2
    # With room again it goes on.
    fit(runs.CONFIG, digits, run_dir)
    assert_same_run(run_dir, reference.run_dir)


@pytest.mark.parametrize("limit", [100, 3000])
def test_disk_that_is_full_from_the_start_is_one_clear_line(
    tmp_path: Path, limit: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """100 bytes do not hold config.json; 3000 do, but not the curves of an epoch."""
    run_dir = tmp_path / "run"
    with file_size_limit(limit):
        assert runs.call("train", *OPTIONS, "--run-dir", str(run_dir)) == 1
    (line,) = lines(capsys.readouterr().err)
    assert line.startswith(f"Error: cannot write to {run_dir} (")
    assert "File too large" in line
    assert "function_node" not in line
    assert list(run_dir.rglob("*.npz")) == []


@pytest.mark.slow
def test_full_file_system_is_one_clear_line_and_the_checkpoint_before_it_is_intact(
    digits: Dataset, reference: ReferenceRun, small_disk: Path, tmp_path: Path
) -> None:
    with pytest.raises(SMVIError, match="No space left on device") as caught:
        fit(runs.CONFIG, digits, small_disk / "run")
    assert "\n" not in str(caught.value)
    steps = newest(small_disk / "run").step
    assert steps in (STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH)
    assert list(small_disk.rglob("*.partial")) == []
    shutil.copytree(small_disk / "run", tmp_path / "run")
    fit(runs.CONFIG, digits, tmp_path / "run")
    assert_same_run(tmp_path / "run", reference.run_dir)


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Acts as a user whom permissions bind: root becomes nobody for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_read_only_directory_is_one_clear_line_and_its_checkpoints_are_intact(
    reference: ReferenceRun, capsys: pytest.CaptureFixture[str]
) -> None:
    more = list(OPTIONS)
    more[more.index("--epochs") + 1] = str(EPOCHS + 1)
    # Not in tmp_path, which only its owner can read: nobody must be able to read the run, and not
    # to write it.
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        run_dir = Path(place) / "run"
        shutil.copytree(reference.run_dir, run_dir)
        # Imports all that it takes, while it can be read.
        assert runs.call("train", *OPTIONS, "--run-dir", str(run_dir)) == 0
        capsys.readouterr()
        everything = [run_dir, *run_dir.rglob("*")]
        try:
            for path in everything:
                path.chmod(0o555 if path.is_dir() else 0o444)
            with without_privileges():
                assert not os.access(run_dir, os.W_OK, effective_ids=True)
                assert runs.call("train", *more, "--run-dir", str(run_dir)) == 1
        finally:
            for path in everything:
                path.chmod(path.stat().st_mode | stat.S_IWUSR)
        output = capsys.readouterr()
        assert output.out == ""
        (line,) = lines(output.err)
        assert line.startswith(f"Error: cannot write to {run_dir} (Permission denied)")
        assert_same_run(run_dir, reference.run_dir)


@pytest.mark.slow
def test_directory_that_becomes_read_only_during_the_run_is_one_clear_line(
    digits: Dataset, reference: ReferenceRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    checkpoints, aside = run_dir / "checkpoints", run_dir / "aside"

    def make_read_only() -> None:
        # A link to a folder in which nobody can make files, root included.
        checkpoints.rename(aside)
        checkpoints.symlink_to("/proc/self/fdinfo")

    with pytest.raises(SMVIError, match=f"cannot write to {run_dir}") as caught:
        fit(runs.CONFIG, digits, run_dir, reporter=Recorder(STEPS_PER_EPOCH + 1, make_read_only))
    assert "\n" not in str(caught.value)
    checkpoints.unlink()
    aside.rename(checkpoints)
    assert newest(run_dir).step == STEPS_PER_EPOCH
    fit(runs.CONFIG, digits, run_dir)
    assert_same_run(run_dir, reference.run_dir)


def test_a_file_of_data_that_is_cut_short_is_one_line_and_its_checkpoints_are_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is read within a graph, whose own error is a trace."""
    monkeypatch.setattr(assembly, "MAX_BYTES_IN_MEMORY", 0)
    monkeypatch.setattr(schedule, "CALL_SECONDS", 0.0)
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).standard_normal((200, 3)))
    dataset = load_dataset(DataConfig(str(path), test_fraction=0.2))
    settings = dataclasses.replace(runs.config(epochs=3), data=dataset.config)
    reporter = Recorder(7, lambda: os.truncate(path, 200))  # in the second of epochs of 5 steps
    with pytest.raises(SMVIError) as caught:
        fit(settings, dataset, tmp_path / "run", reporter=reporter)
    assert caught.value.field is None  # exit code 1
    assert str(caught.value) == (
        f"{path} can no longer be read (it is shorter than it was); restore it and run again."
    )
    assert newest(tmp_path / "run").step == 5
