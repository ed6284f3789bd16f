"""Features of examples: the means of their posteriors."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfp_smvi.models.protocol import LatentVariableModel

__all__ = ["encode_means"]


def encode_means(
    model: LatentVariableModel, batches: Iterable[tf.Tensor]
) -> npt.NDArray[np.float32]:
    """Returns the means of q(z|x) for batches of examples, which need not fit in memory together.

    Args:
        model: the model.
        batches: float32 [n, *image_shape] each.

    Returns:
        float32 [num_examples, latent_dim], in the order of the batches.
    """
    return np.concatenate([model.encode(x).mean().numpy() for x in batches])
