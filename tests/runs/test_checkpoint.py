"""Checkpoints: whole or not at all, and found whatever happened to the newest of them."""

import errno
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.runs.checkpoint import (
    Checkpoint,
    list_checkpoints,
    list_steps,
    read_checkpoint,
    require_run,
    restore_checkpoint,
    save_checkpoint,
)
from tfp_smvi.runs.records import EpochRecord, Metrics, TrainingState, TrainMetrics
from tfp_smvi.storage.atomic import write_atomically

METRICS = Metrics(objective=-1.5, elbo=-1.0, reconstruction=-0.5, kl=0.5, divergence=0.1)
ARRAYS = {
    "decoder/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "optimizer/000": np.array(7),
    "none": np.zeros((0, 2), np.float32),
}
EPOCH = EpochRecord(1, 44, TrainMetrics(-1.0, -0.1, 0.1, 0.2, math.nan, 8.5), METRICS, 0.3)
STATE = TrainingState(history=(EPOCH,), sums=(math.nan, 1e-300), seconds=0.25)
EMPTY = TrainingState((), (), 0.0)

# Saves step 2 beside step 1 and is killed before the n-th operation of that; at fsync half of the
# bytes are there.
KILLED_SAVE = """
import os, pathlib, signal, sys, zipfile
import numpy as np
from tfp_smvi.runs.checkpoint import save_checkpoint
from tfp_smvi.runs.records import TrainingState

remaining = int(sys.argv[2])

def kill_before(owner, name):
    original = getattr(owner, name)
    def operation(*arguments, **options):
        global remaining
        remaining -= 1
        if remaining == 0:
            if name == "fsync" and os.fstat(arguments[0]).st_size > 1 and not os.path.isdir(
                f"/dev/fd/{arguments[0]}"
            ):
                os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)
    setattr(owner, name, operation)

for owner, name in ((os, "fsync"), (os, "replace"), (os, "unlink"), (zipfile.ZipFile, "open")):
    kill_before(owner, name)
state = TrainingState((), (), 2.0)
save_checkpoint(pathlib.Path(sys.argv[1]), 2, {"w": np.full(1000, 2.0)}, state, keep=1)
"""


def no_warning(message: str) -> None:
    raise AssertionError(f"unexpected warning: {message}")


def assert_same(
    checkpoint: Checkpoint | None,
    step: int,
    arrays: Mapping[str, np.ndarray] = ARRAYS,
    state: TrainingState = STATE,
) -> None:
    """The checkpoint is the arrays and the state, saved at a step."""
    assert checkpoint is not None
    assert checkpoint.step == step
    assert checkpoint.state.to_json() == state.to_json()  # NaN is not equal to itself
    assert list(checkpoint.arrays) == list(arrays)
    for name, array in arrays.items():
        found = checkpoint.arrays[name]
        assert (found.dtype, found.shape, found.tobytes()) == (
            array.dtype,
            array.shape,
            array.tobytes(),
        )


def test_what_is_saved_is_restored_with_its_shapes_and_dtypes(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 12, ARRAYS, STATE)
    assert_same(restore_checkpoint(tmp_path, no_warning), 12)


def test_empty_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert restore_checkpoint(tmp_path, no_warning) is None
    assert restore_checkpoint(tmp_path / "missing", no_warning) is None


def test_newest_is_the_highest_step_whatever_the_names_and_times_say(tmp_path: Path) -> None:
    for step in (9, 10, 12345678901):  # the last has more digits than its name is padded to
        save_checkpoint(tmp_path, step, ARRAYS, STATE, keep=3)
    os.utime(tmp_path / "step-0000000009.npz", (2e9, 2e9))
    (tmp_path / "step-backup.npz").write_bytes(b"not ours")
    (tmp_path / "step-99999999999999.npz.old").write_bytes(b"not ours")
    assert_same(restore_checkpoint(tmp_path, no_warning), 12345678901)


def test_two_newest_are_kept_and_litter_goes(tmp_path: Path) -> None:
    (tmp_path / ".step-0000000001.npz.999.partial").write_bytes(b"half")
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, ARRAYS, STATE)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-0000000002.npz",
        "step-0000000003.npz",
    ]


def test_same_step_saved_again_replaces(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 5, {}, EMPTY)
    save_checkpoint(tmp_path, 5, ARRAYS, STATE)
    assert_same(restore_checkpoint(tmp_path, no_warning), 5)


def test_newest_cut_anywhere_falls_back_to_the_one_before_with_a_warning(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, ARRAYS, STATE)
    whole = save_checkpoint(tmp_path, 2, ARRAYS, STATE).read_bytes()
    newest = tmp_path / "step-0000000002.npz"
    for length in range(len(whole)):
        newest.write_bytes(whole[:length])
        warnings: list[str] = []
        assert_same(restore_checkpoint(tmp_path, warnings.append), 1)
        assert len(warnings) == 1
        assert str(newest) in warnings[0]
        assert "\n" not in warnings[0]


@pytest.mark.parametrize(
    ("bits", "arrays", "state"),
    [
        (1, ARRAYS, STATE),
        pytest.param(8, {"none": ARRAYS["none"]}, EMPTY, marks=pytest.mark.slow),
    ],
    ids=["one of each byte", "all of the smallest"],
)
# Some flips make zipfile and NumPy warn, too; they are refused anyway.
@pytest.mark.filterwarnings("ignore")
def test_no_flipped_bit_in_the_newest_is_ever_taken_for_the_truth(
    tmp_path: Path, bits: int, arrays: Mapping[str, np.ndarray], state: TrainingState
) -> None:
    """Some bytes of an archive mean nothing, such as its dates: there the content is right.

    The smallest archive has every kind of byte: those of two members, their headers, the directory
    and its end. It has all their bits, where the other one has one bit of each byte.
    """
    save_checkpoint(tmp_path, 1, arrays, state)
    whole = save_checkpoint(tmp_path, 2, arrays, state).read_bytes()
    newest = tmp_path / "step-0000000002.npz"
    fallbacks = 0  # the contents and their headers, which CRCs protect, are most of the file
    for place in range(len(whole)):
        for bit in range(bits):
            garbled = bytearray(whole)
            garbled[place] ^= 1 << (place + bit) % 8
            newest.write_bytes(garbled)
            warnings: list[str] = []
            checkpoint = restore_checkpoint(tmp_path, warnings.append)
            assert_same(checkpoint, 1 if warnings else 2, arrays, state)
            fallbacks += len(warnings)
    assert fallbacks > len(whole) * bits // 2


def test_checkpoint_under_the_name_of_another_step_is_not_taken_for_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, ARRAYS, STATE)
    save_checkpoint(tmp_path, 2, ARRAYS, STATE).rename(tmp_path / "step-0000000009.npz")
    warnings: list[str] = []
    assert_same(restore_checkpoint(tmp_path, warnings.append), 1)
    assert "saved at step 2" in warnings[0]


def test_garbled_newest_falls_back(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, ARRAYS, STATE)
    save_checkpoint(tmp_path, 2, ARRAYS, STATE).write_bytes(os.urandom(3000))
    warnings: list[str] = []
    assert_same(restore_checkpoint(tmp_path, warnings.append), 1)
    assert len(warnings) == 1


def test_when_none_can_be_read_it_is_an_error_and_not_a_restart_from_zero(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, ARRAYS, STATE).write_bytes(b"")
    warnings: list[str] = []
    with pytest.raises(SMVIError) as caught:
        restore_checkpoint(tmp_path, warnings.append)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy is not None
    assert "--fresh" in caught.value.remedy
    assert len(warnings) == 2


def test_checkpoint_that_runs_code_is_refused(tmp_path: Path) -> None:
    """A pickle in it would run whatever it likes."""
    np.savez(tmp_path / "step-0000000001.npz", info=np.array([{"a": 1}], dtype=object))
    with pytest.raises(SMVIError):
        restore_checkpoint(tmp_path, lambda message: None)


def test_save_that_is_killed_at_any_operation_leaves_the_old_checkpoint_or_the_new_one(
    tmp_path: Path,
) -> None:
    steps = []
    for operation in range(1, 50):
        folder = tmp_path / str(operation)
        folder.mkdir()
        save_checkpoint(folder, 1, {"w": np.full(1000, 1.0)}, TrainingState((), (), 1.0))
        killed = subprocess.run(
            [sys.executable, "-c", KILLED_SAVE, str(folder), str(operation)], check=False
        )
        checkpoint = restore_checkpoint(folder, no_warning)
        assert checkpoint is not None
        np.testing.assert_array_equal(checkpoint.arrays["w"], np.full(1000, float(checkpoint.step)))
        assert checkpoint.state == TrainingState((), (), float(checkpoint.step))
        steps.append(checkpoint.step)
        # The next save of the run that goes on clears away what the kill left.
        save_checkpoint(folder, 3, {}, EMPTY, keep=1)
        assert [path.name for path in folder.iterdir()] == ["step-0000000003.npz"]
        if killed.returncode == 0:
            break
        assert killed.returncode == -9
    assert killed.returncode == 0
    # Two members, fsync, replace, unlink of the file aside, fsync of the folder, unlink of step 1.
    assert steps == sorted(steps)
    assert steps.count(1) >= 4
    assert steps.count(2) >= 3


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_save_that_fails_raises_and_leaves_the_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    save_checkpoint(tmp_path, 1, ARRAYS, STATE)

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, operation, fail)
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(tmp_path, 2, ARRAYS, STATE)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-0000000001.npz"]
    assert len(list(tmp_path.iterdir())) == 1
    assert_same(restore_checkpoint(tmp_path, no_warning), 1)


def test_file_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, lambda file: file.write(b"one"))

    def half(file: object) -> None:
        file.write(b"tw")  # type: ignore[attr-defined]
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        write_atomically(path, half)
    assert path.read_bytes() == b"one"
    write_atomically(path, lambda file: file.write(b"three"))
    assert path.read_bytes() == b"three"
    assert list(tmp_path.iterdir()) == [path]


# Checkpoints that are kept permanently.


def test_kept_checkpoints_stay_beside_the_two_newest(tmp_path: Path) -> None:
    for step in range(1, 8):
        save_checkpoint(tmp_path, step, ARRAYS, STATE, forever=step in (2, 4))
    assert list_steps(tmp_path) == [7, 6, 4, 2]
    save_checkpoint(tmp_path, 8, ARRAYS, STATE, forever=True)
    assert list_steps(tmp_path) == [8, 7, 4, 2]


def test_newest_that_is_kept_is_restored_and_falls_back_when_it_is_damaged(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, ARRAYS, STATE)
    newest = save_checkpoint(tmp_path, 2, ARRAYS, STATE, forever=True)
    assert_same(restore_checkpoint(tmp_path, no_warning), 2)
    newest.write_bytes(newest.read_bytes()[:-9])
    warnings: list[str] = []
    assert_same(restore_checkpoint(tmp_path, warnings.append), 1)
    assert len(warnings) == 1


def test_checkpoint_of_a_step_is_read_or_refused_in_a_line(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, ARRAYS, STATE, forever=True)
    save_checkpoint(tmp_path, 2, {}, EMPTY)
    assert_same(read_checkpoint(tmp_path, 1), 1)
    with pytest.raises(SMVIError, match="step 3 "):
        read_checkpoint(tmp_path, 3)
    (tmp_path / "step-0000000002.npz").write_bytes(b"")
    with pytest.raises(SMVIError, match=r"step-0000000002\.npz") as caught:
        read_checkpoint(tmp_path, 2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        *((np.zeros(2, dtype), "w holds no numbers") for dtype in ("S3", "M8[s]", "c8")),
        (np.zeros(2), "w has dtype float64 and not float32"),
        (np.zeros(2, np.int64), "w has dtype int64"),
        (np.array([0.0, np.nan], np.float32), "w holds NaN"),
    ],
)
def test_arrays_of_no_weights_are_not_those_of_a_model(array: np.ndarray, problem: str) -> None:
    checkpoint = Checkpoint(1, {"w": array}, EMPTY)
    with pytest.raises(SMVIError, match=problem):
        require_run(checkpoint, cast(Any, None), {"w": (2,)}, Path("run"))
