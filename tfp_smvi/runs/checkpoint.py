"""Checkpoints that survive anything: written aside, synced, renamed, and found by looking at the files.

A checkpoint is one .npz file, `step-<step>.npz`, or `step-<step>-kept.npz` for one that is to stay,
so that it exists as a whole or not at all. Nothing points to the newest one: it is the readable
file with the highest step.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.storage.atomic import sweep_partials, write_atomically

__all__ = [
    "Checkpoint",
    "list_checkpoints",
    "list_steps",
    "read_checkpoint",
    "restore_checkpoint",
    "save_checkpoint",
]

_PREFIX, _KEPT, _SUFFIX, _INFO = "step-", "-kept", ".npz", "info"


class Checkpoint(NamedTuple):
    """What a checkpoint file holds.

    Attributes:
        step: the number of training steps taken.
        arrays: every array by its name, with its own shape and dtype.
        info: JSON values: all else that a restart needs.
    """

    step: int
    arrays: dict[str, np.ndarray]
    info: dict[str, Any]


def save_checkpoint(
    directory: Path,
    step: int,
    arrays: Mapping[str, np.ndarray],
    info: Mapping[str, Any],
    keep: int = 2,
    *,
    forever: bool = False,
) -> Path:
    """Writes a checkpoint and then deletes all but the newest `keep`, and what a kill left half-written.

    Those that were written with `forever` are never deleted.

    Args:
        directory: the folder of one run's checkpoints, which exists.
        step: the number of training steps taken.
        arrays: the arrays by name.
        info: JSON values.
        keep: how many checkpoints to leave, at least 1.
        forever: lets this one stay whatever is written later.

    Returns:
        The path of the new file.

    Raises:
        OSError: it cannot be written; the checkpoints that were there still are.
    """
    path = directory / f"{_PREFIX}{step:010d}{_KEPT if forever else ''}{_SUFFIX}"
    # The names are there too, because damage in the archive's directory can hide a member.
    text = np.frombuffer(json.dumps({"names": list(arrays), "info": info}).encode(), np.uint8)
    write_atomically(
        path, lambda file: np.savez(file, allow_pickle=False, **{_INFO: text}, **arrays)
    )
    for old in list_checkpoints(directory)[keep:]:
        if not old.stem.endswith(_KEPT):
            old.unlink(missing_ok=True)
    sweep_partials(directory, f"{_PREFIX}*")
    return path


def list_checkpoints(directory: Path) -> list[Path]:
    """Returns the checkpoint files in a folder, the newest first, readable or not."""
    found = [path for path in directory.glob(f"{_PREFIX}*{_SUFFIX}") if _step(path) is not None]
    return sorted(found, key=lambda path: _step(path) or 0, reverse=True)


def list_steps(directory: Path) -> list[int]:
    """Returns the steps of the checkpoint files in a folder, the highest first."""
    return [step for path in list_checkpoints(directory) if (step := _step(path)) is not None]


def read_checkpoint(directory: Path, step: int) -> Checkpoint:
    """Reads the checkpoint of a step.

    Raises:
        SMVIError: there is none, or it cannot be read.
    """
    reason = "there is none"
    for path in list_checkpoints(directory):
        if _step(path) == step:
            try:
                return _read(path)
            except Exception as error:  # as in restore_checkpoint
                reason = f"{path.name} is damaged: {plain_reason(error)}"
    raise SMVIError(f"the checkpoint of step {step} in {directory} cannot be read ({reason}).")


def restore_checkpoint(directory: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """Reads the newest checkpoint that is whole.

    Args:
        directory: the folder of one run's checkpoints.
        warn: is called with one line for each newer file that cannot be read.

    Returns:
        The checkpoint, or None where there is no file at all.

    Raises:
        SMVIError: there are files and none can be read; starting over would be a silent loss.
    """
    paths = list_checkpoints(directory)
    for path in paths:
        try:
            return _read(path)
        except Exception as error:  # garbled bytes make zipfile and NumPy raise nearly anything
            warn(f"{path} is damaged ({plain_reason(error)}); trying the checkpoint before it.")
    if paths:
        raise SMVIError(
            f"none of the {len(paths)} checkpoints in {directory} can be read; "
            "restore that folder from a backup, or start over with --fresh."
        )
    return None


def _step(path: Path) -> int | None:
    digits = path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX).removesuffix(_KEPT)
    return int(digits) if digits.isdecimal() else None


def _read(path: Path) -> Checkpoint:
    """Reads one file; every member carries a CRC-32, which is checked."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as members:
        arrays = {name: members[name] for name in members.files}
    header = json.loads(arrays.pop(_INFO).tobytes())
    if list(arrays) != header["names"]:
        raise ValueError("arrays are missing")
    step = _step(path)
    assert step is not None
    return Checkpoint(step, arrays, header["info"])
