"""Figures are files: they need no backend of Matplotlib."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("backend", "kept"), [("module://not_installed.backend", ""), ("svg", "svg")]
)
def test_a_backend_of_another_environment_is_no_matter(backend: str, kept: str) -> None:
    """A notebook sets MPLBACKEND for what it starts; a backend that exists stays chosen."""
    code = "import os, tfp_smvi.report, matplotlib; "
    code += "print(os.environ['MPLBACKEND'], matplotlib.rcParams._get_backend_or_none())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MPLBACKEND": backend},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == backend
    assert kept in done.stdout.split()[1]
