"""A training that starts from another run's weights, and one that keeps a network as it is."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.errors import refused
from tests.support.runs import CONFIG, Recorder, assert_same_run, config, newest
from tfp_smvi.config import DataConfig, ModelConfig, RunConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import Dataset, load_dataset
from tfp_smvi.runs.directory import read_run
from tfp_smvi.runs.loading import load_run
from tfp_smvi.training.devices import OneDevice
from tfp_smvi.training.loop import fit
from tfp_smvi.training.results import FitResult
from tfp_smvi.training.start import begin


def from_run(run_dir: Path, model: dict[str, Any] | None = None, **train: Any) -> RunConfig:
    """CONFIG for two epochs that start from a run."""
    settings = config(init_from=str(run_dir), epochs=train.pop("epochs", 2), **train)
    return dataclasses.replace(settings, model=dataclasses.replace(CONFIG.model, **(model or {})))


def weights(run_dir: Path, prefix: str = "") -> dict[str, np.ndarray]:
    """The weights of a run without those of the training."""
    variables = load_run(run_dir, warn=lambda line: None).model.named_variables
    return {name: v.numpy() for name, v in variables.items() if name.startswith(prefix)}


def test_a_training_starts_from_the_weights_of_a_run(
    digits: Dataset, trained: FitResult, tmp_path: Path
) -> None:
    settings = dataclasses.replace(
        from_run(trained.run_dir, lam=0.0),
        model=dataclasses.replace(CONFIG.model, likelihood="bernoulli"),
    )
    start = begin(settings, digits, tmp_path, None, Recorder(), fresh=False, devices=OneDevice())
    expected = weights(trained.run_dir)
    assert {*start.model.named_variables} == {*expected}
    for name, variable in start.model.named_variables.items():
        np.testing.assert_array_equal(variable, expected[name])
    source = start.record.source
    assert source is not None
    assert (source.path, source.step) == (str(trained.run_dir), trained.history[-1].step)
    result = fit(settings, digits, tmp_path / "run")
    # The first epochs of a new run have ELBOs far below those of one that was trained.
    assert result.history[0].test.elbo > trained.history[0].test.elbo
    assert read_run(result.run_dir).source == source


@pytest.mark.slow
@pytest.mark.parametrize("lam", [0.0, math.inf])
@pytest.mark.parametrize("averaging_steps", [0, 50])
@pytest.mark.parametrize(("frozen", "other"), [("decoder", "encoder"), ("encoder", "decoder")])
def test_a_frozen_network_keeps_its_bits_and_the_other_one_is_new(
    digits: Dataset,
    trained: FitResult,
    tmp_path: Path,
    frozen: str,
    other: str,
    averaging_steps: int,
    lam: float,
) -> None:
    settings = from_run(
        trained.run_dir,
        freeze=frozen,
        lam=lam,
        averaging_steps=averaging_steps,
        seed=3,
        epochs=1,
    )
    result = fit(settings, digits, tmp_path / "run")
    arrays = newest(result.run_dir).arrays
    before = weights(trained.run_dir)
    copies = [name for name in arrays if f"{frozen}/" in name]
    assert len(copies) == (6 if averaging_steps == 0 else 12)
    for name in copies:
        expected = before[name.removeprefix("learner/")]
        assert arrays[name].tobytes() == expected.tobytes(), name
    new = {name: a for name, a in arrays.items() if name.startswith(f"{other}/")}
    assert all(not np.array_equal(array, before[name]) for name, array in new.items())
    # Adam has two moments of each of the trained weights, and a count of steps.
    shapes = [a.shape for name, a in arrays.items() if name.startswith("optimizer/") and a.ndim]
    assert sorted(shapes) == sorted([array.shape for array in new.values()] * 2)


def test_an_encoder_of_another_posterior_is_fitted_to_a_frozen_decoder(
    digits: Dataset, trained: FitResult, tmp_path: Path
) -> None:
    settings = from_run(trained.run_dir, {"posterior": "full"}, freeze="decoder", lam=0.0)
    result = fit(settings, digits, tmp_path / "run")
    assert result.history[-1].test.elbo > result.history[0].test.elbo


@pytest.mark.slow
def test_a_resumed_training_needs_its_source_no_more(
    digits: Dataset, trained: FitResult, tmp_path: Path
) -> None:
    shutil.copytree(trained.run_dir, tmp_path / "source")
    settings = from_run(tmp_path / "source", freeze="decoder")
    whole = fit(settings, digits, tmp_path / "whole")
    fit(from_run(tmp_path / "source", freeze="decoder", epochs=1), digits, tmp_path / "cut")
    shutil.rmtree(tmp_path / "source")
    resumed = fit(settings, digits, tmp_path / "cut")
    assert_same_run(resumed.run_dir, whole.run_dir)


def test_a_run_without_a_checkpoint_starts_only_from_the_same_weights(
    digits: Dataset, trained: FitResult, tmp_path: Path
) -> None:
    settings = from_run(trained.run_dir, epochs=1)
    result = fit(settings, digits, tmp_path / "run")
    shutil.rmtree(result.run_dir / "checkpoints")
    record = json.loads((result.run_dir / "config.json").read_text())
    record["source"]["weights"] = "0" * 64
    (result.run_dir / "config.json").write_text(json.dumps(record))
    with pytest.raises(SMVIError, match="has been trained further since this run began"):
        fit(settings, digits, result.run_dir)


@pytest.mark.parametrize(
    ("model", "freeze", "message"),
    [
        ({"latent_dim": 5}, None, r"does not fit \(latent_dim: 4 there, 5 here\)"),
        ({"hidden_sizes": (8,)}, "decoder", r"hidden_sizes: \[32, 32\] there, \[8\] here"),
        ({"activation": "tanh"}, None, "activation: silu there, tanh here"),
        ({"posterior": "full"}, None, "posterior: diagonal there, full here"),
        ({"posterior": "full"}, "encoder", "posterior: diagonal there, full here"),
        ({"likelihood": "gaussian"}, None, "likelihood: bernoulli there, gaussian here"),
        ({"architecture": "conv", "hidden_sizes": (32, 32)}, None, "dense there, conv here"),
    ],
)
def test_a_source_that_does_not_fit_is_one_line(
    digits: Dataset,
    trained: FitResult,
    tmp_path: Path,
    model: dict[str, Any],
    freeze: str | None,
    message: str,
) -> None:
    with pytest.raises(SMVIError, match=message) as caught:
        fit(from_run(trained.run_dir, model, freeze=freeze), digits, tmp_path / "run")
    assert caught.value.field == "init_from"
    assert not (tmp_path / "run").exists()


def test_a_source_must_be_another_run_that_exists(
    digits: Dataset, trained: FitResult, tmp_path: Path
) -> None:
    with pytest.raises(SMVIError, match="is the directory of this run"):
        fit(from_run(tmp_path / "run"), digits, tmp_path / "run", fresh=True)
    (tmp_path / "empty").mkdir()
    for name in ("none", "empty"):
        with pytest.raises(SMVIError, match="holds no run") as caught:
            fit(from_run(tmp_path / name), digits, tmp_path / "run")
        assert caught.value.field == "init_from"
    shutil.copytree(trained.run_dir, tmp_path / "begun")
    shutil.rmtree(tmp_path / "begun" / "checkpoints")
    with pytest.raises(SMVIError, match="has no checkpoint yet") as caught:
        fit(from_run(tmp_path / "begun"), digits, tmp_path / "run")
    assert caught.value.field == "init_from"


def test_a_frozen_network_sees_x_as_it_did(tmp_path: Path) -> None:
    """An encoder of counts sees their logarithm; standardized data have other units."""
    path = tmp_path / "x.npz"
    np.savez(path, x=np.random.default_rng(0).poisson(3.0, (40, 4)).astype(np.float32))
    data = DataConfig(str(path), test_fraction=0.2, kind="counts")

    def settings(likelihood: Any, data: DataConfig, **train: Any) -> RunConfig:
        model = ModelConfig(likelihood, latent_dim=2, hidden_sizes=(4,))
        return RunConfig(data, model, config(epochs=1, batch_size=8, **train).train)

    one = settings("gaussian", data)
    fit(one, load_dataset(data), tmp_path / "one", reporter=Recorder())
    source = {"init_from": str(tmp_path / "one"), "freeze": "encoder"}
    with refused("init_from") as caught:
        fit(settings("poisson", data, **source), load_dataset(data), tmp_path / "two")
    assert "gaussian there, poisson here" in str(caught.value)
    real = DataConfig(str(path), test_fraction=0.2, kind="real", standardize=True)
    for frozen in ("encoder", "decoder"):
        source["freeze"] = frozen
        with refused("init_from") as caught:
            fit(settings("gaussian", real, **source), load_dataset(real), tmp_path / "two")
        assert "x is not standardized there and standardized here" in str(caught.value)


@pytest.mark.parametrize(("shift", "factor"), [(0.0, 1.0), (1.0, 1.0), (0.0, 2.0)])
def test_a_frozen_network_with_other_units_is_doubted(
    tmp_path: Path, shift: float, factor: float
) -> None:
    """Defects: any standardization passes for that of the frozen network; the same one does not."""
    values = np.random.default_rng(0).normal(3.0, 2.0, (40, 4)).astype(np.float32)
    here = values.copy()
    here[:, 1] = factor * here[:, 1] + 2.0 * shift
    datasets = []
    for name, x in {"there": values, "here": here}.items():
        np.savez(tmp_path / f"{name}.npz", x=x)
        path = str(tmp_path / f"{name}.npz")
        datasets.append(DataConfig(path, test_fraction=0.2, kind="real", standardize=True))

    def settings(data: DataConfig, **train: Any) -> RunConfig:
        model = ModelConfig("gaussian", latent_dim=2, hidden_sizes=(4,))
        return RunConfig(data, model, config(epochs=1, batch_size=8, **train).train)

    there, now = datasets
    fit(settings(there), load_dataset(there), tmp_path / "one", reporter=Recorder())
    recorder = Recorder()
    source = {"init_from": str(tmp_path / "one"), "freeze": "decoder"}
    fit(settings(now, **source), load_dataset(now), tmp_path / "two", reporter=recorder)
    doubts = [line for line in recorder.warnings if "in units of its own data" in line]
    assert len(doubts) == (shift != 0.0 or factor != 1.0)
    assert all("Entry 1 has a mean of" in line for line in doubts)


def test_what_is_frozen_must_come_from_somewhere() -> None:
    with pytest.raises(SMVIError, match="freeze = 'decoder' is not allowed; give init_from too"):
        config(freeze="decoder")


def test_what_a_notebook_shows_fits_in_a_line(digits: Dataset, trained: FitResult) -> None:
    assert repr(digits) == (
        "Dataset('digits': 1437 to train, 360 to test, shape (8, 8, 1), intensities)"
    )
    assert repr(digits.test) == (
        "ArraySplit(360 examples of shape (8, 8, 1), intensities, with labels)"
    )
    text = repr(trained)
    assert text.startswith(f"FitResult({len(trained.history)} epochs, test ELBO -")
    assert "VAE(x: (8, 8, 1), bernoulli; z: 4, diagonal; " in text
    assert len(text) < 250
    loaded = repr(load_run(trained.run_dir))
    assert loaded.startswith(f"LoadedRun(digits, lam 0.5, {len(trained.history)} epochs, test ELBO")
    assert len(loaded) < 200


def test_the_rows_of_a_training_are_its_epochs(trained: FitResult) -> None:
    rows = trained.rows()
    assert rows == load_run(trained.run_dir).rows()
    assert [row["epoch"] for row in rows] == [record.epoch for record in trained.history]
    last = trained.history[-1]
    assert (rows[-1]["test_elbo"], rows[-1]["train_kl"]) == (last.test.elbo, last.train.kl)
    assert (rows[-1]["lam"], rows[-1]["step"]) == (last.lam, last.step)
