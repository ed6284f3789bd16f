"""How much the latents of a model say about x: nothing, if its posterior has collapsed."""

from typing import NamedTuple

import tensorflow as tf

from tfp_smvi.core.collapse import count_active_units
from tfp_smvi.core.runtime import numerics_unchecked
from tfp_smvi.models.protocol import LatentVariableModel

__all__ = ["Dependence", "measure_dependence", "reconstruction_change"]


@numerics_unchecked()
def reconstruction_change(model: LatentVariableModel, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
    """By how much the latents of another example change the likelihood of one.

        |log p(x_i | z_i) - log p(x_i | z_(i-1))|,   z_i = E_q[z|x_i]

    It is 0 for all examples if the decoder does not depend on z, or z not on x, whatever the
    likelihood: a variance of the decoder's means would have the units of x, and means are nothing
    to categories. Without the bars the mean could be 0 by chance.

    Args:
        model: the model.
        x: float32 [batch, *image_shape].
        z: the means of their posteriors: float32 [batch, latent_dim].

    Returns:
        float32 [batch], nats; 0 for a batch of one.
    """
    others = tf.roll(z, shift=1, axis=0)
    return tf.abs(model.decode(z).log_prob(x) - model.decode(others).log_prob(x))


class Dependence(NamedTuple):
    """What z says about x.

    Attributes:
        active_units: the latents whose posterior mean varies over examples; None for one example.
        reconstruction_change: the mean of `reconstruction_change`, in nats; None for one example.
    """

    active_units: int | None
    reconstruction_change: float | None


def measure_dependence(model: LatentVariableModel, x: tf.Tensor) -> Dependence:
    """Measures what z says about x, at the means of q(z|x).

    Args:
        model: the model.
        x: float32 [batch, *image_shape].
    """
    if len(x) == 1:
        return Dependence(None, None)
    means = model.encode(x).mean()
    change = float(tf.reduce_mean(reconstruction_change(model, x, means)))
    return Dependence(count_active_units(means.numpy()), change)
