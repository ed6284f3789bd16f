"""Training: what is optimized, what is recorded and what is refused.

Interruptions are in test_resume.py, faults of the process and of the machine in test_faults.py.
"""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import runs
from tests.support.runs import (
    CONFIG,
    EPOCHS,
    STEPS_PER_EPOCH,
    Recorder,
    assert_same_run,
    config,
    newest,
)
from tfp_smvi.config import DataConfig, ModelConfig, RunConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import ArraySplit, Dataset, eval_batches, load_dataset, train_batches
from tfp_smvi.data.batches import batch_indices
from tfp_smvi.data.test_batches import TEST_SEED
from tfp_smvi.models.dependence import Dependence
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.loading import load_run
from tfp_smvi.runs.records import TEST_METRICS, TRAIN_METRICS, read_history
from tfp_smvi.training import running
from tfp_smvi.training.checks import resolve
from tfp_smvi.training.loop import fit
from tfp_smvi.training.results import FitResult
from tfp_smvi.training.trainer import Trainer

tfd = tfp.distributions


def metrics(result: FitResult) -> list[dict[str, Any]]:
    """The history without the times."""
    return [
        {key: value for key, value in record.to_json().items() if key != "seconds"}
        for record in result.history
    ]


def make_trainer(digits: Dataset, **settings: Any) -> Trainer:
    chosen = config(**settings)
    model = VAE(resolve(chosen, digits).model, digits.image_shape)
    return Trainer(model, chosen.train, STEPS_PER_EPOCH)


# What is optimized and recorded.


def test_training_improves_the_objective_on_training_and_test_data(trained: FitResult) -> None:
    first, last = trained.history[0], trained.history[-1]
    for split in ("train", "test"):
        # Of 40 nats.
        assert getattr(last, split).elbo > getattr(first, split).elbo + 1.0


def test_every_epoch_is_recorded_in_the_history_and_in_the_log(trained: FitResult) -> None:
    lines = (trained.run_dir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [record.to_json() for record in trained.history]
    assert [record.epoch for record in trained.history] == list(range(1, EPOCHS + 1))
    assert [record.step for record in trained.history] == [
        STEPS_PER_EPOCH * n for n in range(1, EPOCHS + 1)
    ]
    for record in trained.history:
        assert tuple(record.train.to_json()) == TRAIN_METRICS
        assert tuple(record.test.to_json()) == TEST_METRICS
        assert record.seconds > 0


def test_metrics_are_consistent_with_each_other(trained: FitResult) -> None:
    for record in trained.history:
        for values in (record.train, record.test):
            # Sums of float32 numbers of about 40.
            assert values.elbo == pytest.approx(values.reconstruction - values.kl, abs=1e-4)
            assert values.divergence > 0
            assert values.kl > 0
        test = record.test
        # Of the lam that the warm-up of 100 steps has reached.
        assert record.lam == 0.5 * min(record.step / 100, 1.0) ** 2
        assert test.objective == pytest.approx(test.elbo - record.lam * test.divergence, abs=1e-4)


@pytest.mark.slow
def test_the_weighted_divergence_is_trained_tested_and_recorded(digits: Dataset) -> None:
    """Both divergences start from the same weights, x and z; lam = 0 computes it for the test."""
    test = eval_batches(digits.test, batch_size=200, seed=0, binarize=True)
    fisher, weighted, neither = (
        make_trainer(digits, lam=lam, divergence=divergence, lam_warmup_steps=0)
        for lam, divergence in ((2.0, "fisher"), (2.0, "weighted"), (0.0, "weighted"))
    )
    before = [trainer.test(test) for trainer in (fisher, weighted, neither)]
    assert before[0].elbo == before[1].elbo
    assert before[1].divergence == before[2].divergence != before[0].divergence
    batches = iter(train_batches(digits.train, batch_size=32, seed=0, num_steps=4, binarize=True))
    objective, elbo, *_, divergence, _ = weighted.train(batches, 3).T
    # Float32 sums of numbers of about 40.
    np.testing.assert_allclose(objective, elbo - 2.0 * divergence, rtol=0, atol=1e-4)
    after = weighted.test(test)
    assert after.objective == pytest.approx(after.elbo - 2.0 * after.divergence, abs=1e-4)
    assert np.isnan(neither.train(batches, 1)[0, TRAIN_METRICS.index("divergence")])


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_lam_grows_as_told_over_its_warm_up(power: float, digits: Dataset) -> None:
    """A factor that is off by one step, or a warm-up without an end, would show."""
    trainer = make_trainer(digits, lam=2.0, lam_warmup_steps=10, lam_warmup_power=power)
    batches = iter(train_batches(digits.train, batch_size=32, seed=0, num_steps=20, binarize=True))
    rows = trainer.train(batches, 15)
    objective, elbo, *_, divergence, _ = rows.T
    scale = np.minimum(np.arange(15) / 10, 1.0) ** power
    # Float32 sums of numbers of about 40.
    np.testing.assert_allclose(objective, elbo - 2.0 * scale * divergence, rtol=0, atol=1e-4)
    assert divergence.min() > 1e-3
    assert trainer.step == 15


def test_clipping_bounds_the_first_update(digits: Dataset) -> None:
    """Adam's first update is rate * g / (|g| + 1e-7): near the rate for |g| above 1e-7."""
    changes = {}
    for clip in (100.0, 1e-10):
        trainer = make_trainer(digits, clip_norm=clip)
        before = trainer.arrays()
        batches = iter(
            train_batches(digits.train, batch_size=32, seed=0, num_steps=1, binarize=True)
        )
        norm = trainer.train(batches, 1)[0, TRAIN_METRICS.index("gradient_norm")]
        assert norm > 1.0  # what is recorded is the norm before clipping
        after = trainer.arrays()
        weights = [name for name in before if name.startswith("learner")]
        changes[clip] = max(np.abs(after[name] - before[name]).max() for name in weights)
    rate = CONFIG.train.learning_rate
    assert 0.5 * rate < changes[100.0] < 1.1 * rate
    assert changes[1e-10] < 0.01 * rate


def test_the_model_is_the_moving_average_of_the_weights(digits: Dataset) -> None:
    """Weights of another step, a wrong share, or a missing weight would show: 1e-3 a step."""
    trainer = make_trainer(digits, averaging_steps=12)
    batches = iter(train_batches(digits.train, batch_size=32, seed=0, num_steps=35, binarize=True))
    averages: dict[str, np.ndarray] = {}
    for step in range(35):
        trainer.train(batches, 1)
        arrays = trainer.arrays()
        learner = {
            name.removeprefix("learner/"): value
            for name, value in arrays.items()
            if name.startswith("learner")
        }
        averages = averages or learner  # the first step's weights are the first average
        if step % 10 == 0 or step < 10:
            share = 1 if step < 10 else 10 / min(12, 10 + step / 10)
            averages = {name: old + share * (learner[name] - old) for name, old in averages.items()}
        for name, average in averages.items():
            # Some roundings of float32 numbers of at most 1.
            np.testing.assert_allclose(arrays[name], average, rtol=0, atol=1e-6)
    assert len(averages) == len(trainer.model.trainable_variables)
    assert max(np.abs(averages[name] - learner[name]).max() for name in averages) > 1e-3


@pytest.mark.slow
def test_averaging_leaves_the_training_as_it_is(digits: Dataset) -> None:
    rows, weights = {}, {}
    for steps in (0, 50):
        trainer = make_trainer(digits, averaging_steps=steps)
        batches = iter(
            train_batches(digits.train, batch_size=32, seed=0, num_steps=30, binarize=True)
        )
        rows[steps], weights[steps] = trainer.train(batches, 30), trainer.arrays()
    np.testing.assert_array_equal(rows[0], rows[50])
    assert not [name for name in weights[0] if name.startswith("learner")]
    for name, value in weights[0].items():
        trained = name if name.startswith("optimizer") else f"learner/{name}"
        np.testing.assert_array_equal(value, weights[50][trained])


def test_test_metrics_are_means_over_images_whatever_the_batch_size(
    digits: Dataset, trained: FitResult
) -> None:
    """The KL divergence has no noise; a mean over batches would overweigh the last one."""
    trainer = Trainer(trained.model, CONFIG.train, STEPS_PER_EPOCH)
    kl = []
    for size in (360, 77):
        tested = trainer.test(eval_batches(digits.test, batch_size=size, seed=0, binarize=True))
        kl.append(tested.kl)
    assert kl[0] == pytest.approx(kl[1], rel=1e-5)
    assert kl[0] == pytest.approx(trained.history[-1].test.kl, rel=1e-6)


def test_lam_zero_computes_the_divergence_for_the_test_only(
    digits: Dataset, tmp_path: Path
) -> None:
    result = fit(config(lam=0.0, epochs=2), digits, tmp_path / "run")
    assert runs.records(tmp_path / "run")[0]["train"]["divergence"] is None
    for record in (*result.history, *read_history(tmp_path / "run" / "metrics.jsonl")):
        assert math.isnan(record.train.divergence)
        assert record.test.divergence > 0
        assert record.test.objective == record.test.elbo
        assert record.train.objective == record.train.elbo


def test_negative_lam_rewards_the_divergence(digits: Dataset, tmp_path: Path) -> None:
    result = fit(config(lam=-0.1, epochs=1), digits, tmp_path / "run")
    record = result.history[-1]
    test = record.test
    assert record.lam == -0.1 * (record.step / 100) ** 2  # the warm-up has 100 steps
    assert test.objective == pytest.approx(test.elbo - record.lam * test.divergence, abs=1e-4)
    assert test.objective > test.elbo


def test_infinite_lam_minimizes_the_divergence_alone(digits: Dataset, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="The posterior has collapsed"):
        result = fit(config(lam=math.inf, epochs=3), digits, tmp_path / "run")
    for record in result.history:
        assert record.train.objective == -record.train.divergence
        assert record.test.objective == -record.test.divergence
    assert result.history[-1].train.divergence < result.history[0].train.divergence


def test_data_of_another_name_are_refused(digits: Dataset, tmp_path: Path) -> None:
    """The run would say that it was trained on what it was not."""
    other = dataclasses.replace(CONFIG, data=DataConfig("mnist"))
    with pytest.raises(SMVIError) as caught:
        fit(other, digits, tmp_path / "run")
    assert (caught.value.field, caught.value.value) == ("dataset", "mnist")
    assert not (tmp_path / "run").exists()


def test_gaussian_likelihood_follows_from_real_valued_data_and_trains(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    # Two latent dimensions in ten, with noise of standard deviation 0.1.
    x = rng.normal(size=(1200, 2)) @ rng.normal(size=(2, 10)) + 0.1 * rng.normal(size=(1200, 10))
    np.savez(
        tmp_path / "real.npz",
        x_train=x[:1000].astype(np.float32),
        x_test=x[1000:].astype(np.float32),
    )
    dataset = load_dataset(str(tmp_path / "real.npz"))
    settings = RunConfig(
        DataConfig(str(tmp_path / "real.npz")), CONFIG.model, config(epochs=6).train
    )
    result = fit(settings, dataset, tmp_path / "run")
    assert load_run(tmp_path / "run").config.model.likelihood == "gaussian"
    # A Gaussian that ignores the latent variables reaches about -17 nats.
    assert result.history[-1].test.elbo > result.history[0].test.elbo + 1.0
    wrong = RunConfig(settings.data, ModelConfig(likelihood="bernoulli"), settings.train)
    with pytest.raises(SMVIError) as caught:
        fit(wrong, dataset, tmp_path / "other")
    assert (caught.value.field, caught.value.value) == ("likelihood", "bernoulli")
    assert not (tmp_path / "other").exists()


def test_values_too_large_to_train_on_are_to_be_scaled(tmp_path: Path) -> None:
    x = np.linspace(-1e30, 1e30, 400, dtype=np.float32).reshape(40, 10)
    np.savez(tmp_path / "large.npz", x_train=x, x_test=x)
    settings = RunConfig(DataConfig(str(tmp_path / "large.npz")), CONFIG.model, config().train)
    with pytest.raises(SMVIError, match=r"not finite at step 1 .*; scale the data"):
        fit(settings, load_dataset(settings.data.dataset), tmp_path / "run", reporter=Recorder())


@pytest.mark.parametrize("minutes", [0.0, -1.0, math.nan])
def test_saving_at_no_time_is_refused(minutes: float, digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SMVIError) as caught:
        fit(CONFIG, digits, tmp_path / "run", checkpoint_minutes=minutes)
    assert caught.value.field == "checkpoint_minutes"
    assert not (tmp_path / "run").exists()


def test_start_from_the_beginning_is_not_silent_where_the_log_has_epochs(
    trained: FitResult, digits: Dataset, tmp_path: Path
) -> None:
    run_dir = Path(shutil.copytree(trained.run_dir, tmp_path / "run"))
    shutil.rmtree(run_dir / "checkpoints")
    recorder = Recorder()
    # A path may be a text, as in load_run and evaluate.
    fit(CONFIG, digits, str(run_dir), reporter=recorder)
    (warning,) = recorder.warnings
    assert "no checkpoint" in warning
    assert recorder.begins == [0]
    assert_same_run(run_dir, trained.run_dir)


def test_batch_larger_than_the_data_is_refused(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SMVIError) as caught:
        fit(config(batch_size=1438), digits, tmp_path / "run")
    assert (caught.value.field, caught.value.value) == ("batch_size", 1438)


# What is refused, and what is not finite.


def test_changed_data_under_the_same_name_are_refused(tmp_path: Path) -> None:
    path, rng = tmp_path / "mine.npz", np.random.default_rng(0)
    settings = RunConfig(DataConfig(str(path)), CONFIG.model, config(epochs=1).train)
    for attempt in range(2):
        images = rng.integers(0, 256, (2, 64, 3, 3), dtype=np.uint8)
        np.savez(path, x_train=images[0], x_test=images[1])
        if attempt == 0:
            fit(settings, load_dataset(str(path)), tmp_path / "run")
    with pytest.raises(SMVIError, match=r"data\.fingerprint: \w+ here, \w+ given"):
        fit(settings, load_dataset(str(path)), tmp_path / "run")


@pytest.mark.slow
def test_non_finite_step_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    """An example overflows float32; the first epoch leaves it out, and the second meets it."""
    batch, count = 32, 65
    visits = [batch_indices(step, count, batch, 0).numpy() for step in range(8)]
    (bad,) = set(range(count)) - set(np.concatenate(visits[:2]).tolist())
    first = next(step for step, indices in enumerate(visits) if bad in indices)
    assert first >= 2
    pixels = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    pixels[bad] = 1e30
    dataset = Dataset(
        "digits",
        ArraySplit(pixels, None, "real"),
        ArraySplit(np.delete(pixels, bad, 0), None, "real"),
        None,
        "0",
    )
    run_dir = tmp_path / "run"
    with pytest.raises(SMVIError) as stop:
        fit(config(), dataset, run_dir, reporter=Recorder())
    kept = 2 * (first // 2)
    message = f"not finite at step {first + 1} (the checkpoint at step {kept} is intact)"
    assert message in str(stop.value)
    assert "\n" not in str(stop.value)
    checkpoint = newest(run_dir)
    assert checkpoint.step == kept
    assert all(np.isfinite(array).all() for array in checkpoint.arrays.values())
    # The same again, and not a run that goes on with broken weights.
    with pytest.raises(SMVIError, match=f"not finite at step {first + 1}"):
        fit(config(), dataset, run_dir, reporter=Recorder())


def test_last_step_that_breaks_the_model_is_found_by_the_test(
    digits: Dataset, tmp_path: Path
) -> None:
    """One step an epoch: its own objective is that of the good weights before it."""
    count = digits.train.num_examples
    with pytest.raises(SMVIError, match=r"on the test data is not finite at step 1 \(no check"):
        fit(config(learning_rate=1e30, batch_size=count, epochs=1), digits, tmp_path / "run")
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


# Other arithmetic.


def test_logged_metrics_of_the_same_weights_agree_in_both_precisions(
    digits: Dataset, trained: FitResult
) -> None:
    """Sums over the test data or the batch in bfloat16 are 0.08 nat off here, and 1 nat on MNIST.

    Those of the test are computed in float32 in both. In the training, the roundings of 1437 * 64
    pixels average out: 0.00005 nat was measured. The 0.02 nat covers other machines, and holds for
    each metric of a step.
    """
    rows = {}
    for precision in ("float32", "bfloat16"):
        chosen = config(precision=precision, averaging_steps=0, lam_warmup_steps=0).train
        trainer = Trainer(trained.model.copy(), chosen, STEPS_PER_EPOCH)
        every_image = digits.train.num_examples
        batches = iter(
            train_batches(digits.train, batch_size=every_image, seed=0, num_steps=1, binarize=True)
        )
        if precision == "bfloat16":
            test = eval_batches(digits.test, batch_size=1000, seed=TEST_SEED, binarize=True)
            assert trainer.test(test) == trained.history[-1].test
        (row,) = trainer.train(batches, 1)
        rows[precision] = row[:-1]  # without the norm of the gradient, which is in no nats
        assert all(variable.dtype == "float32" for variable in trainer.model.trainable_variables)
    assert not np.array_equal(rows["bfloat16"], rows["float32"])
    np.testing.assert_allclose(rows["bfloat16"], rows["float32"], rtol=0, atol=0.02)


@pytest.mark.slow
def test_xla_agrees_with_the_uncompiled_step(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Float32 sums in another order differ by 1e-7, which 20 steps of Adam multiply; not to 1e-3.

    XLA has a random generator of its own, so both get the same noise here.
    """
    noise = tf.constant(np.random.default_rng(0).normal(size=(32, 4)), tf.float32)
    monkeypatch.setattr(
        tfd.Independent, "sample", lambda self, seed: self.mean() + self.stddev() * noise
    )
    rows = {}
    for xla in ("off", "on"):
        trainer = make_trainer(digits, xla=xla)
        batches = iter(
            train_batches(digits.train, batch_size=32, seed=0, num_steps=20, binarize=True)
        )
        rows[xla] = trainer.train(batches, 20)
    np.testing.assert_allclose(rows["on"], rows["off"], rtol=1e-3)


@pytest.mark.slow
def test_a_collapsed_posterior_is_warned_of_until_it_recovers(
    digits: Dataset,
    reference: runs.ReferenceRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By `fit`, `load_run` and the command, in each of which the last epoch decides."""
    run_dir = Path(shutil.copytree(reference.run_dir, tmp_path / "run"))
    monkeypatch.setattr(running, "measure_dependence", lambda model, x: Dependence(0, 0.002))
    warned = "The posterior has collapsed: on test data, no latent is active"
    with pytest.warns(UserWarning, match=warned):
        result = fit(config(epochs=EPOCHS + 1), digits, run_dir)
    (line,) = result.warnings
    assert "reconstructions do not depend on x" in line
    assert line.endswith("Lower lam, or raise lam_warmup_steps or epochs.")
    last = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["active_units"], last["reconstruction_change"]) == (0, 0.002)
    with pytest.warns(UserWarning, match=warned):
        load_run(run_dir)
    options = (*runs.OPTIONS, "--epochs", str(EPOCHS + 1), "--run-dir", str(run_dir))
    assert runs.call("train", *options) == 0
    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        assert "The posterior has collapsed" in " ".join(text.split())
    assert "--lam-warmup-steps" in captured.out
    monkeypatch.undo()
    result = fit(config(epochs=EPOCHS + 2), digits, run_dir)
    assert result.warnings == ()
    assert result.history[-1].active_units == 4
    gain = result.history[-1].reconstruction_change
    assert gain is not None
    assert gain > 0.1
