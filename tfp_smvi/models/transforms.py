"""Increasing maps of numbers with a known slope, from which coupling layers are made.

References:
    [1] C. Durkan, A. Bekasov, I. Murray, G. Papamakarios. Neural Spline Flows. NeurIPS 2019.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfp_smvi.config import FlowTransform

__all__ = ["TRANSFORMS", "Mapped", "Transform"]

# Splines act on [-BOUND, BOUND], and are the identity outside; beyond lies 1e-5 of N(0, 1).
BOUND = 4.5
NUM_BINS = 8
# Scales, slopes at knots and, but for a factor, sizes of bins lie within exp(-MAX_LOG) and
# exp(MAX_LOG): no layer can collapse or explode, and float32 inverts all of them.
MAX_LOG = 1.5


class Mapped(NamedTuple):
    """Where a map takes points, and the logarithm of its slope or of its volume there."""

    values: tf.Tensor
    log_slope: tf.Tensor


class Transform(NamedTuple):
    """An increasing map of numbers, with parameters from a network; the identity where they are 0.

    Attributes:
        num_parameters: the parameters of one map.
        forward: x [...], parameters [..., num_parameters] -> y and log dy/dx, both [...].
        inverse: y, parameters -> x and log dx/dy.
    """

    num_parameters: int
    forward: Callable[[tf.Tensor, tf.Tensor], Mapped]
    inverse: Callable[[tf.Tensor, tf.Tensor], Mapped]


def _affine(x: tf.Tensor, parameters: tf.Tensor) -> Mapped:
    """y = exp(s) x + t."""
    shift, h = tf.unstack(parameters, axis=-1)
    log_scale = _bounded(h)
    return Mapped(tf.exp(log_scale) * x + shift, log_scale)


def _inverse_affine(y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
    shift, h = tf.unstack(parameters, axis=-1)
    log_scale = _bounded(h)
    return Mapped(tf.exp(-log_scale) * (y - shift), -log_scale)


class _Bin(NamedTuple):
    """The bin of a spline that a number falls into.

    Attributes:
        x: its left edge.
        width: its width.
        y: its lower edge.
        height: its height.
        left: the slope at the left edge.
        right: the slope at the right edge.
    """

    x: tf.Tensor
    width: tf.Tensor
    y: tf.Tensor
    height: tf.Tensor
    left: tf.Tensor
    right: tf.Tensor

    @property
    def slope(self) -> tf.Tensor:
        """The slope of the line through its corners."""
        return self.height / self.width

    def log_slope(self, share: tf.Tensor) -> tf.Tensor:
        """log dy/dx at a share of the width [1, eq. 5]."""
        slope, rest = self.slope, 1.0 - share
        product = share * rest
        rise = self.right * share**2 + 2.0 * slope * product + self.left * rest**2
        return tf.math.log(rise) + 2.0 * tf.math.log(slope / self.denominator(product))

    def denominator(self, product: tf.Tensor) -> tf.Tensor:
        """The denominator of the spline, given share * (1 - share) [1, eq. 4]."""
        return self.slope + (self.left + self.right - 2.0 * self.slope) * product


def _spline(x: tf.Tensor, parameters: tf.Tensor) -> Mapped:
    """A monotone rational-quadratic spline on [-BOUND, BOUND] [1, eq. 4]."""
    inside = tf.abs(x) < BOUND
    safe = tf.where(inside, x, 0.0)
    bin_ = _find_bin(safe, parameters, by_height=False)
    share = (safe - bin_.x) / bin_.width
    product = share * (1.0 - share)
    rise = bin_.height * (bin_.slope * share**2 + bin_.left * product)
    y = bin_.y + rise / bin_.denominator(product)
    return Mapped(tf.where(inside, y, x), tf.where(inside, bin_.log_slope(share), 0.0))


def _inverse_spline(y: tf.Tensor, parameters: tf.Tensor) -> Mapped:
    """The root of a quadratic equation, in its stable form [1, eq. 6 to 8]."""
    inside = tf.abs(y) < BOUND
    safe = tf.where(inside, y, 0.0)
    bin_ = _find_bin(safe, parameters, by_height=True)
    rise = safe - bin_.y
    bend = rise * (bin_.left + bin_.right - 2.0 * bin_.slope)
    a = bin_.height * (bin_.slope - bin_.left) + bend
    b = bin_.height * bin_.left - bend
    c = -bin_.slope * rise
    share = 2.0 * c / (-b - tf.sqrt(b**2 - 4.0 * a * c))
    x = bin_.x + share * bin_.width
    return Mapped(tf.where(inside, x, y), tf.where(inside, -bin_.log_slope(share), 0.0))


def _find_bin(values: tf.Tensor, parameters: tf.Tensor, *, by_height: bool) -> _Bin:
    """Finds the bins of numbers in [-BOUND, BOUND], by their sum over a mask: no indices."""
    widths, heights, slopes = tf.split(parameters, [NUM_BINS, NUM_BINS, NUM_BINS - 1], axis=-1)
    # Equal bins, and slopes of 1, where the parameters are 0.
    widths = 2.0 * BOUND * tf.nn.softmax(_bounded(widths))
    heights = 2.0 * BOUND * tf.nn.softmax(_bounded(heights))
    slopes = tf.exp(_bounded(slopes))
    one = tf.ones_like(slopes[..., :1])
    x, y = (tf.cumsum(sizes, axis=-1, exclusive=True) - BOUND for sizes in (widths, heights))
    # The bins that begin at or below a number, but for those of which the next one does, too.
    below = tf.cast(values[..., tf.newaxis] >= (y if by_height else x), values.dtype)
    mask = below - tf.concat([below[..., 1:], tf.zeros_like(one)], axis=-1)
    left, right = tf.concat([one, slopes], axis=-1), tf.concat([slopes, one], axis=-1)
    properties = tf.stack([x, widths, y, heights, left, right], axis=0)
    return _Bin(*tf.unstack(tf.reduce_sum(properties * mask, axis=-1), axis=0))


def _bounded(h: tf.Tensor) -> tf.Tensor:
    return MAX_LOG * tf.tanh(h / MAX_LOG)


TRANSFORMS: dict[FlowTransform, Transform] = {
    "spline": Transform(3 * NUM_BINS - 1, _spline, _inverse_spline),
    "affine": Transform(2, _affine, _inverse_affine),
}
