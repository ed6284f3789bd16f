"""Paths that users write: with "~", relative, or impossible."""

import os
import pwd
from pathlib import Path

import pytest

from tests.support.errors import refused
from tfp_smvi.config import DataConfig
from tfp_smvi.core.paths import absolute, expand_home
from tfp_smvi.data import default_data_dir, load_dataset
from tfp_smvi.features.images import open_images


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id that no list of users has, as in a container."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "TFDS_DATA_DIR", "TFP_SMVI_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("homeless")
def test_without_a_home_directory_only_what_needs_it_is_refused() -> None:
    with refused("data_dir"):
        default_data_dir()
    with refused("data_dir"):
        load_dataset("mnist")
    with refused("dataset", "~/x.npz"):
        DataConfig("~/x.npz")
    assert load_dataset("digits").num_classes == 10


@pytest.mark.parametrize("path", ["~no_such_user/x.npz", "a\0b.npz", "\ud800.npz"])
def test_a_path_that_cannot_be_is_refused_wherever_it_is_given(path: str) -> None:
    with refused("dataset", path):
        DataConfig(path)
    with refused("dataset", path):
        load_dataset(path)
    with refused("images", path):
        open_images(path)
    with refused("data_dir", path):
        load_dataset("mnist", path)


def test_paths_are_absolute_and_need_not_be_utf_8_or_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert absolute("a/../b", "x") == absolute("~/b", "x") == tmp_path / "b"
    name = os.fsdecode(b"caf\xe9")
    assert expand_home(name, "x") == Path(name)
    (tmp_path / "ring").symlink_to("ring")
    assert absolute("ring", "x") == tmp_path / "ring"


def test_a_working_directory_that_was_deleted_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with refused("dataset", "x.npz"):
        absolute("x.npz", "dataset")
