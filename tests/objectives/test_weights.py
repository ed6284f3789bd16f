"""The weight of the divergence: its warm-up against the formula, and the warning about it."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfp_smvi.objectives.weights import FixedWeight


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_scale_grows_as_a_power_of_the_step_and_then_is_one(power):
    weight = FixedWeight(2.0, warmup_steps=10, warmup_power=power)
    expected = np.minimum(np.arange(15) / 10, 1.0) ** power
    scales = [float(weight.scale(tf.constant(step))) for step in range(15)]
    # Float32 rounding of a power.
    np.testing.assert_allclose(scales, expected, rtol=1e-6)
    assert scales[10:] == [1.0] * 5


def test_scale_is_the_same_for_a_tensor_in_a_graph_and_for_a_number():
    weight = FixedWeight(2.0, warmup_steps=7, warmup_power=1.7)
    scale = tf.function(weight.scale)
    for step in range(9):
        in_a_graph = float(scale(tf.constant(step, tf.int64)))
        # TensorFlow's power rounds differently in a graph: one unit of float32.
        assert in_a_graph == pytest.approx(float(weight.scale(step)), rel=1e-6)


@pytest.mark.parametrize(("lam", "power"), [(2.0, 1.7), (-0.5, 1.0), (0.0, 2.0), (math.inf, 2.0)])
def test_the_weight_reached_is_that_of_the_training_step(lam, power):
    """Up to the rounding of float32; at lam = inf there is no warm-up."""
    weight = FixedWeight(lam, warmup_steps=7, warmup_power=power)
    for step in (0, 3, 7, 9):
        expected = lam if math.isinf(lam) else lam * float(weight.scale(tf.constant(step)))
        assert weight.reached(step) == pytest.approx(expected, rel=1e-6)


def test_weight_without_a_warm_up_is_full_from_the_start():
    weight = FixedWeight(0.5)
    assert weight.scale(0) == 1.0
    assert weight.unfinished(0) is None
    assert weight.variables == {}


@pytest.mark.parametrize(
    ("lam", "step", "growth"),
    [
        (2.0, 5, "0.5 of 2"),
        (-1.0, 1, "-0.01 of -1"),
        (2.0, 10, None),
        (0.0, 5, None),
        (math.inf, 5, None),
    ],
)
def test_a_training_that_ends_within_the_warm_up_is_noted(lam, step, growth):
    note = FixedWeight(lam, warmup_steps=10, warmup_power=2.0).unfinished(step)
    assert (note is None) == (growth is None)
    if growth:
        assert f"lam grows to {growth} only" in note
        assert "raise {epochs} or give fewer {lam_warmup_steps}" in note


@pytest.mark.parametrize(("steps_per_epoch", "epochs"), [(3, 4), (5, 2), (10, 1), (11, 1)])
def test_the_warning_names_the_fewest_epochs_that_reach_lam(steps_per_epoch, epochs):
    weight = FixedWeight(2.0, warmup_steps=10, warmup_power=2.0)
    assert f"raise {{epochs}} to {epochs} or" in weight.unfinished(1, steps_per_epoch)
    assert weight.unfinished(epochs * steps_per_epoch, steps_per_epoch) is None
    assert (epochs - 1) * steps_per_epoch < 10
