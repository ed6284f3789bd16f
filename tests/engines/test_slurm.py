"""The documented batch script on a real Slurm: `make test-slurm`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.small_sweep import read

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "sweep.sbatch"
SWEEP = (
    *("--dataset", "digits", "--lams", "0,0.5", "--latent-dim", "2", "--hidden-sizes", "16"),
    *("--epochs", "2", "--no-classify", "--num-examples", "20", "--num-chains", "3"),
    *("--num-temperatures", "4", "--num-simulated", "10", "--num-calibration", "0"),
)


def answers() -> bool:
    """Whether a Slurm takes jobs here."""
    if shutil.which("sbatch") is None:
        return False
    command = ["sinfo", "--noheader", "--format", "%T"]
    state = subprocess.run(command, capture_output=True, text=True, check=False)
    return state.stdout.strip() in ("idle", "mixed")


def test_the_documentation_shows_the_script() -> None:
    indented = "".join(f"    {line}\n" for line in SCRIPT.read_text().splitlines())
    assert indented in (ROOT / "docs" / "cluster.md").read_text()


@pytest.mark.slurm
@pytest.mark.skipif(not answers(), reason="no Slurm takes jobs here; .ci/slurm makes one")
def test_a_sweep_runs_by_the_documented_script(tmp_path: Path) -> None:
    """Two lams on two workers in one allocation, by sbatch and srun, twice: the second resumes."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, words in (("dask", "-m dask"), ("tfp-smvi", "-m tfp_smvi_cli")):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (commands / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{commands}:{os.environ['PATH']}", "NETWORK": "lo"}
    log = tmp_path / "log"
    size = ("--ntasks=2", "--cpus-per-task=1", "--time=10", f"--output={log}", "--wait")
    for lines in (["lam0-seed0: train", "lam0.5-seed0: train"], []):
        command = ["sbatch", *size, str(SCRIPT), *SWEEP]
        job = subprocess.run(
            command, cwd=tmp_path, env=environment, timeout=280, capture_output=True, check=False
        )
        text = log.read_text()
        assert job.returncode == 0, text
        assert all(line in text.splitlines() for line in lines), text
        assert ("train" in text) == bool(lines)
        if lines:  # both at once, before either is done
            assert text.index(lines[1]) < text.index("; 1 of 2 runs done")
    summary = read(tmp_path / "runs" / "grid")
    assert {run["run_dir"]: run["status"] for run in summary["runs"]} == {
        "lam0-seed0": "done",
        "lam0.5-seed0": "done",
    }
    assert all(run["evaluation"]["hosts"] == [os.uname().nodename] for run in summary["runs"])
