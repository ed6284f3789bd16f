"""A model that is no VAE of this package, trained, resumed and evaluated in Python."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tests.support.errors import refused
from tests.support.runs import Recorder, assert_same_run, config
from tfp_smvi.classification.protocol import classify
from tfp_smvi.config import AISConfig, ClassifyConfig, EvaluateConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import Dataset
from tfp_smvi.evaluation.pipeline import evaluate
from tfp_smvi.export.exporter import export_run
from tfp_smvi.runs.loading import load_run
from tfp_smvi.serving.encoders import LocalEncoder
from tfp_smvi.training.loop import fit

DIM = 2
EVALUATION = EvaluateConfig(
    num_examples=50,
    num_simulated=50,
    num_calibration=50,
    ais=AISConfig(num_temperatures=10, num_chains=2),
)


class FactorModel:
    """p(x|z) = Bernoulli(W z + b) and q(z|x) = N(V x, L L^T) with one L for all x."""

    def __init__(self) -> None:
        initial = tf.random.stateless_normal([64, DIM], seed=(0, 0))
        self.prior = tfd.MultivariateNormalDiag(tf.zeros(DIM))
        self.loadings = tf.Variable(initial)
        self.bias = tf.Variable(tf.zeros(64))
        self.projection = tf.Variable(0.1 * initial)
        self.factor = tf.Variable(tf.eye(DIM))
        self.fixed = tf.Variable(1e-3, trainable=False)

    @property
    def named_variables(self) -> dict[str, tf.Variable]:
        return {name: v for name, v in vars(self).items() if isinstance(v, tf.Variable)}

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        return [v for v in self.named_variables.values() if v.trainable]

    def encode(self, x: tf.Tensor) -> tfd.Distribution:
        loc = tf.reshape(x, [-1, 64]) @ self.projection
        factor = tf.linalg.band_part(self.factor, -1, 0) + self.fixed * tf.eye(DIM)
        return tfd.MultivariateNormalTriL(loc, factor)

    def decode(self, z: tf.Tensor) -> tfd.Distribution:
        logits = tf.linalg.matvec(self.loadings, z) + self.bias
        logits = tf.reshape(logits, tf.concat([tf.shape(logits)[:-1], [8, 8, 1]], 0))
        return tfd.Independent(tfd.Bernoulli(logits, dtype=tf.float32), 3)

    def log_joint(self, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        return self.prior.log_prob(z) + self.decode(z).log_prob(x)

    def copy(self) -> "FactorModel":
        twin = FactorModel()
        for name, variable in twin.named_variables.items():
            variable.assign(self.named_variables[name])
        return twin


class Forgetful(FactorModel):
    """Random at the same z."""

    def log_joint(self, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        return super().log_joint(x, z) + tf.random.normal([])


class Counting(FactorModel):
    """Counts its calls in a variable."""

    def decode(self, z: tf.Tensor) -> tfd.Distribution:
        self.fixed.assign_add(1e-3)
        return super().decode(z)


@pytest.fixture(scope="module")
def run_dir(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs."""
    path = tmp_path_factory.mktemp("given") / "run"
    fit(config(epochs=2), digits, path, model=FactorModel())
    return path


def test_a_model_of_ones_own_is_resumed_bit_for_bit(
    digits: Dataset, run_dir: Path, tmp_path: Path
) -> None:
    fit(config(epochs=1), digits, tmp_path / "run", model=FactorModel())
    result = fit(config(epochs=2), digits, tmp_path / "run", model=FactorModel())
    assert_same_run(tmp_path / "run", run_dir)
    assert result.history[1].test.elbo > result.history[0].test.elbo


@pytest.mark.slow
def test_a_model_of_ones_own_is_loaded_and_evaluated_with_an_object(run_dir: Path) -> None:
    loaded = load_run(run_dir, model=FactorModel(), warn=lambda line: None)
    assert isinstance(loaded.model, FactorModel)
    assert not np.array_equal(loaded.model.bias, tf.zeros(64))
    result = evaluate(run_dir, EVALUATION, model=FactorModel())
    assert result is not None
    gap = result.splits["test"].gap
    assert gap.mean > -5.0 * gap.standard_error


def test_a_model_of_ones_own_is_classified_with_an_object(run_dir: Path, tmp_path: Path) -> None:
    settings = ClassifyConfig(labels=(100,), kernel="linear", repeats=2, num_folds=2)
    report = classify(run_dir, settings, model=FactorModel(), baselines_dir=tmp_path / "baselines")
    by_features = {result.features: result.mean for result in report.results}
    assert by_features.keys() == {"encoder", "pixels", "pca"}
    # Two latents of two epochs are worse than 64 pixels, and better than chance.
    assert 0.12 < by_features["encoder"] < by_features["pixels"]
    # As many principal components as the object has latents, whatever the configuration says.
    (key,) = [
        values["key"]
        for path in (tmp_path / "baselines").glob("*.json")
        if (values := json.loads(path.read_text()))["key"]["features"] == "pca"
    ]
    assert key["latent_dim"] == DIM


def test_the_encoder_of_a_model_of_ones_own_is_exported_with_an_object(
    digits: Dataset, run_dir: Path, tmp_path: Path
) -> None:
    ((path, card),) = export_run(run_dir, output=tmp_path, model=FactorModel(), verify=False)
    assert card.signatures.keys() == {"serving_default", "uint8", "encoded_image"}
    x = digits.test.images(range(5))
    features = LocalEncoder(path).encode("serving_default", x)
    q = load_run(run_dir, model=FactorModel(), warn=lambda line: None).model.encode(tf.constant(x))
    # Another order of the same float32 sums.
    np.testing.assert_allclose(features.mean, q.mean(), atol=1e-5)
    np.testing.assert_allclose(features.stddev, q.stddev(), atol=1e-5)
    with refused("part", "both"):
        export_run(run_dir, output=tmp_path, model=FactorModel(), part="both")


def test_an_encoder_with_a_variable_that_has_no_name_is_not_exported(
    run_dir: Path, tmp_path: Path
) -> None:
    class Hidden(FactorModel):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = (tf.Variable(1.0),)

        def encode(self, x: tf.Tensor) -> tfd.Distribution:
            return super().encode(self.hidden[0] * x)

    with pytest.raises(SMVIError, match="a variable or a table that named_variables lacks"):
        export_run(run_dir, output=tmp_path, model=Hidden())
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("command", [load_run, evaluate, classify, export_run])
def test_without_the_object_a_run_is_refused_in_one_line(command: Any, run_dir: Path) -> None:
    with pytest.raises(SMVIError, match=r"given in Python, .*FactorModel; give such a model in P"):
        command(run_dir)


def test_a_model_and_a_configuration_of_another_one_do_not_meet(
    digits: Dataset, run_dir: Path
) -> None:
    with pytest.raises(SMVIError, match=r"another configuration \(model: .*FactorModel here"):
        fit(config(epochs=2), digits, run_dir)
    with pytest.raises(SMVIError, match=r"encoder/hidden_0/kernel is missing|has no place"):
        load_run(run_dir, model=_vae(digits), warn=lambda line: None)


@pytest.mark.parametrize(
    ("kind", "message"), [(Forgetful, "the model is random: log p"), (Counting, "changes its vari")]
)
def test_a_model_that_is_no_function_is_not_evaluated(
    kind: type[FactorModel], message: str, run_dir: Path
) -> None:
    with pytest.raises(SMVIError, match=message):
        evaluate(run_dir, EVALUATION, model=kind())


def test_a_model_without_what_is_needed_is_refused(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SMVIError, match="has no encode, decode, prior, log_joint, named_variables"):
        fit(config(), digits, tmp_path, model=object())  # type: ignore[arg-type]
    for settings in ({"precision": "bfloat16"}, {"init_from": "elsewhere"}):
        with pytest.raises(SMVIError, match="is not for a model that is given in Python"):
            fit(config(**settings), digits, tmp_path, model=FactorModel())


def test_a_changed_class_is_reported(
    digits: Dataset, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfp_smvi.runs.models.sha256_of", lambda file: "1" * 64)
    lines: list[str] = []
    load_run(run_dir, model=FactorModel(), warn=lines.append)
    assert any("is not the code that the run was trained with: SHA-256" in line for line in lines)
    recorder = Recorder()
    fit(config(epochs=2), digits, run_dir, model=FactorModel(), reporter=recorder)
    assert any("is not the code that the run was" in line for line in recorder.warnings)


def _vae(digits: Dataset) -> Any:
    from tfp_smvi.models.vae import VAE

    settings = dataclasses.replace(config().model, likelihood="bernoulli")
    return VAE(settings, digits.image_shape)
