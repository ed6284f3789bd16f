"""What is made once for all workers of a test session, and copied for each."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import filelock
import pytest

__all__ = ["make_once"]

Value = TypeVar("Value")


def make_once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Value]
) -> tuple[Path, Value]:
    """Makes a folder and a value in the worker that needs them first; all workers get a copy.

    Args:
        factory: pytest's fixture.
        name: the folder's name.
        make: makes the folder at a path and returns the value, which must go through pickle.

    Returns:
        The worker's own copy of the folder, and the value.
    """
    own = factory.getbasetemp()
    place = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder, value_path = place / name / "folder", place / name / "value.pickle"
    with filelock.FileLock(place / f"{name}.lock", timeout=280):
        if not value_path.exists():
            shutil.rmtree(place / name, ignore_errors=True)
            (place / name).mkdir()
            value_path.write_bytes(pickle.dumps(make(folder)))
    value: Value = pickle.loads(value_path.read_bytes())
    return Path(shutil.copytree(folder, factory.mktemp(name) / "folder")), value
