"""The lock of a folder."""

from pathlib import Path

import filelock
import pytest

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.storage.locks import hold_folder

BUSY = SMVIError("the folder is in use", remedy="wait")


def test_a_folder_that_is_held_is_refused_and_free_again_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with hold_folder(folder, busy=BUSY, remedy="choose another"):
        with pytest.raises(SMVIError) as caught:  # noqa: SIM117  # the outer one is what it is about
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
