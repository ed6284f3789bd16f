"""What was trained is what is loaded."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.runs import (
    CONFIG,
    EPOCHS,
    STEPS_PER_EPOCH,
    assert_same_bits,
    config,
    edit_config,
    newest,
)
from tfp_smvi.config import DataConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import Dataset, load_dataset
from tfp_smvi.runs.checkpoint import save_checkpoint
from tfp_smvi.runs.loading import load_data_of, load_run
from tfp_smvi.training.checks import resolve
from tfp_smvi.training.loop import fit
from tfp_smvi.training.results import FitResult


def test_loaded_run_has_the_weights_the_history_and_the_encodings_of_the_trained_model(
    digits: Dataset, trained: FitResult
) -> None:
    loaded = load_run(trained.run_dir)
    assert (loaded.step, loaded.history) == (EPOCHS * STEPS_PER_EPOCH, trained.history)
    assert loaded.data_fingerprint == digits.fingerprint
    assert loaded.config == resolve(CONFIG, digits)
    weights = {name: variable.numpy() for name, variable in trained.model.named_variables.items()}
    assert_same_bits({name: v.numpy() for name, v in loaded.model.named_variables.items()}, weights)
    x = digits.test.images(np.arange(50))
    q, p = loaded.model.encode(x), trained.model.encode(x)
    assert_same_bits({"mean": q.mean().numpy()}, {"mean": p.mean().numpy()})
    assert_same_bits({"stddev": q.stddev().numpy()}, {"stddev": p.stddev().numpy()})


def test_what_the_training_met_is_loaded(trained: FitResult, tmp_path: Path) -> None:
    """Catches doubts about the data that only config.json has."""
    run_dir = Path(shutil.copytree(trained.run_dir, tmp_path / "run"))
    record = json.loads((run_dir / "config.json").read_text())
    (run_dir / "config.json").write_text(json.dumps({**record, "warnings": ["all dark"]}))
    for epoch in (None, EPOCHS):
        with pytest.warns(UserWarning, match="all dark") as caught:
            assert load_run(run_dir, epoch).warnings == ("all dark",)
        assert [Path(warning.filename) for warning in caught] == [Path(__file__)]


def test_loading_what_is_not_trained_is_refused(trained: FitResult, tmp_path: Path) -> None:
    with pytest.raises(SMVIError, match="not a run directory"):
        load_run(tmp_path)
    shutil.copy(trained.run_dir / "config.json", tmp_path)
    with pytest.raises(SMVIError, match="no checkpoint yet"):
        load_run(tmp_path)


def test_loading_falls_back_with_a_warning(trained: FitResult, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(trained.run_dir, run_dir)
    (run_dir / "checkpoints" / f"step-{EPOCHS * STEPS_PER_EPOCH:010d}.npz").write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"):
        assert load_run(run_dir).step == (EPOCHS - 1) * STEPS_PER_EPOCH


EDITS: list[tuple[str, dict[str, object]]] = [
    ("model.hidden_sizes", {"hidden_sizes": [32]}),
    ("model.activation", {"activation": "tanh"}),
    ("model.latent_dim", {"latent_dim": 5}),
    ("train.lam", {"lam": 0.25}),
    ("train.precision", {"precision": "bfloat16"}),
    ("data.fingerprint", {"fingerprint": "0" * 64}),
    ("data.image_shape", {"image_shape": [64]}),
    ("data.kind", {"kind": None}),
]


@pytest.mark.parametrize(("name", "change"), EDITS)
def test_configuration_that_the_weights_were_not_trained_with_is_refused(
    name: str, change: dict[str, object], trained: FitResult, tmp_path: Path
) -> None:
    """hidden_sizes cut short has its arrays, too, and another activation all of the same shapes."""
    run_dir = Path(shutil.copytree(trained.run_dir, tmp_path / "run"))
    edit_config(run_dir, change)
    with pytest.raises(SMVIError) as caught:
        load_run(run_dir)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_configuration_may_have_other_epochs(trained: FitResult, tmp_path: Path) -> None:
    """A training with more epochs writes it before its first checkpoint."""
    run_dir = Path(shutil.copytree(trained.run_dir, tmp_path / "run"))
    edit_config(run_dir, {"epochs": 300})
    assert load_run(run_dir).config.train.epochs == 300


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"hidden_sizes": [32]}, r"encoder/hidden_1/kernel has no place in the model"),
        ({"hidden_sizes": [32, 32, 32]}, r"encoder/hidden_2/kernel is missing"),
        ({"hidden_sizes": [32, 8]}, r"has the shape \[32, 32\] and not \[32, 8\]"),
        ({"likelihood": None}, "names no likelihood"),
    ],
)
def test_arrays_of_version_0_1_have_the_names_and_shapes_of_the_model(
    change: dict[str, object], problem: str, trained: FitResult, tmp_path: Path
) -> None:
    """Its checkpoints hold no configuration."""
    run_dir = Path(shutil.copytree(trained.run_dir, tmp_path / "run"))
    step, arrays, state = newest(run_dir)
    save_checkpoint(run_dir / "checkpoints", step, arrays, dataclasses.replace(state, run=None))
    assert load_run(run_dir).step == step
    edit_config(run_dir, change)
    with pytest.raises(SMVIError, match=problem):
        load_run(run_dir)


def test_damage_is_reported_to_the_function_given(trained: FitResult, tmp_path: Path) -> None:
    run_dir = Path(shutil.copytree(trained.run_dir, tmp_path / "run"))
    (run_dir / "checkpoints" / f"step-{EPOCHS * STEPS_PER_EPOCH:010d}.npz").write_bytes(b"")
    warnings: list[str] = []
    assert load_run(run_dir, warn=warnings.append).step == (EPOCHS - 1) * STEPS_PER_EPOCH
    assert len(warnings) == 1
    assert "damaged" in warnings[0]


def test_data_without_a_name_are_given_themselves(digits: Dataset, tmp_path: Path) -> None:
    own = dataclasses.replace(digits, name="my own")
    fit(dataclasses.replace(config(epochs=1), data=DataConfig("my own")), own, tmp_path / "run")
    run = load_run(tmp_path / "run")
    with pytest.raises(SMVIError, match="there is no data set 'my own'"):
        load_data_of(run)
    assert load_data_of(run, dataset=own) is own
    with pytest.raises(SMVIError, match="are not those that the model was trained on"):
        load_data_of(run, dataset=dataclasses.replace(own, fingerprint="0" * 64))


@pytest.mark.slow
def test_a_file_of_data_is_found_from_any_folder_and_after_it_has_moved(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = {"x_train": digits.train.pixels, "x_test": digits.test.pixels}
    np.savez(tmp_path / "images.npz", **images)
    monkeypatch.chdir(tmp_path)
    settings = dataclasses.replace(config(epochs=1), data=DataConfig("images.npz"))
    fit(settings, load_dataset("images.npz"), "run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = load_run("../run")
    assert run.real_valued is False
    assert load_data_of(run).fingerprint == run.data_fingerprint
    (tmp_path / "images.npz").rename("moved.npz")
    with pytest.raises(SMVIError, match=r"images\.npz, which no longer exists"):
        load_data_of(run)
    # The training goes on with the file at its new place, where everything finds it from then on.
    settings = dataclasses.replace(config(epochs=2), data=DataConfig("moved.npz"))
    fit(settings, load_dataset(Path("moved.npz")), tmp_path / "run")
    assert load_data_of(load_run(tmp_path / "run")).fingerprint == run.data_fingerprint
