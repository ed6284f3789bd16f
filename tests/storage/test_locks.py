"""The lock of a folder."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import filelock
import pytest

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.storage import locks
from tfp_smvi.storage.locks import hold_folder

BUSY = SMVIError("the folder is in use", remedy="wait")


def test_a_folder_that_is_held_is_refused_and_free_again_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with hold_folder(folder, busy=BUSY, remedy="choose another"):
        with pytest.raises(SMVIError) as caught:  # noqa: SIM117
            with hold_folder(folder, busy=BUSY, remedy="choose another"):
                pass
        assert caught.value is BUSY
    with hold_folder(folder, busy=BUSY, remedy="choose another"):
        pass


def test_other_locks_of_a_folder_are_other_locks(tmp_path: Path) -> None:
    with (
        hold_folder(tmp_path, busy=BUSY, remedy="", name=".one"),
        hold_folder(tmp_path, busy=BUSY, remedy="", name=".two"),
    ):
        assert filelock.FileLock(tmp_path / ".lock").acquire(timeout=0)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(SMVIError) as caught,
        hold_folder(tmp_path / "file" / "folder", remedy="choose another {run_dir}"),
    ):
        pass
    assert caught.value.remedy == "choose another {run_dir}"
    assert "\n" not in str(caught.value)


def test_a_link_in_place_of_the_lock_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".lock").symlink_to("precious")
    with pytest.raises(SMVIError), hold_folder(tmp_path, remedy="choose another"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


# The lease, which excludes other hosts.


@pytest.fixture
def no_system_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks, such as NFS may be."""

    def refuse(*arguments: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_folder_is_held_without_locks_of_the_system(
    tmp_path: Path, no_system_locks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease is touched, so that nobody takes it over after its time."""
    monkeypatch.setattr(locks, "LEASE_SECONDS", 0.6)
    with hold_folder(tmp_path, busy=BUSY, remedy="choose another"):
        with pytest.raises(SMVIError) as caught:  # noqa: SIM117
            with hold_folder(tmp_path, busy=BUSY, remedy="choose another", timeout=1.5):
                pass
        assert caught.value is BUSY
    with hold_folder(tmp_path, busy=BUSY, remedy="choose another"):
        pass
    assert not [*tmp_path.glob("*.lease")]


HOLDER = """
import socket, sys, time
from pathlib import Path
socket.gethostname = lambda: sys.argv[2]
from tfp_smvi.storage import locks
locks.LEASE_SECONDS = 1.0
with locks.hold_folder(Path(sys.argv[1]), remedy=""):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("host", ["here", "another-host"])
def test_a_killed_holder_is_followed_at_once_here_and_after_its_lease_elsewhere(
    host: str, tmp_path: Path, no_system_locks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder that has stopped stands for one on another host that is cut off."""
    monkeypatch.setattr(locks, "LEASE_SECONDS", 1.0)
    name = os.uname().nodename if host == "here" else host
    command = [sys.executable, "-c", HOLDER, str(tmp_path), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(SMVIError):  # noqa: SIM117
            with hold_folder(tmp_path, busy=BUSY, remedy="choose another"):
                pass
        process.send_signal(signal.SIGKILL if host == "here" else signal.SIGSTOP)
        if host == "here":
            process.wait()
        began = time.monotonic()
        with hold_folder(tmp_path, busy=BUSY, remedy="choose another", timeout=20.0):
            waited = time.monotonic() - began
        process.kill()
    assert waited < 0.9 if host == "here" else waited > 0.9


def test_a_lease_that_a_kill_has_left_empty_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names no owner, whose death would free it: the next one would wait for ever."""
    monkeypatch.setattr(locks, "EMPTY_SECONDS", 0.1)
    (tmp_path / ".lock.lease").touch()
    with hold_folder(tmp_path, busy=BUSY, remedy=""):
        assert (tmp_path / ".lock.lease").stat().st_size > 0
    assert not (tmp_path / ".lock.lease").exists()
