"""A model without a training run: its estimates against exact ones, and whose results are whose."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tests.support.errors import refused
from tests.support.exact import LinearGaussianModel
from tfp_smvi.config import AISConfig, EvaluateConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import Dataset
from tfp_smvi.engines.processes import Processes
from tfp_smvi.evaluation import session, shared
from tfp_smvi.evaluation.blocks import Shard
from tfp_smvi.evaluation.convergence import measure_convergence
from tfp_smvi.evaluation.estimator import BlockEstimator
from tfp_smvi.evaluation.outside import OutsideModel
from tfp_smvi.evaluation.pipeline import evaluate
from tfp_smvi.evaluation.results import Evaluation
from tfp_smvi.evaluation.table import format_evaluation

NUM_EXAMPLES = 70
TRUTH = LinearGaussianModel.simulate(
    2 * NUM_EXAMPLES, latent_dim=2, observed_dim=4, weight_scale=0.7, noise=0.7, seed=0
)
CONFIG = EvaluateConfig(
    ais=AISConfig(num_chains=16, num_temperatures=40, num_leapfrog_steps=2),
    num_elbo_samples=256,
    num_importance_samples=64,
    num_divergence_samples=64,
    num_simulated=60,
)


class Decoder:
    """p(x|z) alone, as plain functions."""

    def __init__(self, shift: float = 0.0) -> None:
        self.weights = tf.constant(TRUTH.weights, tf.float32)
        self.shift = shift
        self.prior = tfd.MultivariateNormalDiag(tf.zeros(2))

    def _likelihood(self, z: tf.Tensor) -> tfd.Distribution:
        mean = tf.linalg.matvec(self.weights, z) + self.shift
        return tfd.Independent(tfd.Normal(mean, TRUTH.noise), 1)

    def log_likelihood(self, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        return self._likelihood(z).log_prob(x)

    def simulate(self, z: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return self._likelihood(z).sample(seed=seed)


class Complete(Decoder):
    """With the exact posterior as encoder."""

    def encode(self, x: tf.Tensor) -> tfd.Distribution:
        covariance = TRUTH.posterior()[1]
        gain = tf.constant(TRUTH.weights @ covariance / TRUTH.noise**2, tf.float32)
        scale = tf.constant(np.linalg.cholesky(covariance), tf.float32)
        return tfd.MultivariateNormalTriL(x @ gain, scale)


@pytest.fixture(scope="module", autouse=True)
def shared_graphs() -> Iterator[None]:
    """Lets the sessions of a model share graphs, which take seconds to trace."""
    estimators: dict[tuple[object, EvaluateConfig], BlockEstimator] = {}

    def one(model: Any, config: EvaluateConfig) -> BlockEstimator:
        same = dataclasses.replace(config, num_examples=1, num_simulated=2, accuracy=None)
        key = (type(model._given), same)
        return estimators.setdefault(key, BlockEstimator(model, config))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "BlockEstimator", one)
        yield


@pytest.fixture(scope="module")
def data() -> Dataset:
    x = TRUTH.x.astype(np.float32)
    return Dataset.from_arrays(x[:NUM_EXAMPLES], x[NUM_EXAMPLES:], kind="real", name="linear")


@pytest.fixture(scope="module")
def output(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a decoder's results."""
    folder = tmp_path_factory.mktemp("outside") / "results"
    evaluate(OutsideModel(Decoder(), data, folder), CONFIG)
    return folder


def read(folder: Path) -> Evaluation:
    return Evaluation.from_json(json.loads((folder / "evaluation.json").read_text()))


def test_log_likelihoods_of_a_decoder_are_exact_within_their_errors(output: Path) -> None:
    """Catches a bias of 0.2 nat, such as a prior that is counted twice."""
    with np.load(output / "evaluation.npz") as arrays:
        values = dict(arrays)
    difference = values["test_log_likelihood"] - TRUTH.log_likelihood()[NUM_EXAMPLES:]
    error = np.sqrt(np.mean(values["test_log_likelihood_error"] ** 2) / NUM_EXAMPLES)
    assert error < 0.04
    assert abs(difference.mean()) < 5.0 * error
    bracket = read(output).bracket
    assert abs(bracket.width.mean) < 0.1 + 5.0 * bracket.width.standard_error
    # The mean of log p(x) over the model's own x is -1/2 (d + log det(2 pi C)), its variance d / 2.
    covariance = TRUTH.weights @ TRUTH.weights.T + TRUTH.noise**2 * np.eye(4)
    entropy = 0.5 * (4 + np.linalg.slogdet(2.0 * np.pi * covariance)[1])
    assert abs(bracket.lower_bound.mean + entropy) < 5.0 * np.sqrt(2.0 / 60) + 0.1


def test_without_an_encoder_there_is_nothing_of_q(output: Path) -> None:
    evaluation = read(output)
    summary = evaluation.splits["test"]
    for name in ("elbo", "gap", "kl", "iwae_bound", "divergence", "weighted_divergence"):
        assert getattr(summary, name) is None
    assert (summary.active_units, summary.latent_dim, summary.num_not_finite) == (None, 2, 0)
    assert evaluation.settings.ais.initial == "prior"
    table = format_evaluation(evaluation)
    for word in ("ELBO", "gap", "KL", "D_SM", "active"):
        assert word not in table
    assert "log-likelihood (AIS)" in table
    assert "bracket" in table
    with np.load(output / "evaluation.npz") as arrays:
        assert not [name for name in arrays if "elbo" in name or "gap" in name]


def test_the_results_say_whose_they_are(output: Path, data: Dataset) -> None:
    written = json.loads((output / "evaluation.json").read_text())
    assert written["run"] is None
    model = read(output).model
    assert model is not None
    assert model.code.name.endswith("test_outside:Decoder")
    assert model.code.file == __file__
    assert model.data_fingerprint == data.fingerprint
    assert read(output).to_json() == written


def test_shards_give_the_same_bits(output: Path, data: Dataset, tmp_path: Path) -> None:
    source = OutsideModel(Decoder(), data, tmp_path)
    for number in (1, 2):
        assert evaluate(source, CONFIG, shard=Shard(number, 2)) is None
    assert not (tmp_path / "evaluation.json").exists()
    evaluate(source, CONFIG, merge=True)
    for name in ("evaluation.json", "evaluation.npz"):
        assert (tmp_path / name).read_bytes() == (output / name).read_bytes()


def test_results_are_not_those_of_a_changed_model(output: Path, data: Dataset) -> None:
    """Catches weights that change under the same name, here by 0.01: hundredths of a nat."""
    with refused("model") as caught:
        evaluate(OutsideModel(Decoder(0.01), data, output), CONFIG, merge=True)
    assert "is not the model whose results are in" in str(caught.value)
    assert evaluate(OutsideModel(Decoder(), data, output), CONFIG, merge=True) == read(output)


@pytest.mark.slow
def test_an_encoder_brings_elbo_and_gap(data: Dataset, tmp_path: Path) -> None:
    """With the exact posterior all bounds are log p(x) and the gap is 0: catches 0.1 nat."""
    evaluation = evaluate(OutsideModel(Complete(), data, tmp_path), CONFIG)
    assert evaluation is not None
    summary = evaluation.splits["test"]
    truth = TRUTH.log_likelihood()[NUM_EXAMPLES:].mean()
    assert summary.gap is not None
    assert summary.elbo is not None
    assert summary.iwae_bound is not None
    assert summary.elbo.monte_carlo_error is not None
    assert summary.log_likelihood.mean == pytest.approx(truth, abs=1e-3)
    assert summary.iwae_bound.mean == pytest.approx(truth, abs=1e-3)
    error = summary.elbo.monte_carlo_error
    assert abs(summary.gap.mean) < 5.0 * error + 1e-3
    assert error < 0.02
    assert summary.active_units == 2
    assert "gap = log-likelihood - ELBO" in format_evaluation(evaluation)


@pytest.mark.slow
def test_every_other_kind_of_evaluation_works(data: Dataset, tmp_path: Path) -> None:
    """The best diagonal q(z|x) of an exact encoder gains nothing: catches 0.05 nat."""
    small = dataclasses.replace(CONFIG, num_examples=20, num_simulated=50)
    local = dataclasses.replace(small, local=True, local_steps=100)
    evaluation = evaluate(OutsideModel(Complete(), data, tmp_path / "complete"), local)
    assert evaluation is not None
    summary = evaluation.splits["test"]
    assert summary.local is not None
    assert abs(summary.local.families["full"].amortization_gap.mean) < 0.05
    source = OutsideModel(Decoder(), data, tmp_path / "decoder")
    chosen = evaluate(source, dataclasses.replace(small, accuracy=0.3))
    assert chosen is not None
    assert chosen.temperatures is not None
    convergence = measure_convergence(source, small, (12, 40))
    assert convergence is not None
    assert convergence.settings.ais.initial == "prior"
    written = json.loads((tmp_path / "decoder" / "convergence.json").read_text())
    assert written["model"]["code"]["name"].endswith("test_outside:Decoder")


def test_what_needs_an_encoder_is_refused_and_leaves_nothing(data: Dataset, tmp_path: Path) -> None:
    source = OutsideModel(Decoder(), data, tmp_path / "output")
    with refused("local") as caught:
        evaluate(source, dataclasses.replace(CONFIG, local=True))
    assert "has no encode" in str(caught.value)
    with pytest.raises(SMVIError, match="results are missing"):
        evaluate(source, CONFIG, merge=True)
    assert not (tmp_path / "output").exists()


def test_other_processes_are_refused(output: Path, data: Dataset) -> None:
    source = OutsideModel(Decoder(), data, output)
    with refused("engine"), Processes(1) as engine:
        evaluate(source, dataclasses.replace(CONFIG, seed=1), engine=engine)


@pytest.mark.parametrize("name", ["config.json", "sweep.json"])
def test_a_run_directory_is_no_place_for_the_results(
    name: str, data: Dataset, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("{}")
    with refused("output", str(tmp_path)):
        evaluate(OutsideModel(Decoder(), data, tmp_path), CONFIG)


class Bits(Decoder):
    """p(x|z) of bits."""

    def decode(self, z: tf.Tensor) -> tfd.Distribution:
        logits = tf.reduce_sum(z, axis=-1)[..., None] * tf.ones(4)
        return tfd.Independent(tfd.Bernoulli(logits=logits), 1)

    log_likelihood = simulate = None  # type: ignore[assignment]


def test_intensities_are_refused_where_bits_are_needed(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((60, 4), np.float32)
    data = Dataset.from_arrays(x, x, name="grey")
    with refused("binarize") as caught:
        evaluate(OutsideModel(Bits(), data, tmp_path), CONFIG)
    assert "is a density of bits, and grey has intensities between" in str(caught.value)
    # With bits, the only thing that is missing is the result.
    with pytest.raises(SMVIError, match="results are missing"):
        evaluate(OutsideModel(Bits(), data, tmp_path, binarize=True), CONFIG, merge=True)
    real = Dataset.from_arrays(x - 0.5, x, kind="real", name="real")
    with refused("binarize", True):
        evaluate(OutsideModel(Bits(), real, tmp_path, binarize=True), CONFIG)


def test_a_function_is_named_before_it_is_imported_and_its_change_is_reported(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Notes:
        """A reporter that keeps notes."""

        def __init__(self) -> None:
            self.lines: list[str] = []
            self.note = self.warn = self.lines.append

    monkeypatch.chdir(tmp_path)
    path = Path("my_decoder.py").absolute()
    path.write_text(f"from {__name__} import Decoder\n\ndef build():\n    return Decoder()\n")
    source = OutsideModel("my_decoder:build", data, "out")
    for text, expected in (("", 0), ("# more\n", 1)):
        path.write_text(path.read_text() + text)
        sys.modules.pop("my_decoder", None)
        notes: Any = Notes()
        with session.open_session(source, reporter=notes) as opened:
            opened.subject.keep()
        assert notes.lines[0] == f"Model: imports my_decoder:build ({path})"
        assert "The model has no encode: chains start at the prior" in notes.lines[2]
        assert len([line for line in notes.lines if "has changed since" in line]) == expected
