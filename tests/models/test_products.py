"""The gradients of products against those of tf.matmul, of every order that a training needs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfp_smvi.models.products import affine

Affine = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
W, V = (tf.random.stateless_normal(shape, (0, i)) for i, shape in enumerate([[5, 7], [7, 3]]))
B, C = tf.linspace(-1.0, 1.0, 7), tf.linspace(1.0, 2.0, 3)
Z = tf.random.stateless_normal([4, 5], (1, 2))
PARAMETERS = [W, V, B, C]


def plain(x: tf.Tensor, w: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """What `affine` is, with TensorFlow's own gradient."""
    return tf.matmul(x, w) + b


def own(x: tf.Tensor, w: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """The same as the networks have it."""
    return affine(x, w, b, "float32")


def gradients(layer: Affine, scores: int) -> list[tf.Tensor]:
    """Of a loss that holds a value and the squares of scores, each of another function of it."""
    w, v, b, c = PARAMETERS
    with tf.GradientTape() as outer:
        outer.watch(PARAMETERS)
        with tf.GradientTape(persistent=True) as inner:
            inner.watch(Z)
            value = tf.reduce_sum(tf.square(layer(tf.tanh(layer(Z, w, b)), v, c)), axis=-1)
            functions = [value, tf.sin(value), value**3][:scores]
        loss = tf.reduce_sum(value)
        for function in functions:
            loss += tf.reduce_sum(tf.square(inner.gradient(function, Z)))
    return outer.gradient(loss, PARAMETERS)


@pytest.mark.parametrize("mode", [lambda f: f, tf.function])
@pytest.mark.parametrize("scores", [0, 1, 3])
def test_gradients_are_those_of_matmul(scores: int, mode) -> None:
    """With none, one or several scores of one value, whose terms must not mix."""
    found, expected = (mode(lambda f=f: gradients(f, scores))() for f in (own, plain))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * np.abs(b).max())


def test_a_weight_has_one_product_for_all_its_terms() -> None:
    """The score's term and the value's: one product of twice the depth, and nothing is added."""
    graph = tf.function(lambda: gradients(own, 1), autograph=False).get_concrete_function().graph
    shapes = [tuple(op.outputs[0].shape) for op in graph.get_operations() if op.type == "MatMul"]
    assert shapes.count((5, 7)) == 1
    assert shapes.count((7, 3)) == 1


def test_the_gradient_can_be_differentiated() -> None:
    """Such as for a Hessian-vector product in the weights."""

    def product(layer: Affine) -> tf.Tensor:
        with tf.GradientTape() as outer:
            outer.watch(W)
            with tf.GradientTape() as inner:
                inner.watch(W)
                value = tf.reduce_sum(layer(Z, W, B) ** 3)
            slope = tf.reduce_sum(tf.sin(inner.gradient(value, W)))
        return outer.gradient(slope, W)

    np.testing.assert_allclose(product(own), product(plain), rtol=1e-4)


def test_a_saved_model_with_these_gradients_is_refused(tmp_path: Path) -> None:
    """It would have wrong ones; what to save in its place is in the message."""
    module = tf.Module()
    function = tf.function(lambda x: own(x, W, B), input_signature=[tf.TensorSpec([None, 5])])
    with pytest.raises(ValueError, match="tracing gradients") as caught:
        tf.saved_model.save(module, str(tmp_path), signatures=function.get_concrete_function())
    assert "model.with_products(None)" in str(caught.value) + str(caught.value.__cause__)
