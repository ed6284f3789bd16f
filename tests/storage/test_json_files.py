"""JSON as people, editors and damage leave it."""

import os
from pathlib import Path

import pytest

from tfp_smvi.storage.json_files import parse_json, read_json


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_every_encoding_of_an_editor_is_read(encoding: str, tmp_path: Path) -> None:
    """Windows' Notepad writes a byte order mark, and its shell UTF-16."""
    text = '{"name": "Grüße", "lam": [1, 0.5, null]}'
    (tmp_path / "a.json").write_bytes(text.encode(encoding))
    assert read_json(tmp_path / "a.json") == {"name": "Grüße", "lam": [1, 0.5, None]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\xfd",
        b"[" * 100_000,
        b'{"a": ' * 100_000,
        b"[" * 101 + b"]" * 101,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": 1e999}',
    ],
)
def test_what_cannot_be_used_is_one_line(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S") as caught:
        parse_json(content)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_values_are_as_deep_as_any_file_needs() -> None:
    assert parse_json("[" * 100 + "]" * 100)


@pytest.mark.timeout(20)
def test_what_has_no_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    with (tmp_path / "sparse.json").open("wb") as file:
        file.truncate(1 << 40)
    for path in tmp_path.iterdir():
        with pytest.raises(OSError, match=path.name):
            read_json(path)
