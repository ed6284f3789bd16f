"""Pieces of work that are found again by what they depend on."""

from pathlib import Path

import numpy as np
import pytest

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.storage.pieces import ArrayStore, JSONStore, digest


def test_a_key_does_not_depend_on_the_order_of_its_names() -> None:
    assert digest({"a": 1, "b": [2]}, 16) == digest({"b": [2], "a": 1}, 16)
    assert digest({"a": 1}, 16) != digest({"a": 2}, 16)


def test_names_of_folders_are_those_of_version_0_1() -> None:
    """Results of version 0.1 are found again."""
    key = {"weights": "0" * 64, "step": 3, "seed": 0, "num_chains": 16}
    assert ArrayStore(Path("root"), "annealed", key).path == Path("root/annealed-ec97fdb85b19b521")


def test_a_piece_is_found_by_another_store_of_the_same_key(tmp_path: Path) -> None:
    ArrayStore(tmp_path, "kind", {"seed": 1}).save("test-00000", {"a": np.arange(3)})
    store = ArrayStore(tmp_path, "kind", {"seed": 1})
    assert "test-00000" in store
    assert "test-00001" not in store
    assert "test-00000" not in ArrayStore(tmp_path, "kind", {"seed": 2})
    np.testing.assert_array_equal(store.load("test-00000")["a"], [0, 1, 2])


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 garbage"])
def test_a_missing_or_damaged_piece_is_named(content: bytes | None, tmp_path: Path) -> None:
    store = ArrayStore(tmp_path, "kind", {})
    if content is not None:
        store.save("piece", {})
        (store.path / "piece.npz").write_bytes(content)
    with pytest.raises(SMVIError) as caught:
        store.load("piece")
    assert str(store.path / "piece.npz") in caught.value.problem
    assert caught.value.remedy


def test_json_values_of_another_key_or_damaged_ones_are_none(tmp_path: Path) -> None:
    store, key = JSONStore(tmp_path), {"size": 600}
    assert store.load(key) is None
    store.save(key, {"mean": 0.5})
    assert store.load(key) == {"mean": 0.5}
    assert store.load({"size": 601}) is None
    (path,) = tmp_path.glob("*.json")
    path.write_text(path.read_text()[:20])
    assert store.load(key) is None
