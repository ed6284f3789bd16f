"""Matrix products that are fast to differentiate twice, in float32 or of bfloat16 factors."""

import functools
from collections.abc import Callable
from typing import Literal

import tensorflow as tf

from tfp_smvi.config import Precision

__all__ = [
    "Products",
    "affine",
    "factor",
    "frozen_affine",
    "multiplies_bfloat16",
    "plain_affine",
]

# None and "plain bfloat16" are TensorFlow's own operations with their own gradients, which a
# SavedModel can hold; None is float32.
Products = Precision | Literal["plain bfloat16"] | None

Gradient = Callable[..., tuple[tf.Tensor | tf.IndexedSlices | None, ...]]


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether TensorFlow rounds products in bfloat16 here, as processors do that multiply it.

    On others it cuts the bits of the result off: all products are 0.2 % too small, and no faster
    than those in float32.
    """
    with tf.init_scope():
        # 1 + 1.5 * 2^-8 is nearest to 1 + 2^-7. Small products may be computed otherwise.
        row = tf.concat([[1.0, 1.5 * 2.0**-8], tf.zeros(62)], axis=0)
        a = tf.cast(tf.tile(row[tf.newaxis], [128, 1]), tf.bfloat16)
        product = tf.matmul(a, tf.ones([64, 64], tf.bfloat16))
        return bool(tf.reduce_all(product > 1.0))


def factor(t: tf.Tensor, products: Precision) -> tf.Tensor:
    """Returns a factor of products, rounded to their dtype."""
    t = tf.cast(t, products)
    if products == "bfloat16" and not multiplies_bfloat16():
        t = tf.cast(t, tf.float32)
    return t


def _product(a: tf.Tensor, b: tf.Tensor, products: Precision, **transposed: bool) -> tf.Tensor:
    # Each result is float32 before anything is added to it.
    return tf.cast(tf.cast(tf.matmul(a, b, **transposed), products), tf.float32)


def _num_rows(t: tf.Tensor) -> int | tf.Tensor:
    """The number of rows, which a graph need not compute if it is known."""
    return tf.shape(t)[0] if t.shape[0] is None else t.shape[0]


def affine(x: tf.Tensor, w: tf.Tensor, b: tf.Tensor, products: Precision) -> tf.Tensor:
    """Returns x w + b.

    The gradient with respect to w is one product, whatever the number of terms it has: a score
    that is differentiated adds x'^T y' to x^T y, and [x; x']^T [y; y'] is both. So what reaches w
    are the rows of the two factors, which TensorFlow concatenates where it would add gradients.

    Args:
        x: float32 [batch, inputs].
        w: float32 [inputs, outputs].
        b: float32 [outputs].
        products: as in `tfp_smvi.models.layers.apply`.
    """

    def rows(t: tf.Tensor) -> tf.IndexedSlices:
        t = factor(t, products)
        return tf.IndexedSlices(t, tf.zeros([_num_rows(t)], tf.int32), tf.shape(w))

    # The same matrix twice: the gradients of one are rows of x, those of the other rows of y.
    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def factors(w: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], Gradient]:
        def gradient(left: tf.IndexedSlices, right: tf.IndexedSlices) -> tuple[tf.Tensor]:
            if not isinstance(left, tf.IndexedSlices):
                raise TypeError(
                    "A SavedModel cannot hold these gradients; save a function of "
                    "model.with_products(None)."
                )
            return (_product(left.values, right.values, products, transpose_a=True),)

        w = factor(w, products)
        return (tf.identity(w), tf.identity(w)), gradient

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def forward(
        x: tf.Tensor, left: tf.Tensor, right: tf.Tensor, b: tf.Tensor
    ) -> tuple[tf.Tensor, Gradient]:
        def gradient(y: tf.Tensor) -> tuple[tf.Tensor | tf.IndexedSlices, ...]:
            # 1^T y takes a third of the sum over the batch.
            ones = tf.ones([1, _num_rows(y)], y.dtype)
            return backward(y, left, right), rows(x), rows(y), tf.matmul(ones, y)[0]

        return tf.nn.bias_add(_product(factor(x, products), left, products), b), gradient

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def backward(y: tf.Tensor, left: tf.Tensor, right: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        def gradient(x: tf.Tensor) -> tuple[tf.Tensor | tf.IndexedSlices, ...]:
            return _product(factor(x, products), left, products), rows(x), rows(y)

        # (w y^T)^T takes half the time of y w^T.
        return tf.transpose(
            _product(left, factor(y, products), products, transpose_b=True)
        ), gradient

    return forward(x, *factors(w), b)


def frozen_affine(
    x: tf.Tensor, w: tf.Tensor, transposed: tf.Tensor, b: tf.Tensor, products: Precision
) -> tf.Tensor:
    """Returns x w + b, with a gradient only with respect to x; with w^T given it transposes none.

    Args:
        x: as in `affine`.
        w: a `factor`: [inputs, outputs].
        transposed: w^T.
        b: as in `affine`.
        products: as in `affine`.
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def function(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        def gradient(y: tf.Tensor) -> tuple[tf.Tensor]:
            return (_product(factor(y, products), transposed, products),)

        return tf.nn.bias_add(_product(factor(x, products), w, products), b), gradient

    return function(x)


def plain_affine(x: tf.Tensor, w: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Returns x w + b with a product in bfloat16, whatever processor will compute it.

    Args:
        x: as in `affine`.
        w: as in `affine`.
        b: as in `affine`.
    """
    product = tf.matmul(tf.cast(x, tf.bfloat16), tf.cast(w, tf.bfloat16))
    return tf.nn.bias_add(tf.cast(product, tf.float32), b)
