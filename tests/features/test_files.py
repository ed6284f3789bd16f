"""The folder in which a file of features is made."""

from pathlib import Path

from tests.support.errors import refused
from tfp_smvi.features.files import FeatureFile


def test_a_folder_of_pieces_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """In a folder that others may write, its name is one that they can foresee."""
    elsewhere, output = tmp_path / "elsewhere", tmp_path / "f.npz"
    elsewhere.mkdir()
    (tmp_path / "f.npz.partial").symlink_to(elsewhere)
    with refused("output", str(output)), FeatureFile(output, 10).open({}, fresh=True):
        pass
    assert list(elsewhere.iterdir()) == []
