"""A terminal that closes while a command works."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tfp_smvi_cli.progress.training import make_reporter

from tests.support import runs
from tests.support.fake_servers import install_server
from tests.support.ports import free_port
from tests.support.servers import NAME


def test_output_to_a_terminal_that_has_closed_is_lost_and_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches a training that ends by its bar, without saving, before SIGHUP comes."""
    terminal, slave = pty.openpty()
    with os.fdopen(slave, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with make_reporter() as reporter:
            reporter.begin(num_epochs=3, step=0, steps_per_epoch=10)
            os.close(terminal)
            reporter.note("Nobody reads this.")
        stderr.write("Nor this.")


def test_a_command_whose_terminal_closes_ends_as_by_a_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing left behind: the server is stopped, and no output fails."""
    (tmp_path / "bin").mkdir()
    install_server(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    folder = tmp_path / "models" / NAME / "1"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    options = ("--models", str(folder.parents[1]), "--host", "0.0.0.0")
    ports = ("--grpc-port", str(free_port()), "--rest-port", str(free_port()))
    terminal, slave = pty.openpty()
    line = ["setsid", "--ctty", runs.script(), "serve", *options, *ports]
    with subprocess.Popen(line, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        shown = b""
        while b"Stop it with Ctrl-C." not in shown:
            shown += os.read(terminal, 4096)
        server = folder.parents[1] / "_server" / "server.json"
        assert server.exists()
        os.close(terminal)
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    assert process.returncode == 128 + signal.SIGHUP
    assert not server.exists()
