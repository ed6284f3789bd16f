"""Arrays on disk: every kind of damage is found, and said in one line."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tfp_smvi.storage import array_files
from tfp_smvi.storage.arrays import DamagedFileError, read_arrays, write_arrays


@pytest.mark.parametrize("compress", [False, True])
def test_arrays_come_back_bit_for_bit(compress: bool, tmp_path: Path) -> None:
    arrays = {"a": np.array([np.nan, 1.0], np.float32), "b/c": np.arange(3), "d": np.array(7)}
    write_arrays(tmp_path / "file.npz", arrays, compress=compress)
    found = read_arrays(tmp_path / "file.npz")
    assert {*found} == {*arrays}
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()


def test_a_missing_file_is_not_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "file.npz")


def test_a_member_that_is_no_array_is_damage(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "file.npz", "w") as archive:
        archive.writestr("a.npy", b"garbage")
    with pytest.raises(DamagedFileError, match="it is no array"):
        read_arrays(tmp_path / "file.npz")


def test_an_array_that_would_fill_the_memory_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run directory may come from a stranger, and with it 1 MB of zeros that were 1 GB."""
    write_arrays(tmp_path / "file.npz", {"a": np.zeros(1 << 20, np.uint8)}, compress=True)
    assert not read_arrays(tmp_path / "file.npz")["a"].any()
    monkeypatch.setattr(array_files, "_LARGE", 1 << 16)
    with pytest.raises(DamagedFileError, match="unpack to"):
        read_arrays(tmp_path / "file.npz")


@pytest.mark.timeout(20)
def test_a_pipe_is_damage(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file.npz")
    with pytest.raises(DamagedFileError, match=r"file\.npz is not a regular file"):
        read_arrays(tmp_path / "file.npz")


def test_every_damage_is_one_line(tmp_path: Path) -> None:
    """Cut at each length, and with each byte flipped: an error of one kind, or the same arrays.

    Some bytes, such as the times in the archive, mean nothing.
    """
    path = tmp_path / "file.npz"
    write_arrays(path, {"a": np.arange(5.0), "b": np.ones((2, 2), np.int32)})
    whole, expected = path.read_bytes(), read_arrays(path)
    damaged = [whole[:length] for length in range(len(whole))]
    damaged += [whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :] for i in range(len(whole))]
    for number, content in enumerate([*damaged, b"", b"garbage" * 50]):
        path.write_bytes(content)
        try:
            found = read_arrays(path)
        except DamagedFileError as error:
            assert "\n" not in str(error)
            assert str(error)
        else:
            for name in found.keys() & expected.keys():
                np.testing.assert_array_equal(found[name], expected[name], str(number))
