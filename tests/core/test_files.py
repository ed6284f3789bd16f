"""Files that are opened where they are."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from tfp_smvi.core.files import append_to, create_anew


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
    with create_anew(tmp_path / "log") as file:
        file.write(b"new")
    assert (tmp_path / "log").read_bytes() == b"new"
    assert precious.read_bytes() == b"precious"


def test_a_line_is_not_appended_to_what_a_link_leads_to(tmp_path: Path, precious: Path) -> None:
    (tmp_path / "log").symlink_to(precious)
    with pytest.raises(OSError, match="symbolic link"):
        append_to(tmp_path / "log")
    assert precious.read_bytes() == b"precious"


@pytest.mark.parametrize("open_file", [append_to, create_anew])
def test_a_pipe_is_not_waited_for(tmp_path: Path, open_file: Callable[[Path], BinaryIO]) -> None:
    os.mkfifo(tmp_path / "pipe")
    if open_file is create_anew:
        create_anew(tmp_path / "pipe").close()
        assert (tmp_path / "pipe").is_file()
    else:
        with pytest.raises(OSError, match="pipe"):
            append_to(tmp_path / "pipe")
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        with pytest.raises(OSError, match="not a regular file"):
            append_to(tmp_path / "pipe")
        os.close(reader)
