"""What the tests share: a quiet TensorFlow, the digits, and one run of the command line that nothing interrupts."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import runs

from tfp_smvi.data import Dataset, load_dataset

# Before any test imports TensorFlow, whose start-up chatter would hide what a failing test has to say.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


class ReferenceRun(NamedTuple):
    """A run of `tfp-smvi train` and what it printed."""

    process: subprocess.CompletedProcess[str]
    run_dir: Path


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceRun:
    """The run of runs.OPTIONS, never interrupted, with its result as JSON. It is shared: copy it to change it."""
    run_dir = tmp_path_factory.mktemp("reference") / "run"
    process = runs.command("train", *runs.OPTIONS, "--run-dir", str(run_dir), "--json")
    assert process.returncode == 0, process.stderr
    return ReferenceRun(process, run_dir)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one checkpoint or one export of the reference run, and not for two."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=240k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a tmpfs; the tests with RLIMIT_FSIZE take its place.")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
