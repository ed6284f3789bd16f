"""Checkpoints that survive anything: written aside, synced, renamed, and found by their names.

A checkpoint is one .npz file, `step-<step>.npz`, or `step-<step>-kept.npz` for one that is kept
permanently. It exists as a whole or not at all. Nothing points to the newest one: it is the
readable file with the highest step. It holds the configuration that its arrays were trained with,
and what does not fit that configuration is never loaded.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.runs.records import RunRecord, TrainingState
from tfp_smvi.storage.arrays import DamagedFileError, read_arrays, write_arrays
from tfp_smvi.storage.atomic import sweep_partials
from tfp_smvi.storage.json_files import parse_json

__all__ = [
    "Checkpoint",
    "list_checkpoints",
    "list_steps",
    "read_checkpoint",
    "require_run",
    "restore_checkpoint",
    "save_checkpoint",
]

_PREFIX, _KEPT, _SUFFIX, _INFO = "step-", "-kept", ".npz", "info"


class Checkpoint(NamedTuple):
    """What a checkpoint file holds.

    Attributes:
        step: the number of training steps taken.
        arrays: every array by its name, with its own shape and dtype.
        state: everything else that a restart needs.
    """

    step: int
    arrays: dict[str, np.ndarray]
    state: TrainingState


def save_checkpoint(
    directory: Path,
    step: int,
    arrays: Mapping[str, np.ndarray],
    state: TrainingState,
    keep: int = 2,
    *,
    forever: bool = False,
) -> Path:
    """Writes a checkpoint, then deletes all but the newest `keep` and any partial files.

    Those that were written with `forever` are never deleted.

    Args:
        directory: the folder of one run's checkpoints, which exists.
        step: the number of training steps taken.
        arrays: the arrays by name.
        state: everything else that a restart needs.
        keep: how many checkpoints to leave, at least 1.
        forever: keeps this one permanently.

    Returns:
        The path of the new file.

    Raises:
        OSError: it cannot be written; the earlier checkpoints are intact.
    """
    path = directory / f"{_PREFIX}{step:010d}{_KEPT if forever else ''}{_SUFFIX}"
    # The names are there too, because damage in the archive's directory can hide a member.
    header = json.dumps({"names": list(arrays), "step": step, "info": state.to_json()})
    write_arrays(path, {_INFO: np.frombuffer(header.encode(), np.uint8), **arrays})
    for old in list_checkpoints(directory)[keep:]:
        if not old.stem.endswith(_KEPT):
            old.unlink(missing_ok=True)
    sweep_partials(directory, f"{_PREFIX}*")
    return path


def list_checkpoints(directory: Path) -> list[Path]:
    """Returns the checkpoint files in a folder, the newest first, readable or not."""
    paths = [path for path in directory.glob(f"{_PREFIX}*{_SUFFIX}") if _step(path) is not None]
    return sorted(paths, key=lambda path: _step(path) or 0, reverse=True)


def list_steps(directory: Path) -> list[int]:
    """Returns the steps of the checkpoint files in a folder, the highest first."""
    return [step for path in list_checkpoints(directory) if (step := _step(path)) is not None]


def read_checkpoint(directory: Path, step: int) -> Checkpoint:
    """Reads the checkpoint of a step.

    Raises:
        SMVIError: there is none, or it cannot be read.
    """
    reason = "it does not exist"
    for path in list_checkpoints(directory):
        if _step(path) == step:
            try:
                return _read(path)
            except (OSError, DamagedFileError) as error:
                reason = f"{path.name} is damaged: {error}"
    raise SMVIError(f"the checkpoint of step {step} in {directory} cannot be read ({reason})")


def restore_checkpoint(directory: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """Reads the newest checkpoint that is whole.

    Args:
        directory: the folder of one run's checkpoints.
        warn: is called with one line for each newer file that cannot be read.

    Returns:
        The checkpoint, or None if there is no file at all.

    Raises:
        SMVIError: there are files and none can be read; starting over would be a silent loss.
    """
    paths = list_checkpoints(directory)
    for path in paths:
        try:
            return _read(path)
        except (OSError, DamagedFileError) as error:
            warn(f"{path} is damaged ({error}); trying the checkpoint before it.")
    if paths:
        raise SMVIError(
            f"none of the {len(paths)} checkpoints in {directory} can be read",
            remedy="restore that folder from a backup, or start over (tfp-smvi train --fresh)",
        )
    return None


def require_run(
    checkpoint: Checkpoint,
    record: RunRecord,
    shapes: Mapping[str, tuple[int, ...]],
    run_dir: Path,
) -> None:
    """Raises SMVIError unless a checkpoint is of a run and holds the arrays of its model.

    Args:
        checkpoint: the checkpoint.
        record: the run, as its config.json describes it.
        shapes: the shape of each array that the checkpoint must hold, and no other, by name.
        run_dir: the run directory, for the error.
    """
    places = ("in config.json", "in the checkpoint")
    saved = checkpoint.state.run
    problems = [] if saved is None else saved.differences(record, places[::-1])
    problems = problems or _other_arrays(checkpoint.arrays, shapes)
    if problems:
        raise SMVIError(
            f"the checkpoint at step {checkpoint.step} of {run_dir} does not fit its config.json "
            f"({'; '.join(problems[:3])}{'; ...' if problems[3:] else ''})",
            remedy="restore config.json or the checkpoint of that run, or start over "
            "(tfp-smvi train --fresh)",
        )


def _other_arrays(
    arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """One line for each array that is missing, too many, of another shape or no weights."""
    return [
        *(f"{name} is missing" for name in shapes if name not in arrays),
        *(f"{name} has no place in the model" for name in arrays if name not in shapes),
        *(
            f"{name} has the shape {list(arrays[name].shape)} and not {list(shape)}"
            for name, shape in shapes.items()
            if name in arrays and arrays[name].shape != tuple(shape)
        ),
        *(problem for name, array in arrays.items() if (problem := _no_weights(name, array))),
    ]


def _no_weights(name: str, array: np.ndarray) -> str | None:
    """Says why an array cannot be of a training: all but the optimizer's counts are float32."""
    if array.dtype.kind not in "fiu":
        return f"{name} holds no numbers"
    if array.dtype != np.float32 and not (name.startswith("optimizer/") and array.ndim == 0):
        return f"{name} has dtype {array.dtype} and not float32"
    return None if np.isfinite(array).all() else f"{name} holds NaN or infinity"


def _step(path: Path) -> int | None:
    digits = path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX).removesuffix(_KEPT)
    return int(digits) if digits.isdecimal() else None


def _read(path: Path) -> Checkpoint:
    """Reads one file.

    Raises:
        OSError, DamagedFileError: it cannot be read, or it is not a whole checkpoint.
    """
    step = _step(path)
    assert step is not None
    arrays = read_arrays(path)
    try:
        header = parse_json(arrays.pop(_INFO).tobytes())
        state = TrainingState.from_json(header["info"])
        names, saved_step = header["names"], header.get("step", step)
    except (KeyError, TypeError, ValueError, SMVIError) as error:
        raise DamagedFileError(f"its header is not readable: {error}") from error
    if saved_step != step:
        raise DamagedFileError(f"it was saved at step {saved_step}, and renamed")
    if list(arrays) != names:
        raise DamagedFileError("arrays are missing")
    return Checkpoint(step, arrays, state)
