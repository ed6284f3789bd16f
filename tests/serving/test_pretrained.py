"""The encoders that are installed with the package: they are whole, and their features are good."""

from pathlib import Path

import numpy as np
import pytest

from tests.support import runs
from tests.support.errors import refused
from tfp_smvi.data import Dataset, load_dataset
from tfp_smvi.export.check import find_damage
from tfp_smvi.export.formats import MODEL_CARD
from tfp_smvi.export.standalone_check import find_mistake
from tfp_smvi.serving import pretrained
from tfp_smvi.serving.encoders import LocalEncoder, export_versions
from tfp_smvi.storage.json_files import read_json

NUM_TRAIN, NUM_TEST = 1000, 200


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    return load_dataset("mnist")


def means_of(path: Path, images: np.ndarray, capsys: pytest.CaptureFixture[str]) -> np.ndarray:
    """The means that the command writes of images."""
    np.save(path / "images.npy", images)
    arguments = ("features", str(path / "images.npy"), "--output", str(path / "means.npy"))
    assert runs.call(*arguments, "--fresh", "--model", "pretrained:mnist") == 0
    assert capsys.readouterr().err == ""
    return np.load(path / "means.npy")


def test_nearest_neighbours_by_the_features_have_the_same_label(
    mnist: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With 1,000 labels; weights that are damaged or of other data give far fewer."""
    train = means_of(tmp_path, mnist.train.images(range(NUM_TRAIN)), capsys)
    test = means_of(tmp_path, mnist.test.images(range(NUM_TEST)), capsys)
    nearest = np.linalg.norm(test[:, None] - train, axis=-1).argmin(axis=1)
    right = mnist.train.labels[:NUM_TRAIN][nearest] == mnist.test.labels[:NUM_TEST]
    assert right.mean() > 0.8


@pytest.mark.parametrize("folder", [*pretrained.FOLDER.iterdir()], ids=lambda folder: folder.name)
def test_an_installed_encoder_is_whole_and_answers_as_recorded(folder: Path) -> None:
    (version,) = export_versions(folder)
    encoder = LocalEncoder(f"pretrained:{folder.name}", version)
    assert encoder.recipe.arguments == {"model": f"pretrained:{folder.name}", "version": version}
    assert encoder.signatures["uint8"].image_shape == (28, 28, 1)
    assert find_mistake(folder / str(version)) is None
    assert find_damage(folder / str(version)) == []  # nothing is written there either
    card = read_json(folder / str(version) / MODEL_CARD)
    assert (card["model_name"], card["precision"]) == (folder.name, "float16")
    assert len(card["created"]) == len("2026-11-28")  # without the time of day
    assert "Apache License" in (folder / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["", "other", "../pretrained/mnist", "mnist/1"])
def test_an_encoder_that_is_not_installed_is_one_line_with_those_that_are(name: str) -> None:
    with refused("model", f"pretrained:{name}") as caught:
        LocalEncoder(f"pretrained:{name}")
    assert "give pretrained:mnist" in str(caught.value)
