"""Arrays in files of users: nothing is read or unpacked that is not an array somebody wants."""

import io
import os
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from tfp_smvi.storage import array_files
from tfp_smvi.storage.array_files import list_arrays, open_array

# A header of version 2.0 with 2 GB, of which a file need not hold any.
LONG_HEADER = b"\x93NUMPY\x02\x00" + (2_000_000_000).to_bytes(4, "little")


class Watched(io.BytesIO):
    """A file that may not be read at once, as one with 2 GB after its length would be."""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert 0 <= size <= 10_000
        return super().read(size)


def with_header(shape: tuple[int, ...], write: Any = np.lib.format.write_array_header_1_0) -> bytes:
    """The beginning of a .npy file of bytes, without its values."""
    file = io.BytesIO()
    write(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def pack(path: Path, start: bytes, num_zeros: int = 0, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Writes a member x.npy that begins with some bytes."""
    with (
        zipfile.ZipFile(path, "w", method, compresslevel=9) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(start)
        for begin in range(0, num_zeros, 1 << 20):
            member.write(bytes(min(1 << 20, num_zeros - begin)))
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back(save: Any, order: Any, tmp_path: Path) -> None:
    values = np.asarray(np.arange(24.0).reshape(2, 3, 4), order=order)
    save(tmp_path / "a.npz", x=values, y=np.int64(3))
    np.save(tmp_path / "a.npy", values)
    assert list_arrays(tmp_path / "a.npz") == ["x", "y"]
    np.testing.assert_array_equal(open_array(tmp_path / "a.npz", "x").load(), values)
    np.testing.assert_array_equal(open_array(tmp_path / "a.npz", "y").load(), 3)
    np.testing.assert_array_equal(open_array(tmp_path / "a.npy").load(), values)


def test_a_header_of_version_2_is_read(tmp_path: Path) -> None:
    path = pack(
        tmp_path / "a.npz", with_header((3,), np.lib.format.write_array_header_2_0) + b"abc"
    )
    assert bytes(open_array(path, "x").load()) == b"abc"


@pytest.mark.parametrize("words", ["{'shape': (", "(" * 5000, "\n  1\n 2", "{}", "1 +"])
def test_a_damaged_header_is_one_line_in_words(words: str, tmp_path: Path) -> None:
    """NumPy reads it as Python, of which the tokenizer's errors are tuples."""
    header = words.encode() + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"its header is damaged: [^(\n]") as caught:
        open_array(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_long_header_is_refused_by_its_length(name: str, tmp_path: Path) -> None:
    """The length alone is read: the file lacks the header itself, and an end is another error."""
    if name == "a.npz":
        pack(tmp_path / name, LONG_HEADER)
    else:
        (tmp_path / name).write_bytes(LONG_HEADER)
    with pytest.raises(ValueError, match="header has 2000000000 bytes"):
        open_array(tmp_path / name, "x" if name == "a.npz" else None)


def test_a_header_is_not_read_before_its_length_is_known() -> None:
    with pytest.raises(ValueError, match="header has"):
        array_files._read_header(Path("a.npy"), Watched(LONG_HEADER), 0, None)


def test_an_archive_that_unpacks_to_too_much_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small array of zeros may grow as much as it likes."""
    monkeypatch.setattr(array_files, "_LARGE", 1 << 16)
    path = pack(tmp_path / "small.npz", with_header((1 << 15,)), 1 << 15)
    assert not open_array(path, "x").load().any()

    def refuse(*arguments: object) -> IO[bytes]:
        raise AssertionError("a member was opened")

    path = pack(tmp_path / "large.npz", with_header((1 << 20,)), 1 << 20)
    monkeypatch.setattr(zipfile.ZipFile, "open", refuse)
    with pytest.raises(ValueError, match="unpack to"):
        open_array(path, "x")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_unpacks_without_bound_is_refused(method: int, tmp_path: Path) -> None:
    """45 bytes of bzip2 unpack to 900 kB, whatever the directory of the archive says."""
    path = pack(tmp_path / "a.npz", with_header((9,)), 9, method)
    with pytest.raises(ValueError, match="method"):
        open_array(path, "x")


@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (open_array, list_arrays):
        with pytest.raises(OSError, match="regular"):
            read(tmp_path / "pipe")
