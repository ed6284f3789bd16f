"""Standard streams that the caller has closed, and text that they cannot print."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("tfp-smvi")


@pytest.mark.parametrize("closed", ["0<&- 1>&- 2>&-", "2>&-", "1>&-"])
def test_a_command_fails_if_and_only_if_its_results_are_lost(closed: str) -> None:
    """As it does on a full disk. A closed stderr, or stdin, costs nothing that was asked for."""
    done = subprocess.run(
        ["bash", "-c", f'"{COMMAND}" datasets --data-dir . {closed}'],
        capture_output=True,
        check=False,
        timeout=60,
    )
    lost = "1>" in closed
    assert done.returncode == lost
    assert done.stderr == (
        b"Error: the output: Bad file descriptor.\n" if closed == "1>&-" else b""
    )
    assert done.stdout.startswith(b"NAME") == (not lost)


@pytest.mark.slow
def test_tensorflow_loads_and_is_used_without_stderr(tmp_path: Path) -> None:
    """Also under the name of a folder that is not UTF-8, which is printed with escapes."""
    options = "--dataset digits --epochs 1 --hidden-sizes 4 --latent-dim 2 --batch-size 700"
    run_dir = tmp_path / os.fsdecode(b"caf\xe9")
    done = subprocess.run(
        ["bash", "-c", f'"{COMMAND}" train {options} --run-dir "$0" 2>&-', os.fsencode(run_dir)],
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0
    assert rb"caf\udce9" in done.stdout
    assert (run_dir / "config.json").exists()
