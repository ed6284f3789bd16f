"""What was trained is what is loaded."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from runs import CONFIG, EPOCHS, STEPS_PER_EPOCH, assert_same_bits

from tfp_smvi import training
from tfp_smvi.data import Dataset
from tfp_smvi.errors import SMVIError
from tfp_smvi.loading import load_run
from tfp_smvi.training import FitResult


def test_loaded_run_has_the_weights_the_history_and_the_encodings_of_the_trained_model(
    digits: Dataset, trained: FitResult
) -> None:
    loaded = load_run(trained.run_dir)
    assert (loaded.step, loaded.history) == (EPOCHS * STEPS_PER_EPOCH, trained.history)
    assert loaded.data_fingerprint == digits.fingerprint
    assert loaded.config == training.resolve(CONFIG, digits)
    weights = {name: variable.numpy() for name, variable in trained.model.named_variables.items()}
    assert_same_bits({name: v.numpy() for name, v in loaded.model.named_variables.items()}, weights)
    x = digits.test.images(np.arange(50))
    q, p = loaded.model.encode(x), trained.model.encode(x)
    assert_same_bits({"mean": q.mean().numpy()}, {"mean": p.mean().numpy()})
    assert_same_bits({"stddev": q.stddev().numpy()}, {"stddev": p.stddev().numpy()})


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


def test_who_loads_can_hear_of_damage_instead_of_a_warning(trained: FitResult, tmp_path: Path) -> None:
    run_dir = Path(shutil.copytree(trained.run_dir, tmp_path / "run"))
    (run_dir / "checkpoints" / f"step-{EPOCHS * STEPS_PER_EPOCH:010d}.npz").write_bytes(b"")
    heard: list[str] = []
    assert load_run(run_dir, warn=heard.append).step == (EPOCHS - 1) * STEPS_PER_EPOCH
    assert len(heard) == 1
    assert "damaged" in heard[0]
