"""Files that appear whole or not at all, and the litter of killed processes."""

import errno
import fcntl
import json
import os
import secrets
import socket
import stat
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.support.runs import dead_process
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.storage.atomic import append_line, sweep_partials, write_atomically, write_json


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"before"
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_is_synced_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a rename that survives a power cut whose contents do not."""
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(
        Path, "replace", lambda path, to: (calls.append("replace"), replace(path, to))[1]
    )
    write_json(tmp_path / "file.json", {"a": 1})
    assert calls == ["fsync", "replace", "fsync"]
    calls.clear()
    append_line(tmp_path / "lines", "one")
    append_line(tmp_path / "lines", "two")
    assert calls == ["fsync", "fsync"]
    assert (tmp_path / "lines").read_text() == "one\ntwo\n"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_file_system_that_does_not_sync_folders_is_no_error(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is there; only a failing disk is an error."""
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    write_json(tmp_path / "file.json", {"a": 1})
    assert json.loads((tmp_path / "file.json").read_text()) == {"a": 1}
    number = errno.EIO
    with pytest.raises(OSError, match=os.strerror(number)):
        write_json(tmp_path / "other.json", {"a": 1})


def test_a_record_is_written_as_its_json(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", Estimate(1.5))
    assert json.loads((tmp_path / "file.json").read_text()) == {
        "mean": 1.5,
        "standard_error": None,
    }


def test_litter_of_killed_processes_of_this_host_goes(tmp_path: Path) -> None:
    """What is being written, is of another host, of another file, or of no writer at all stays.

    Version 0.1 wrote the number of the process into the name, and held no lock.
    """
    host, dead, alive = socket.gethostname(), dead_process(), os.getppid()
    litter = [
        f".a.npz.{dead}.partial",
        f".a.npz.{os.getpid()}.partial",
        f".a.npz.{host}.0123456789abcdef.partial",
    ]
    others = [
        f".a.npz.{alive}.partial",
        f".a.npz.another-{host}.0123456789abcdef.partial",
        f".b.npz.{dead}.partial",
        ".a.npz.partial",
        "a.npz.1.partial",
    ]
    for name in (*litter, *others):
        (tmp_path / name).touch()
    sweep_partials(tmp_path, "a.npz.*")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
    sweep_partials(tmp_path / "nowhere")


def test_what_another_host_has_left_is_deleted_after_a_day(tmp_path: Path) -> None:
    """A lock may be one of its host alone; of a file that is written to, the time is recent."""
    ages = {"0": 2 * 3600.0, "1": 25 * 3600.0}
    for digit, age in ages.items():
        path = tmp_path / f".file.another-{socket.gethostname()}.{digit * 16}.partial"
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    sweep_partials(tmp_path)
    (left,) = tmp_path.iterdir()
    assert "0" * 16 in left.name


def test_two_containers_of_one_name_and_process_number_write_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches names made of host and process alone, and litter that is recognized by them.

    A dead number stands for a process that the other container cannot see.
    """
    monkeypatch.setattr(os, "getpid", dead_process)
    other = b"the other container's"

    def write(file: BinaryIO) -> None:
        sweep_partials(tmp_path)
        write_atomically(tmp_path / "file", lambda inner: inner.write(other))
        assert (tmp_path / "file").read_bytes() == other
        sweep_partials(tmp_path)
        file.write(b"whole")

    write_atomically(tmp_path / "file", write)
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


def test_a_file_that_is_deleted_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment in which it looks like litter."""
    lock, calls = fcntl.flock, []

    def delete_first(file: BinaryIO, operation: int) -> None:
        calls.append(operation)
        if len(calls) == 1:
            sweep_partials(tmp_path)
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", delete_first)
    write_atomically(tmp_path / "file", lambda file: file.write(b"whole"))
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert len(calls) == 3  # the writer's, the sweep's, and the writer's of the second file


def test_no_link_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the place of the file nor in that of the one beside it, were its name foreseen."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (tmp_path / "file").symlink_to(precious)
    write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert not (tmp_path / "file").is_symlink()
    monkeypatch.setattr(secrets, "token_hex", lambda count: "0123456789abcdef")
    planted = tmp_path / f".file.{socket.gethostname()}.0123456789abcdef.partial"
    planted.symlink_to(precious)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "file", lambda file: file.write(b"newer"))
    sweep_partials(tmp_path)
    assert planted.is_symlink()
    assert (precious.read_bytes(), (tmp_path / "file").read_bytes()) == (b"precious", b"new")


def test_a_file_system_without_locks_keeps_what_may_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    write_atomically(tmp_path / "file", lambda file: (file.write(b"a"), sweep_partials(tmp_path)))
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]
