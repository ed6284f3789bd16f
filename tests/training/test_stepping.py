"""How steps are launched changes nothing but their time."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.support.runs import config
from tfp_smvi.config import ModelConfig
from tfp_smvi.core.runtime import Machine, environment, require_float32
from tfp_smvi.data import Dataset, eval_batches, train_batches
from tfp_smvi.models.vae import VAE
from tfp_smvi.training import stepping, trainer
from tfp_smvi.training.loop import fit
from tfp_smvi.training.trainer import Trainer

is_tf32 = tf.config.experimental.tensor_float_32_execution_enabled


@pytest.mark.slow
def test_blocks_of_steps_equal_single_ones(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: seven steps are two programs of three, and one step.

    XLA orders sums otherwise, which moves a weight of size one by 1e-7 in a step.
    """
    settings = config(xla="on").train
    monkeypatch.setattr(stepping, "STEPS_PER_BLOCK", 3)
    found = {}
    for on_gpu in (False, True):
        monkeypatch.setattr(trainer, "uses_gpu", lambda on_gpu=on_gpu: on_gpu)
        model = VAE(ModelConfig("bernoulli", 4, (16,)), digits.image_shape)
        made = Trainer(model, settings, 44)
        batches = train_batches(digits.train, batch_size=32, seed=0, binarize=True)
        found[on_gpu] = made.train(iter(batches), 7), made.arrays()
    rows, blocks = found[False][0], found[True][0]
    np.testing.assert_allclose(blocks, rows, rtol=1e-4, atol=1e-4)
    for name, array in found[False][1].items():
        np.testing.assert_allclose(found[True][1][name], array, rtol=0, atol=1e-5, err_msg=name)


def test_tf32_multiplies_in_training_steps_alone(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = []
    train, test = stepping.Stepper.take, Trainer.test
    monkeypatch.setattr(
        stepping.Stepper, "take", lambda *a: seen.append(("train", is_tf32())) or train(*a)
    )
    monkeypatch.setattr(Trainer, "test", lambda *a: seen.append(("test", is_tf32())) or test(*a))
    settings = dataclasses.replace(
        config(precision="tf32", epochs=1), model=ModelConfig(latent_dim=2, hidden_sizes=(8,))
    )
    fit(settings, digits, tmp_path / "run")
    assert {*seen} == {("train", True), ("test", False)}


def test_tf32_is_off_for_what_is_measured(digits: Dataset) -> None:
    tf.config.experimental.enable_tensor_float_32_execution(True)
    require_float32()  # fit, load_run and evaluate call it
    assert not is_tf32()
    assert len(next(iter(eval_batches(digits.test, batch_size=3, seed=0, binarize=True)))[0]) == 3


def test_machines_with_gpus_record_tf32() -> None:
    with_gpu, without = (Machine("Linux", "x86_64", gpus, 2) for gpus in (("A100",), ()))
    assert with_gpu.to_json()["tf32"] is False
    assert "tf32" not in without.to_json()
    assert Machine.from_json({**with_gpu.to_json(), "tf32": True}).tf32
    assert not environment().machine.tf32
