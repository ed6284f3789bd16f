"""Files that appear whole or not at all, and the litter of killed processes."""

import json
import os
import socket
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


def test_a_record_is_written_as_its_json(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", Estimate(1.5))
    assert json.loads((tmp_path / "file.json").read_text()) == {
        "mean": 1.5,
        "standard_error": None,
    }


def test_litter_of_dead_processes_of_this_host_goes(tmp_path: Path) -> None:
    """What runs, is of another host, of another file, or of no writer at all stays."""
    host, dead, alive = socket.gethostname(), dead_process(), os.getppid()
    litter = [f".a.npz.{dead}.partial", f".a.npz.{host}.{dead}.0123abcd.partial"]
    others = [
        f".a.npz.{alive}.partial",
        f".a.npz.{host}.{alive}.0123abcd.partial",
        f".a.npz.another-{host}.{dead}.0123abcd.partial",
        f".b.npz.{dead}.partial",
        ".a.npz.partial",
        "a.npz.1.partial",
    ]
    for name in (*litter, *others):
        (tmp_path / name).touch()
    sweep_partials(tmp_path, "a.npz.*")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
    sweep_partials(tmp_path / "nowhere")


def test_what_this_process_writes_now_is_no_litter(tmp_path: Path) -> None:
    """Catches two threads of which one deletes what the other is writing."""

    def write(file: BinaryIO) -> None:
        sweep_partials(tmp_path)
        file.write(b"whole")

    stale = tmp_path / f".stale.{os.getpid()}.partial"
    stale.touch()
    write_atomically(tmp_path / "file", write)
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert not stale.exists()
