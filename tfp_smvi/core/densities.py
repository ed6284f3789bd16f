"""Log-densities: what they look like, and the check that there is one number for each z."""

from collections.abc import Callable

import tensorflow as tf

from tfp_smvi.core.errors import SMVIError

__all__ = ["LogDensity", "one_for_each"]

# z: float [..., *event_shape] -> float [...], nats
LogDensity = Callable[[tf.Tensor], tf.Tensor]


def one_for_each(
    name: str, log_densities: tf.Tensor, z: tf.Tensor, event_rank: int = 1
) -> tf.Tensor:
    """Returns log-densities as they are, or raises an SMVIError unless there is one for each z.

    Others would be broadcast or summed somewhere, and a wrong number is worse than none. Shapes are
    compared as far as they are known while a graph is traced, so that it costs nothing later.

    Args:
        name: what returned them.
        log_densities: float [...], nats.
        z: float [..., *event_shape], where they were taken.
        event_rank: the axes of the event shape.
    """
    log_densities = tf.convert_to_tensor(log_densities)
    if z.shape.rank is None:
        return log_densities
    expected = z.shape[: z.shape.rank - event_rank]
    if not log_densities.shape.is_compatible_with(expected):
        raise SMVIError(
            f"has shape {tuple(log_densities.shape)} at z of shape {tuple(z.shape)}",
            field=name,
            remedy=f"return {tuple(expected)}, one number for each z, summed over the axes of x "
            "and over no other",
        )
    return log_densities
