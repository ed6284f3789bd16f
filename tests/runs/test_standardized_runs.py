"""A run on standardized data, from training to what it exports."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.support import runs
from tests.support.errors import refused
from tfp_smvi.config import DataConfig, ModelConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import load_dataset
from tfp_smvi.export.exporter import export_run
from tfp_smvi.runs.loading import load_data_of, load_run
from tfp_smvi.training.loop import fit

RNG = np.random.default_rng(0)
X = RNG.normal([100.0, -3.0, 0.0, 7.0], [50.0, 0.1, 1.0, 9.0], (60, 4))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    np.savez(tmp_path / "x.npz", x=X, names=["a", "b", "c", "d"])
    data = DataConfig(str(tmp_path / "x.npz"), test_fraction=0.2, standardize=True)
    config = dataclasses.replace(
        runs.config(epochs=1), data=data, model=ModelConfig(latent_dim=2, hidden_sizes=(8,))
    )
    fit(config, load_dataset(data), tmp_path / "run")
    return tmp_path / "run"


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


@pytest.mark.parametrize(
    "change", [{"mean": None}, {"stddev": [1.0, 1.0]}, {"stddev": [1.0, 1.0, 1.0, 0.0]}]
)
def test_a_damaged_data_file_is_one_line(run_dir: Path, change: dict[str, object]) -> None:
    path = run_dir / "data.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with refused(None) as caught:
        load_run(run_dir)
    assert str(caught.value).startswith(f"{path} cannot be read")
