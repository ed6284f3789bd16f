"""The state of the user's process is not taken for the package's own, and stays as it was."""

import contextlib
import dataclasses
import os
import random
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow_probability import distributions as tfd

from tests.support.errors import refused
from tests.support.runs import CONFIG, STEPS_PER_EPOCH, Recorder, assert_same_bits, config, newest
from tfp_smvi.config import ModelConfig
from tfp_smvi.core.runtime import numerics_unchecked
from tfp_smvi.data import Dataset, eval_batches, train_batches
from tfp_smvi.data.test_batches import TEST_SEED
from tfp_smvi.export.signatures import decoder_part, encoder_part
from tfp_smvi.inference.ais import annealed_importance_sampling
from tfp_smvi.inference.importance import importance_weighted_bound
from tfp_smvi.inference.results import AISResult
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.loading import load_run
from tfp_smvi.runs.records import TRAIN_METRICS
from tfp_smvi.training.checks import resolve
from tfp_smvi.training.loop import fit
from tfp_smvi.training.results import FitResult
from tfp_smvi.training.trainer import Trainer

State = AbstractContextManager[object]


@contextlib.contextmanager
def changed(get: Callable[[], Any], change: Callable[[Any], object], value: Any) -> Iterator[None]:
    """Sets a global to a value, and back."""
    before = get()
    change(value)
    try:
        yield
    finally:
        change(before)


def keras_policy(policy: str) -> State:
    return changed(keras.config.dtype_policy, keras.config.set_dtype_policy, policy)


def optimizer_option(name: str) -> State:
    options = tf.config.optimizer
    return changed(lambda: False, lambda on: options.set_experimental_options({name: on}), True)


# What a user may have set, and may go on to use while the package runs.
HARMLESS: dict[str, Callable[[], State]] = {
    "mixed_float16": lambda: keras_policy("mixed_float16"),
    "float64": lambda: keras_policy("float64"),
    "floatx": lambda: changed(keras.config.floatx, keras.config.set_floatx, "float16"),
    "tf_keras floatx": lambda: changed(
        tf_keras.backend.floatx, tf_keras.backend.set_floatx, "float64"
    ),
    "name scope": lambda: keras.name_scope("mine"),
    "NumPy raises": lambda: np.errstate(all="raise"),
    "device": lambda: tf.device("/cpu:0"),
}


def densities(run_dir: Path, x: np.ndarray) -> dict[str, np.ndarray]:
    """What a loaded model gives for images, through its densities and its network."""
    model = load_run(run_dir).model
    mean = model.encode(x).mean()
    direct = model.encoder(tf.reshape(x, [len(x), -1]))
    joint = model.log_joint(tf.constant(x), mean)
    return {"mean": mean.numpy(), "direct": direct.numpy(), "log_joint": joint.numpy()}


def test_loaded_model_computes_in_float32_whatever_the_users_globals_are(
    trained: FitResult, digits: Dataset
) -> None:
    x = digits.test.images(np.arange(50))
    expected = densities(trained.run_dir, x)
    for harmless in HARMLESS.values():
        with harmless():
            assert_same_bits(densities(trained.run_dir, x), expected)


def test_training_gives_the_same_bits_and_leaves_all_globals_as_they_are(
    trained: FitResult, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them at once, with other seeds, and a working directory that changes in the epoch."""

    def state() -> list[object]:
        return [
            keras.config.dtype_policy().name,
            keras.config.floatx(),
            tf_keras.backend.floatx(),
            np.geterr(),
            repr(np.random.get_state()),  # noqa: NPY002
            random.getstate(),
            warnings.filters[:],
            signal.getsignal(signal.SIGINT),
            signal.getsignal(signal.SIGTERM),
            tf.config.optimizer.get_experimental_options(),
            Path.cwd(),
            dict(os.environ),
        ]

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    move = Recorder(10, lambda: monkeypatch.chdir(tmp_path / "elsewhere"))
    with ExitStack() as states:
        for harmless in HARMLESS.values():
            states.enter_context(harmless())
        keras.utils.set_random_seed(99)
        before = state()
        result = fit(config(epochs=1, precision="float32"), digits, "run", reporter=move)
        after = state()
    before[-2] = tmp_path / "elsewhere"
    assert after == before
    (one,) = result.history
    assert (one.train, one.test) == (trained.history[0].train, trained.history[0].test)
    assert result.run_dir == tmp_path / "run"
    assert load_run(tmp_path / "run").step == one.step


def test_functions_that_run_eagerly_measure_and_train_alike(
    trained: FitResult, digits: Dataset
) -> None:
    trainer = Trainer(trained.model.copy(), CONFIG.train, STEPS_PER_EPOCH)
    trainer.assign(newest(trained.run_dir).arrays)  # at the step whose lam the objective has
    step = trainer.step
    batches = iter(train_batches(digits.train, batch_size=32, seed=0, num_steps=1, binarize=True))
    test = eval_batches(digits.test, batch_size=1000, seed=TEST_SEED, binarize=True)
    tf.config.run_functions_eagerly(True)
    try:
        metrics = trainer.test(test)
        trainer.train(batches, 1)
    finally:
        tf.config.run_functions_eagerly(False)
    # Operations that are not fused round otherwise: float32 sums of about 40.
    np.testing.assert_allclose(
        dataclasses.astuple(metrics), dataclasses.astuple(trained.history[-1].test), rtol=1e-5
    )
    assert trainer.step == step + 1


def test_graphs_and_rewrites_to_a_lower_precision_are_refused(
    trained: FitResult, digits: Dataset, tmp_path: Path
) -> None:
    for state in (
        tf.Graph().as_default(),
        optimizer_option("auto_mixed_precision_onednn_bfloat16"),
    ):
        with state:
            with refused(None):
                load_run(trained.run_dir)
            with refused(None):
                fit(CONFIG, digits, tmp_path / "run")
    assert load_run(trained.run_dir)
    assert not (tmp_path / "run").exists()


def test_training_refuses_the_scope_of_a_strategy_in_which_a_model_can_be_used(
    trained: FitResult, digits: Dataset, tmp_path: Path
) -> None:
    x = digits.test.images(np.arange(5))
    expected = load_run(trained.run_dir).model.encode(x).mean().numpy()
    for strategy in (tf.distribute.OneDeviceStrategy("/cpu:0"), tf.distribute.MirroredStrategy()):
        with strategy.scope():
            with refused(None) as caught:
                fit(CONFIG, digits, tmp_path / "run")
            assert type(strategy).__name__ in str(caught.value)
            loaded = load_run(trained.run_dir).model.encode(x).mean().numpy()
        np.testing.assert_array_equal(loaded, expected)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "record",
    [
        lambda: tf.GradientTape(persistent=True),
        lambda: tf.GradientTape(watch_accessed_variables=False),
        lambda: tf.autodiff.ForwardAccumulator(tf.constant(1.0), tf.constant(1.0)),
    ],
    ids=["persistent", "watching nothing", "forward"],
)
def test_training_refuses_to_be_recorded(
    record: Callable[[], State],
    digits: Dataset,
    tmp_path: Path,
) -> None:
    with record(), refused(None) as caught:
        fit(CONFIG, digits, tmp_path / "run")
    assert "records here" in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def checked_numerics() -> Iterator[None]:
    tf.debugging.enable_check_numerics()
    yield
    tf.debugging.disable_check_numerics()


@pytest.mark.usefixtures("checked_numerics")
def test_checked_numerics_find_no_marker_in_training_without_a_divergence(
    digits: Dataset,
) -> None:
    chosen = config(lam=0.0)
    trainer = Trainer(
        VAE(resolve(chosen, digits).model, digits.image_shape), chosen.train, STEPS_PER_EPOCH
    )
    batches = iter(train_batches(digits.train, batch_size=32, seed=0, num_steps=1, binarize=True))
    (row,) = trainer.train(batches, 1)
    missing = [name for name, value in zip(TRAIN_METRICS, row, strict=True) if np.isnan(value)]
    assert missing == ["divergence"]


@pytest.mark.usefixtures("checked_numerics")
def test_checked_numerics_are_suspended_where_infinity_has_a_meaning_and_only_there() -> None:
    """TFP marks with NaN what it has not computed, and a part of a chunk weighs exp(-inf)."""
    start = tfd.MultivariateNormalDiag(tf.zeros([3, 2]), tf.ones([3, 2]))
    bound = importance_weighted_bound(start.log_prob, start, num_samples=3, chunk_size=2, seed=0)
    np.testing.assert_allclose(bound.bound, np.zeros(3), atol=1e-6)  # float32 rounding
    result = annealed_importance_sampling(
        start.log_prob, start, step_size=tf.ones([1, 3]), seed=0, num_chains=1, num_temperatures=8
    )
    np.testing.assert_allclose(result.log_normalizer(), np.zeros(3), atol=1e-6)
    assert np.isnan(result.log_normalizer_standard_error()).all()  # one chain has none
    impossible = AISResult(tf.fill([2, 3], -np.inf), *result[1:])
    assert (impossible.log_normalizer().numpy() == -np.inf).all()
    assert np.isnan(impossible.log_normalizer_standard_error()).all()
    assert np.isnan(impossible.effective_sample_size()).all()
    with numerics_unchecked():
        assert np.isnan(tf.math.log(-1.0))
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.math.log(-1.0)


@pytest.mark.usefixtures("checked_numerics")
def test_an_export_has_no_operations_that_check_numerics() -> None:
    model = VAE(ModelConfig("bernoulli", latent_dim=2, hidden_sizes=(3,)), (4, 4, 1))
    for part in (encoder_part(model, kind="intensities"), decoder_part(model)):
        for function in part.signatures.values():
            assert "CheckNumerics" not in str(function.graph.as_graph_def())
