"""A run on standardized data, from training to what it exports."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tests.support import runs
from tests.support.errors import refused
from tests.support.runs import assert_same_bits, newest
from tfp_smvi.classification.measuring import Measurement
from tfp_smvi.classification.plan import Unit
from tfp_smvi.classification.results import PCA
from tfp_smvi.config import ClassifyConfig, DataConfig, ModelConfig, RunConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import Dataset, load_dataset
from tfp_smvi.evaluation.pipeline import _log_scale
from tfp_smvi.export.exporter import export_run
from tfp_smvi.features.extraction import extract_features
from tfp_smvi.features.images import open_images
from tfp_smvi.features.refined import RefinedEncoder
from tfp_smvi.inference.local import refine
from tfp_smvi.runs.loading import load_data_of, load_run
from tfp_smvi.serving.encoders import LocalEncoder
from tfp_smvi.training import schedule
from tfp_smvi.training.loop import fit

RNG = np.random.default_rng(0)
X = RNG.normal([100.0, -3.0, 0.0, 7.0], [50.0, 0.1, 1.0, 9.0], (60, 4))


class KilledError(BaseException):
    """Stands for a death in the middle."""


def settings(folder: Path, epochs: int) -> RunConfig:
    data = DataConfig(str(folder / "x.npz"), test_fraction=0.2, standardize=True)
    return dataclasses.replace(
        runs.config(epochs=epochs, batch_size=8),
        data=data,
        model=ModelConfig(latent_dim=2, hidden_sizes=(8,)),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a run."""
    folder = tmp_path_factory.mktemp("standardized")
    np.savez(folder / "x.npz", x=X, names=["a", "b", "c", "d"])
    config = settings(folder, 1)
    fit(config, load_dataset(config.data), folder / "run")
    return folder


@pytest.fixture
def run_dir(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder / "run", tmp_path / "run"))


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(
    folder: Path, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its data are loaded and standardized again, as in a new process."""
    monkeypatch.setattr(schedule, "CALL_SECONDS", 0.0)
    config = settings(folder, 3)
    fit(config, load_dataset(config.data), run_dir)

    def die() -> None:
        raise KilledError

    with pytest.raises(KilledError):
        fit(
            config,
            load_dataset(config.data),
            tmp_path / "killed",
            checkpoint_minutes=1e-9,
            reporter=runs.Recorder(9, die),
        )
    recorder = runs.Recorder()
    fit(config, load_dataset(config.data), tmp_path / "killed", reporter=recorder)
    assert recorder.begins == [8]  # in the second of epochs of 6 steps
    one, other = run_dir, tmp_path / "killed"
    assert_same_bits(newest(one).arrays, newest(other).arrays)
    assert runs.records(one) == runs.records(other)
    assert (one / "data.json").read_bytes() == (other / "data.json").read_bytes()


def test_an_evaluation_says_how_its_densities_are_had_in_given_units() -> None:
    """log N(x; m, s) of given x is that of standardized x minus the sum over observed entries."""
    x = np.where(RNG.random(X.shape) < 0.3, np.nan, X)
    dataset = Dataset.from_arrays(x, test_fraction=0.5, standardize=True)
    scale = dataset.standardization
    assert scale is not None
    given, standardized = scale.undo(dataset.test.images(range(20))), dataset.test.images(range(20))
    densities = [
        np.nansum(scipy.stats.norm.logpdf(values, mean, stddev), axis=1).mean()
        for values, mean, stddev in ((given, scale.mean, scale.stddev), (standardized, 0.0, 1.0))
    ]
    log_scale = _log_scale(dataset, {"test": 20})
    assert log_scale is not None
    # float32 of values of 100 and stddev 50.
    assert densities[1] - log_scale["test"] == pytest.approx(densities[0], abs=1e-4)
    assert log_scale["test"] != pytest.approx(scale.log_scale, abs=1e-2)
    assert _log_scale(Dataset.from_arrays(X, test_fraction=0.5), {"test": 20}) is None


def test_a_run_keeps_how_its_data_were_standardized(run_dir: Path) -> None:
    run = load_run(run_dir)
    dataset = load_data_of(run)
    assert run.names == dataset.names == ("a", "b", "c", "d")
    assert run.standardization is not None
    assert dataset.standardization is not None
    for name in ("mean", "stddev"):
        expected = getattr(dataset.standardization, name)
        np.testing.assert_array_equal(getattr(run.standardization, name), expected)
    raw = dataclasses.replace(dataset, standardization=None)
    with pytest.raises(SMVIError, match="not standardized, other than those"):
        load_data_of(run, dataset=raw)


def test_baselines_of_raw_and_of_standardized_data_have_other_keys(folder: Path) -> None:
    """They may share a folder, and their principal components differ."""
    config = settings(folder, 1)
    keys = []
    for standardize in (False, True):
        data = dataclasses.replace(config.data, standardize=standardize)
        run: Any = SimpleNamespace(
            data_fingerprint=load_dataset(data).fingerprint,
            latent_dim=2,
            step=1,
            standardization=load_dataset(data).standardization,
        )
        measurement: Any = SimpleNamespace(_run=run, _config=ClassifyConfig())
        unit = Unit(PCA, "rbf", 10)
        keys.append((Measurement._key(measurement, unit), Measurement.key(measurement, PCA)))
    assert all(one != other for one, other in zip(*keys, strict=True))


def test_exports_take_and_return_values_as_they_were_given(run_dir: Path) -> None:
    exports = export_run(run_dir, output=run_dir / "models", part="both", verify=False)
    run = load_run(run_dir)
    scale = run.standardization
    assert scale is not None
    encoder, decoder = (
        tf.saved_model.load(str(path)).signatures["serving_default"] for path, _ in exports
    )
    x = X[:5].astype(np.float32)
    q = run.model.encode(scale.apply(x))
    # float32 of values of 100 and stddev 50: 1e-5 of the standardized ones, and as much of z.
    np.testing.assert_allclose(encoder(images=tf.constant(x))["mean"], q.mean(), atol=1e-4)
    z = RNG.normal(size=(5, 2)).astype(np.float32)
    p, output = run.model.decode(z), decoder(latent=tf.constant(z))
    np.testing.assert_allclose(output["mean"], scale.undo(p.mean().numpy()), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(output["stddev"], p.stddev() * scale.stddev, rtol=1e-4)
    # The columns of a table are found by the names that the card has.
    path, card = exports[0]
    assert card.names == ("a", "b", "c", "d")
    table = run_dir / "x.csv"
    np.savetxt(table, x[:, [2, 0, 3, 1]], "%.9g", ",", header="c,a,d,b", comments="")
    extract_features(open_images(table), LocalEncoder(path), run_dir / "features.npy")
    np.testing.assert_allclose(np.load(run_dir / "features.npy"), q.mean(), atol=1e-4)


def test_an_export_of_values_that_float32_cannot_hold_warns(run_dir: Path) -> None:
    path = run_dir / "data.json"
    file = json.loads(path.read_text())
    path.write_text(json.dumps({**file, "mean": [1.7e9, 0.0, 0.0, 0.0]}))
    lines: list[str] = []
    export_run(run_dir, output=run_dir / "models", verify=False, warn=lines.append)
    assert lines[-1].startswith("Values of a are near 1.7e+09, where float32")


def test_refined_features_are_of_values_as_they_were_given(run_dir: Path) -> None:
    run, x = load_run(run_dir), X[:5].astype(np.float32)
    scale = run.standardization
    assert scale is not None
    standardized = tf.constant(scale.apply(x))
    start = run.model.encode(standardized)
    best = refine(lambda z: run.model.log_joint(standardized, z), start, num_steps=20, seed=0)
    expected = start.mean() + start.stddev() * best.parameters["shift"]
    features = RefinedEncoder(run_dir, 20, 5).encode("serving_default", x)
    # As of an export; the search of 20 steps moves by much more.
    np.testing.assert_allclose(features.mean, expected, atol=1e-3)
    assert np.abs(features.mean - start.mean()).max() > 1e-2


@pytest.mark.parametrize(
    "change", [{"mean": None}, {"stddev": [1.0, 1.0]}, {"stddev": [1.0, 1.0, 1.0, 0.0]}]
)
def test_a_damaged_data_file_is_one_line(run_dir: Path, change: dict[str, object]) -> None:
    path = run_dir / "data.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with refused(None) as caught:
        load_run(run_dir)
    assert str(caught.value).startswith(f"{path} cannot be read")
