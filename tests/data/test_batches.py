"""Order, bits and restarts of the batches."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import ArraySplit, eval_batches, train_batches
from tfp_smvi.data.batches import batch_indices
from tfp_smvi.data.splits import hold_out


def make_split(num_examples: int = 23) -> ArraySplit:
    pixels = np.random.default_rng(0).integers(0, 256, (num_examples, 5, 3, 1), dtype=np.uint8)
    return ArraySplit(pixels, None)


def epoch_order(epoch: int, num_examples: int, batch_size: int, seed: int) -> np.ndarray:
    steps = num_examples // batch_size
    return np.concatenate(
        [
            batch_indices(step, num_examples, batch_size, seed).numpy()
            for step in range(epoch * steps, (epoch + 1) * steps)
        ]
    )


@pytest.mark.parametrize(("num_examples", "batch_size"), [(1, 1), (24, 4), (1000, 100)])
def test_each_epoch_visits_every_image_once(num_examples: int, batch_size: int) -> None:
    for epoch in (0, 1, 7):
        order = epoch_order(epoch, num_examples, batch_size, seed=3)
        np.testing.assert_array_equal(np.sort(order), np.arange(num_examples))


def test_order_differs_between_epochs_and_seeds_and_leaves_out_another_remainder() -> None:
    # Two of 1000! orders agree with a probability that is no concern.
    orders = [
        epoch_order(epoch, 1000, 300, seed)
        for epoch, seed in [(0, 0), (1, 0), (0, 1), (0, 1 << 40)]
    ]
    assert all(len(set(order.tolist())) == 900 for order in orders)
    for one in range(4):
        for other in range(one):
            assert set(orders[one].tolist()) != set(orders[other].tolist())


def test_batches_hold_the_images_at_their_indices() -> None:
    split = make_split()
    batches = train_batches(split, batch_size=5, seed=1, num_steps=9, binarize=False)
    assert batches.element_spec == tf.TensorSpec([5, 5, 3, 1], tf.float32)
    for step, x in enumerate(batches):
        # One float32 division by 255 in NumPy and in TensorFlow: they may differ in the last bit.
        expected = split.images(batch_indices(step, 23, 5, 1).numpy())
        np.testing.assert_allclose(x, expected, rtol=2.5e-7, atol=0)


@pytest.mark.parametrize("binarize", [False, True])
def test_restart_at_a_step_continues_with_the_same_batches(binarize: bool) -> None:
    split = make_split()
    whole = list(train_batches(split, batch_size=5, seed=1, num_steps=20, binarize=binarize))
    rest = list(
        train_batches(split, batch_size=5, seed=1, first_step=11, num_steps=9, binarize=binarize)
    )
    np.testing.assert_array_equal(np.stack(whole[11:]), np.stack(rest))


def test_training_without_num_steps_has_no_end() -> None:
    batches = train_batches(make_split(), batch_size=20, seed=0, first_step=10**9, binarize=True)
    assert batches.cardinality() == tf.data.INFINITE_CARDINALITY
    assert next(iter(batches)).shape == (20, 5, 3, 1)


def test_bits_have_the_probability_of_their_intensity() -> None:
    """Each of 256 grey levels is drawn 6400 times.

    A single level that is off by 0.04, or a bias of all levels of 0.002, would fail.
    """
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    split = ArraySplit(np.repeat(levels[np.newaxis], 64, axis=0), None)
    batches = train_batches(split, batch_size=64, seed=0, num_steps=100, binarize=True)
    bits = np.concatenate([x.numpy().reshape(64, 256) for x in batches])
    assert set(np.unique(bits)) == {0.0, 1.0}
    p = np.arange(256) / 255
    # 5 standard errors: by chance, a correct draw fails at one of 254 levels with probability 2e-4.
    standard_error = np.sqrt(p * (1 - p) / len(bits))
    assert (np.abs(bits.mean(0) - p) <= 5 * standard_error).all()
    assert abs((bits.mean(0) - p).mean()) < 5 * np.sqrt((standard_error**2).sum()) / 256


def test_bits_of_neighbouring_pixels_are_not_correlated() -> None:
    """Two pixels share a word of the generator; a correlation of 0.01 would fail."""
    split = ArraySplit(np.full((64, 8, 8, 1), 128, np.uint8), None)
    batches = train_batches(split, batch_size=64, seed=0, num_steps=200, binarize=True)
    bits = np.concatenate([x.numpy().reshape(-1, 2) for x in batches])
    # The standard error of a correlation of n independent pairs is 1 / sqrt(n).
    assert abs(np.corrcoef(bits.T)[0, 1]) < 5 / np.sqrt(len(bits))


def test_each_visit_draws_new_bits() -> None:
    split = ArraySplit(np.full((4, 16, 16, 1), 128, np.uint8), None)
    visits = list(train_batches(split, batch_size=4, seed=0, num_steps=3, binarize=True))
    # 1024 fair bits: two visits agree in half of them, with a standard error of 1/64.
    for one, other in [(0, 1), (1, 2), (0, 2)]:
        assert abs(np.mean(visits[one] == visits[other]) - 0.5) < 5 / 64


@pytest.mark.parametrize("binarize", [False, True])
def test_binary_images_stay_as_they_are(binarize: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (30, 8, 8, 1)).astype(np.float32)
    batches = eval_batches(ArraySplit(pixels, None), batch_size=7, seed=0, binarize=binarize)
    np.testing.assert_array_equal(np.concatenate([x for _, x in batches]), pixels)


@pytest.mark.parametrize("batch_size", [1, 7, 100, 128, 1000])
def test_evaluation_bits_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    split = make_split(250)
    batches = list(eval_batches(split, batch_size=batch_size, seed=0, binarize=True))
    assert [len(indices) for indices, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    np.testing.assert_array_equal(
        np.concatenate([indices for indices, _ in batches]), np.arange(250)
    )
    ((_, expected),) = list(eval_batches(split, batch_size=250, seed=0, binarize=True))
    np.testing.assert_array_equal(np.concatenate([x for _, x in batches]), expected)


@pytest.mark.parametrize(("start", "num_examples"), [(0, 1), (99, 2), (37, 180), (249, None)])
def test_evaluation_bits_do_not_depend_on_the_part(start: int, num_examples: int | None) -> None:
    split = make_split(250)
    ((_, whole),) = list(eval_batches(split, batch_size=250, seed=0, binarize=True))
    part = eval_batches(
        split, batch_size=60, seed=0, binarize=True, start=start, num_examples=num_examples
    )
    indices = np.concatenate([indices for indices, _ in part])
    np.testing.assert_array_equal(
        indices, np.arange(start, 250 if num_examples is None else start + num_examples)
    )
    np.testing.assert_array_equal(np.concatenate([x for _, x in part]), whole.numpy()[indices])


def test_evaluation_bits_differ_between_seeds_and_images() -> None:
    split = ArraySplit(np.full((250, 16, 16, 1), 128, np.uint8), None)
    ((_, one),) = list(eval_batches(split, batch_size=250, seed=0, binarize=True))
    ((_, other),) = list(eval_batches(split, batch_size=250, seed=1, binarize=True))
    assert abs(np.mean(one == other) - 0.5) < 5 * 0.5 / np.sqrt(250 * 256)
    assert len({image.tobytes() for image in one.numpy()}) == 250


@pytest.mark.parametrize("batch_size", [0, -1, 24])
def test_batch_size_outside_the_split_is_refused(batch_size: int) -> None:
    with pytest.raises(SMVIError, match="give 1 to 23") as caught:
        train_batches(make_split(), batch_size=batch_size, seed=0, binarize=False)
    assert (caught.value.field, caught.value.value) == ("batch_size", batch_size)


def test_negative_steps_are_refused() -> None:
    with pytest.raises(SMVIError) as caught:
        train_batches(make_split(), batch_size=2, seed=0, first_step=-1, binarize=False)
    assert (caught.value.field, caught.value.value) == ("first_step", -1)


@pytest.mark.parametrize(("start", "num_examples"), [(-1, 2), (23, None), (20, 4), (0, 0)])
def test_part_outside_the_split_is_refused(start: int, num_examples: int | None) -> None:
    with pytest.raises(SMVIError, match="the 23 examples"):
        eval_batches(
            make_split(),
            batch_size=2,
            seed=0,
            binarize=False,
            start=start,
            num_examples=num_examples,
        )


def test_real_values_are_not_binarized() -> None:
    split = ArraySplit(np.zeros((3, 2), np.float32), None, "real")
    for make in (train_batches, eval_batches):
        with pytest.raises(SMVIError, match="real-valued"):
            make(split, batch_size=2, seed=0, binarize=True)


def test_held_out_examples_are_not_in_the_batches_to_train_on() -> None:
    x = np.arange(100.0, dtype=np.float32)[:, np.newaxis]
    train, held_out = hold_out(ArraySplit(x, np.arange(100), "real"), 30)
    epoch = train_batches(train, batch_size=10, seed=3, num_steps=7, binarize=False)
    trained = np.concatenate([batch.numpy().ravel() for batch in epoch])
    parts = eval_batches(held_out, batch_size=8, seed=0, binarize=False)
    measured = np.concatenate([batch.numpy().ravel() for _, batch in parts])
    assert sorted([*trained, *measured]) == list(range(100))
    assert len(measured) == 30
    np.testing.assert_array_equal(held_out.labels, measured)
    np.testing.assert_array_equal(held_out.images([2, 0]).ravel(), measured[[2, 0]])
    assert measured.tolist() != list(range(70, 100))  # not the last ones: files may be sorted
