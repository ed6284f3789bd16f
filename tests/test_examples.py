"""The examples run and show what they say."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_a_model_of_one_s_own_trades_the_elbo_for_the_divergence() -> None:
    """Catches a lam without an effect; at five standard errors, one seed in a million fails."""
    command = [
        sys.executable,
        str(EXAMPLES / "own_model.py"),
        "--steps",
        "800",
        "--images",
        "40",
        "--lam",
        "0",
        "--lam",
        "1",
    ]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    header, *lines = process.stdout.splitlines()
    assert header.split()[:3] == ["lam", "ELBO", "D_SM"]
    rows = [[float(word) for word in line.replace("+/-", "").split()] for line in lines]
    assert [row[0] for row in rows] == [0.0, 1.0]
    (_, _, _, free, free_error, gap, gap_error), (_, _, _, held, held_error, _, _) = rows
    assert free - held > 5.0 * (free_error**2 + held_error**2) ** 0.5
    assert gap > -5.0 * gap_error  # it is a divergence
