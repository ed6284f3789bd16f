"""The model's distributions against scipy's densities, and its networks against Keras's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfp_smvi.config import ModelConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.models import products
from tfp_smvi.models.layers import MINIMUM_SCALE, Dense, positive
from tfp_smvi.models.likelihoods import LIKELIHOODS
from tfp_smvi.models.vae import VAE
from tfp_smvi.objectives.smvi import smvi_objective

SMALL = {"latent_dim": 3, "hidden_sizes": (16, 8)}
# float32 rounding of sums of some dozen terms.
ROUNDING = 1e-5


def small_model(likelihood="bernoulli", image_shape=(4, 5, 1), seed=0):
    num_categories = 5 if likelihood == "categorical" else None
    config = ModelConfig(likelihood=likelihood, num_categories=num_categories, **SMALL)
    return VAE(config, image_shape, seed)


def test_scale_is_one_at_zero_and_never_below_its_floor():
    np.testing.assert_allclose(positive(tf.constant(0.0)), 1.0 + MINIMUM_SCALE, rtol=1e-6)
    assert np.all(positive(tf.constant([-1e6, -100.0, -20.0])).numpy() >= np.float32(MINIMUM_SCALE))


@pytest.mark.parametrize("likelihood", list(LIKELIHOODS))
@pytest.mark.parametrize("image_shape", [(4, 5, 1), (6,), (3, 2, 3), (5, 5)])
def test_shapes_are_those_of_the_paper(likelihood, image_shape):
    model = small_model(likelihood, image_shape)
    x = tf.zeros((7, *image_shape))
    posterior = model.encode(x)
    assert posterior.batch_shape == [7]
    assert posterior.event_shape == model.prior.event_shape == [3]
    z = posterior.sample(2, seed=(0, 0))
    decoded = model.decode(z)
    assert tuple(tf.shape(decoded.mean())) == (2, 7, *image_shape)
    assert model.log_joint(x, z).shape == (2, 7)


def test_log_joint_is_prior_plus_likelihood():
    model, x = small_model(), tf.ones((5, 4, 5, 1))
    z = tf.random.stateless_normal((5, 3), seed=(1, 1))
    logits = model.decoder(z).numpy()
    expected = stats.norm.logpdf(z).sum(axis=1) - np.logaddexp(0.0, -logits).sum(axis=1)
    np.testing.assert_allclose(model.log_joint(x, z), expected, rtol=ROUNDING)


def test_chains_are_decoded_like_batches():
    model = small_model()
    z = tf.random.stateless_normal((3, 4, 3), seed=(2, 2))
    together = model.decode(z).mean().numpy()
    for chain, decoded in zip(z, together, strict=True):
        np.testing.assert_allclose(decoded, model.decode(chain).mean(), rtol=ROUNDING)


def test_the_papers_architecture_is_the_default_but_for_the_activation():
    model = VAE(ModelConfig(likelihood="bernoulli"), (28, 28, 1))
    shapes = {
        name: tuple(v.shape) for name, v in model.named_variables.items() if name.endswith("kernel")
    }
    assert list(shapes.values()) == [
        (784, 1024),
        (1024, 1024),
        (1024, 100),
        (50, 1024),
        (1024, 1024),
        (1024, 784),
    ]
    assert all(layer.activation is keras.activations.silu for layer in model.encoder.layers[:2])


def test_weights_follow_from_the_seed():
    first, again, other = small_model(seed=1), small_model(seed=1), small_model(seed=2)
    for name, variable in first.named_variables.items():
        np.testing.assert_array_equal(variable, again.named_variables[name])
        if name.endswith("kernel"):
            assert not np.array_equal(variable, other.named_variables[name])
    kernels = [
        v.numpy().ravel()[:8] for k, v in first.named_variables.items() if k.endswith("kernel")
    ]
    assert len({tuple(kernel) for kernel in kernels}) == len(kernels)


@pytest.mark.parametrize("activation", ["softplus", "silu", None])
def test_dense_has_the_first_and_second_order_gradients_of_keras(activation):
    x = tf.random.stateless_normal((6, 4), seed=(3, 3))
    ours, reference = Dense(5, activation), keras.layers.Dense(5, activation)
    ours.build((None, 4))
    reference.build((None, 4))
    bias = np.linspace(-1.0, 1.0, 5)
    reference.set_weights([ours.kernel.numpy(), bias])
    ours.bias.assign(bias)

    def gradients(layer):
        variables = [layer.kernel.value, layer.bias.value]
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = tf.reduce_sum(tf.sin(layer(x)))
            slope = inner.gradient(y, x)
            penalty = y + tf.reduce_sum(slope**3)
        return [y, slope, *outer.gradient(penalty, [x, *variables])]

    for value, expected in zip(gradients(ours), gradients(reference), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


def operations_for(outputs: list[tf.Tensor]) -> list[tf.Operation]:
    """What computes some outputs; the rest of a graph is not run."""
    found: dict[str, tf.Operation] = {}
    waiting = [tensor.op for tensor in outputs]
    while waiting:
        operation = waiting.pop()
        if operation.name not in found:
            found[operation.name] = operation
            waiting += [tensor.op for tensor in operation.inputs]
    return list(found.values())


def test_matrix_products_alone_are_in_bfloat16_in_gradients_of_both_orders(
    monkeypatch: pytest.MonkeyPatch,
):
    """Sums over pixels or examples in 8 bits lose a nat; only the sums for biases are float32.

    The encoder has 3 products forward and 5 backward; the decoder 3, the score's 3, and in their
    gradients 6 and 3 for the weights.
    """
    monkeypatch.setattr(products, "multiplies_bfloat16", lambda: True)  # on any processor
    model = small_model().with_products("bfloat16")
    variables = model.trainable_variables

    @tf.function(input_signature=[tf.TensorSpec([7, 4, 5, 1])], autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            posterior = model.encode(x)
            z = posterior.sample(seed=(0, 0))
            log_likelihood = lambda z: model.decode(z).log_prob(x)  # noqa: E731
            objective = smvi_objective(posterior, model.prior, log_likelihood, 0.5, z).objective
        return objective, tape.gradient(objective, variables)

    used = operations_for(step.get_concrete_function().graph.outputs)
    reduced = [op for op in used if op.outputs[0].dtype == tf.bfloat16]
    assert {op.type for op in reduced} <= {"Cast", "MatMul", "Identity", "IdentityN", "ConcatV2"}
    multiplied = [op for op in used if op.type == "MatMul"]
    assert len([op for op in reduced if op.type == "MatMul"]) == 23
    # Sums over the batch, as products with ones.
    assert all(op.inputs[0].shape == [1, 7] for op in multiplied if op not in reduced)
    objective, gradients = step(tf.ones([7, 4, 5, 1]))
    assert {t.dtype for t in (objective, *gradients)} == {tf.float32}


def test_terms_of_a_product_in_bfloat16_are_added_in_float32():
    """In bfloat16 the sum of ones ends at 256; 1000 is a bfloat16."""
    layer = Dense(1, kernel_initializer="ones")
    assert layer(tf.ones([1, 1000]), products="bfloat16") == 1000.0


def test_a_likelihood_must_be_chosen():
    with pytest.raises(ValueError, match="likelihood is None; give one of bernoulli, gaussian"):
        VAE(ModelConfig(), (4, 4))


def test_values_of_another_shape_or_kind_are_refused() -> None:
    """Reshaped, they would be encoded as other images: 3 of 16 x 16 as 12 of 8 x 8."""
    model = VAE(ModelConfig(likelihood="bernoulli", latent_dim=3, hidden_sizes=(4,)), (8, 8, 1))
    for x in (np.zeros([3, 16, 16, 1]), np.zeros([8, 8, 1]), np.zeros([3, 64])):
        with pytest.raises(SMVIError, match=r"give \[batch, 8, 8, 1\]") as caught:
            model.encode(x.astype(np.float32))
        assert caught.value.field == "x"
    with pytest.raises(SMVIError, match="x has dtype uint8"):
        model.encode(np.zeros([3, 8, 8, 1], np.uint8))
    with pytest.raises(SMVIError, match="x has dtype uint8"):
        model.log_joint(np.zeros([3, 8, 8, 1], np.uint8), tf.zeros([3, 2]))
    with pytest.raises(SMVIError, match=r"z has shape \(5, 4\); give \[..., 3\]"):
        model.decode(np.zeros([5, 4], np.float32))


def test_products_in_bfloat16_are_rounded_to_the_nearest() -> None:
    """Cut off, as TensorFlow's own are on processors without bfloat16, they are 0.2 % too small.

    The mean rounding error of 64,000 products has a standard error of 0.0017 / sqrt(64,000).
    """
    layer = Dense(64)
    x = tf.random.stateless_normal([1000, 64], [1, 2])
    layer.build(x.shape)
    given, kernel = (tf.cast(t, tf.bfloat16) for t in (x, layer.kernel))
    exact = tf.cast(given, tf.float64) @ tf.cast(kernel, tf.float64)
    found = tf.cast(layer(x, products="bfloat16"), tf.float64)
    error = tf.reduce_sum(tf.sign(exact) * (found - exact)) / tf.reduce_sum(tf.abs(exact))
    assert abs(error) < 1e-4
    assert np.any(found != exact)
