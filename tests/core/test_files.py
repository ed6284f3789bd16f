"""Files that are opened where they are."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from tfp_smvi.core.files import append_to, create_new, read_regular


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_bytes(b"precious")
    return path


@pytest.mark.parametrize("plant", [Path.symlink_to, Path.hardlink_to])
def test_a_new_file_takes_the_place_of_a_link(
    tmp_path: Path, precious: Path, plant: Callable[[Path, Path], None]
) -> None:
    plant(tmp_path / "log", precious)
    with create_new(tmp_path / "log") as file:
        file.write(b"new")
    assert (tmp_path / "log").read_bytes() == b"new"
    assert precious.read_bytes() == b"precious"


def test_a_line_is_not_appended_to_what_a_link_leads_to(tmp_path: Path, precious: Path) -> None:
    (tmp_path / "log").symlink_to(precious)
    with pytest.raises(OSError, match="symbolic link"):
        append_to(tmp_path / "log")
    assert precious.read_bytes() == b"precious"


@pytest.mark.parametrize("open_file", [append_to, create_new])
def test_a_pipe_is_not_waited_for(tmp_path: Path, open_file: Callable[[Path], BinaryIO]) -> None:
    os.mkfifo(tmp_path / "pipe")
    if open_file is create_new:
        create_new(tmp_path / "pipe").close()
        assert (tmp_path / "pipe").is_file()
    else:
        with pytest.raises(OSError, match="pipe"):
            append_to(tmp_path / "pipe")
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        with pytest.raises(OSError, match="not a regular file"):
            append_to(tmp_path / "pipe")
        os.close(reader)


@pytest.mark.timeout(20)
def test_only_regular_files_are_read_and_only_as_far_as_allowed(tmp_path: Path) -> None:
    """A pipe without a writer waits for ever, and a device never ends."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(OSError, match=f"{name} is not a regular file"):
            read_regular(tmp_path / name, 100)
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path, 100)
    (tmp_path / "file").write_bytes(bytes(100))
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 100) == bytes(100)
    with pytest.raises(OSError, match="more than"):
        read_regular(tmp_path / "file", 99)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="1,099,512 MB"):
        read_regular(tmp_path / "sparse", 100)


@pytest.mark.timeout(20)
def test_a_file_that_hides_its_length_is_read_no_further() -> None:
    """Files of /proc are regular and have length 0."""
    with pytest.raises(OSError, match="more than"):
        read_regular(Path("/proc/self/status"), 100)
