"""Versions that appear whole or not at all: names, numbers, links, failures, kills and company."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.errors import refused
from tests.support.kills import RANDOM, RandomKills
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.export.versions import check_model_name, check_version, publish

NUM_FILES = 10
# Publishes versions of the model m, one after the other: argv[1] is the output folder, argv[2] how
# many.
PUBLISHER = f"""
import sys
from pathlib import Path
from tfp_smvi.export.versions import publish

def write(folder, version):
    (folder / "variables").mkdir()
    for number in range({NUM_FILES}):
        (folder / "variables" / str(number)).write_text(str(version) * 1000)

print("ready", flush=True)
for _ in range(int(sys.argv[2])):
    publish(Path(sys.argv[1]), {{"m": write}})
"""


def write(folder: Path, version: int) -> None:
    (folder / "saved_model.pb").write_text(f"version {version}")


def fail(folder: Path, version: int) -> None:
    write(folder, version)
    raise SMVIError("it does not answer")


@contextlib.contextmanager
def publisher(output: Path, count: int) -> Iterator[subprocess.Popen[str]]:
    """Starts a process that publishes, waits until it begins and, at the end, until it ends."""
    line = [sys.executable, "-c", PUBLISHER, str(output), str(count)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["m", "0", "mnist-lam0.5-seed0", "A_b.C-", "a..b", "x" * 200])
def test_a_name_of_these_characters_is_allowed(name: str) -> None:
    assert check_model_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/abs",
        "a/b",
        "a\\b",
        "-x",
        "_x",
        ".x",
        "a b",
        "a\n",
        "ä",
        "a\0",
        "x" * 201,
    ],
)
def test_a_name_that_leads_elsewhere_or_cannot_be_a_folder_is_refused(
    name: str, tmp_path: Path
) -> None:
    with refused("model_name", name):
        check_model_name(name)
    with refused("model_name", name):
        publish(tmp_path / "models", {name: write})
    assert names(tmp_path) == set()


@pytest.mark.parametrize("text", ["1", "20261122", str(2**63 - 1)])
def test_a_positive_integer_is_a_version(text: str) -> None:
    assert check_version(text) == int(text)


@pytest.mark.parametrize(
    "text",
    ["", "0", "01", "-1", "+1", "1.0", " 1", "1\n", "1e3", "٣", "latest", "../1", str(2**63)],
)
def test_other_texts_are_no_versions(text: str) -> None:
    with refused("version", text):
        check_version(text)


@pytest.mark.parametrize("version", [0, -1, 2**63])
def test_other_numbers_are_no_versions(version: int, tmp_path: Path) -> None:
    with refused("version", str(version)):
        publish(tmp_path / "models", {"m": write}, version)
    assert names(tmp_path) == set()


def test_the_version_is_one_more_than_the_highest_as_tf_serving_reads_them(tmp_path: Path) -> None:
    assert publish(tmp_path, {"m": write}) == {"m": tmp_path / "m" / "1"}
    assert publish(tmp_path, {"m": write}, version=5) == {"m": tmp_path / "m" / "5"}
    assert publish(tmp_path, {"m": write}, version=3) == {"m": tmp_path / "m" / "3"}
    assert publish(tmp_path, {"m": write}) == {"m": tmp_path / "m" / "6"}
    (tmp_path / "m" / "007").mkdir()  # is 7 to TF Serving
    (tmp_path / "m" / "notes").mkdir()
    assert publish(tmp_path, {"m": write}) == {"m": tmp_path / "m" / "8"}
    assert (tmp_path / "m" / "8" / "saved_model.pb").read_text() == "version 8"


def test_two_models_get_the_same_version(tmp_path: Path) -> None:
    publish(tmp_path, {"a": write}, version=4)
    paths = publish(tmp_path, {"a": write, "b": write})
    assert paths == {"a": tmp_path / "a" / "5", "b": tmp_path / "b" / "5"}


def test_there_is_no_version_after_the_highest_that_can_be(tmp_path: Path) -> None:
    publish(tmp_path, {"m": write}, version=2**63 - 1)
    with pytest.raises(SMVIError, match="has the highest possible version"):
        publish(tmp_path, {"m": write})


@pytest.mark.parametrize(
    "kind", ["version", "empty folder", "file", "link to nothing", "other spelling"]
)
def test_a_version_that_exists_is_never_touched(kind: str, tmp_path: Path) -> None:
    there = tmp_path / "m" / ("002" if kind == "other spelling" else "2")
    there.parent.mkdir()
    if kind == "file":
        there.write_text("mine")
    elif kind == "link to nothing":
        there.symlink_to(tmp_path / "nothing")
    else:
        there.mkdir()
    if kind == "version":
        (there / "saved_model.pb").write_text("mine")
    before = there.lstat()
    with refused("version", 2):
        publish(tmp_path, {"m": write}, version=2)
    assert there.lstat() == before
    assert names(there.parent) == {there.name}


def test_a_folder_that_appears_while_another_is_written_is_not_replaced(tmp_path: Path) -> None:
    def write_beside_another(folder: Path, version: int) -> None:
        write(folder, version)
        (folder.parent / str(version)).mkdir()
        (folder.parent / str(version) / "saved_model.pb").write_text("mine")

    with pytest.raises(OSError, match="not empty"):
        publish(tmp_path, {"m": write_beside_another})
    assert (tmp_path / "m" / "1" / "saved_model.pb").read_text() == "mine"
    assert names(tmp_path / "m") == {"1"}


@pytest.mark.parametrize("target", ["outside", "output/other"])
def test_a_model_that_is_a_link_is_refused(target: str, tmp_path: Path) -> None:
    output = tmp_path / "output"
    (tmp_path / target).mkdir(parents=True)
    output.mkdir(exist_ok=True)
    (output / "m").symlink_to(tmp_path / target)
    with pytest.raises(SMVIError, match="is a link"):
        publish(output, {"m": write})
    assert names(tmp_path / target) == set()


def test_litter_is_not_cleared_through_links(tmp_path: Path) -> None:
    """Somebody's folders, into which links lead, are not this program's to delete from."""
    precious = tmp_path / "precious" / ".1.0123abcd.partial"
    precious.mkdir(parents=True)
    output = tmp_path / "output"
    (output / "m").mkdir(parents=True)
    (output / "linked").symlink_to(precious.parent)
    (output / "m" / ".2.0123abcd.partial").symlink_to(precious)
    (output / "m" / ".mine.partial").mkdir()
    publish(output, {"m": write})
    assert precious.exists()
    assert (output / "m" / ".mine.partial").exists()


def test_a_writer_that_fails_publishes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    publish(tmp_path, {"m": write})
    with pytest.raises(SMVIError, match="it does not answer"):
        publish(tmp_path, {"m": fail})
    assert names(tmp_path / "m") == {"1"}


def test_no_model_is_published_when_another_fails(tmp_path: Path) -> None:
    with pytest.raises(SMVIError, match="it does not answer"):
        publish(tmp_path, {"a": write, "b": fail})
    assert list(tmp_path.glob("*/*")) == []


def test_all_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, rename = set[int](), Path.rename
    fsync = os.fsync

    def note_fsync(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def check_rename(path: Path, target: Path) -> Path:
        inside = {p.stat().st_ino for p in (path, *path.rglob("*"))}
        assert len(inside) == 4
        assert inside <= synced
        synced.clear()
        return rename(path, target)

    def write_folders(folder: Path, version: int) -> None:
        write(folder, version)
        (folder / "variables").mkdir()
        (folder / "variables" / "data").write_text("1")

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", check_rename)
    publish(tmp_path, {"m": write_folders})
    assert synced == {(tmp_path / "m").stat().st_ino}  # the rename itself


def test_a_second_export_waits_for_the_first_and_says_so(tmp_path: Path) -> None:
    begun, heard = threading.Event(), threading.Event()
    partials = []

    def write_slowly(folder: Path, version: int) -> None:
        begun.set()
        assert heard.wait(timeout=60)
        write(folder, version)
        partials.append(folder)

    notes = []

    def note(line: str) -> None:
        notes.append(line)
        heard.set()

    thread = threading.Thread(target=publish, args=(tmp_path, {"m": write_slowly}))
    thread.start()
    assert begun.wait(timeout=60)
    assert publish(tmp_path, {"m": write}, note=note) == {"m": tmp_path / "m" / "2"}
    thread.join()
    assert notes == [f"Another export to {tmp_path} is running; waiting for it."]
    assert names(tmp_path / "m") == {"1", "2"}


def assert_whole(model: Path) -> None:
    """Asserts that every folder with a version's name holds all of that version."""
    for folder in model.glob("[0-9]*"):
        contents = [path.read_text() for path in (folder / "variables").iterdir()]
        assert contents == [folder.name * 1000] * NUM_FILES


def test_exports_at_once_get_different_versions(tmp_path: Path) -> None:
    with (
        publisher(tmp_path, 10) as one,
        publisher(tmp_path, 10) as two,
        publisher(tmp_path, 10) as three,
    ):
        pass
    assert [one.returncode, two.returncode, three.returncode] == [0, 0, 0]
    assert names(tmp_path / "m") == {str(number + 1) for number in range(30)}
    assert_whole(tmp_path / "m")


@pytest.mark.kills
def test_kills_at_random_moments_leave_whole_versions_and_litter_that_the_next_export_clears(
    tmp_path: Path, random_kills: RandomKills
) -> None:
    """The moments are random, within a few publications: most of 25 kills hit one.

    If a busy machine has none of them hit, there are more.
    """
    with publisher(tmp_path, 20):
        started = time.monotonic()
    each = (time.monotonic() - started) / 20
    partials = 0
    while random_kills.kills < max(25, random_kills.number) or (
        not partials and random_kills.kills < 250
    ):
        with publisher(tmp_path, 10**6) as process:
            time.sleep(RANDOM.uniform(0.0, 3 * each))
            process.send_signal(signal.SIGKILL)
        random_kills.kills += 1
        assert_whole(tmp_path / "m")
        partials += len(list(tmp_path.glob("m/.*.partial")))
    assert partials  # kills did hit publications
    publish(tmp_path, {"m": write})
    assert [name for name in names(tmp_path / "m") if not name.isdecimal()] == []
    assert names(tmp_path) == {".lock", "m"}
