"""The densities of a model must be functions: a Markov chain has no target that changes."""

from collections.abc import Mapping

import tensorflow as tf

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.inference.arguments import differing_values
from tfp_smvi.models.protocol import LatentVariableModel
from tfp_smvi.runs.models import weights_digest

__all__ = ["require_function"]


def require_function(
    model: LatentVariableModel, x: tf.Tensor, variables: Mapping[str, tf.Variable]
) -> None:
    """Evaluates log p(x, z) and q(z|x) twice at the same z, and compares the weights.

    Args:
        model: the model.
        x: float32 [batch, *image_shape].
        variables: those of the model, by name, as far as they are known.

    Raises:
        SMVIError: the values differ, or the evaluation changed a variable.
    """
    before = weights_digest(variables)
    z = model.encode(x).sample(seed=(0, 0))
    for name, density in (
        ("log p(x, z)", lambda: model.log_joint(x, z)),
        ("log q(z|x)", lambda: model.encode(x).log_prob(z)),
    ):
        values = differing_values(density)
        if values is not None:
            raise SMVIError(
                f"the model is random: {name} at the same x and z is {{:.6g}} and {{:.6g}}".format(
                    *values
                ),
                remedy="leave out what is random, such as Dropout",
            )
    if weights_digest(variables) != before:
        raise SMVIError(
            "an evaluation of the model changes its variables",
            remedy="leave out what keeps a state, such as BatchNormalization",
        )
