"""What a model makes of x and z, to look at: reconstructions, new examples, ways from x to x."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfp_smvi.core.seeds import fold_seed
from tfp_smvi.inference.arguments import require_positive_integer
from tfp_smvi.models.protocol import LatentVariableModel

__all__ = ["generate", "interpolate", "reconstruct"]

Examples = npt.NDArray[np.float32]


def reconstruct(model: LatentVariableModel, x: npt.ArrayLike) -> Examples:
    """Returns E[x|z] at z = E_q[z|x].

    Under a categorical likelihood it is the most probable class, here and below.

    Args:
        model: the model.
        x: float32 [n, *image_shape], of the values that the model was trained on.

    Returns:
        float32 [n, *image_shape], in the same units.

    Raises:
        SMVIError: x has another shape or dtype.
    """
    return _typical(model, model.encode(tf.convert_to_tensor(x)).mean())


def generate(model: LatentVariableModel, num_examples: int, seed: int = 0) -> Examples:
    """Returns E[x|z] at z ~ p(z): new examples, without the noise of p(x|z).

    `model.decode(model.prior.sample(n)).sample()` is with it.

    Args:
        model: the model.
        num_examples: the number of examples, at least 1.
        seed: the same seed gives the same z.

    Returns:
        float32 [num_examples, *image_shape].

    Raises:
        SMVIError: num_examples is not an integer of at least 1.
    """
    require_positive_integer("num_examples", num_examples)
    z = model.prior.sample(num_examples, seed=fold_seed(seed, "generate"))
    return _typical(model, z)


def interpolate(
    model: LatentVariableModel, start: npt.ArrayLike, end: npt.ArrayLike, num_examples: int = 8
) -> Examples:
    """Returns E[x|z] on the line between the posterior means of two examples, evenly spaced.

    Args:
        model: the model.
        start: one example, float32 [*image_shape]; the first result is its reconstruction.
        end: another one; the last result is its reconstruction.
        num_examples: the number of points on the line with its ends, at least 1; a single one is at
            the start.

    Returns:
        float32 [num_examples, *image_shape].

    Raises:
        SMVIError: num_examples is not an integer of at least 1, or an example has another shape or
            dtype.
    """
    require_positive_integer("num_examples", num_examples)
    ends = tf.stack([tf.convert_to_tensor(start), tf.convert_to_tensor(end)])
    first, last = tf.unstack(model.encode(ends).mean())
    weight = tf.linspace(0.0, 1.0, num_examples)[:, tf.newaxis]
    return _typical(model, (1.0 - weight) * first + weight * last)


def _typical(model: LatentVariableModel, z: tf.Tensor) -> Examples:
    """What stands for p(x|z) in a picture: its mean, unless the likelihood has something better."""
    p = model.decode(z)
    likelihood = getattr(model, "likelihood", None)
    x = p.mean() if likelihood is None else likelihood.typical(p)
    return np.asarray(x)
