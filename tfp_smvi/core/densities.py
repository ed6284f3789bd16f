"""Distributions and log-densities as estimators need them, and the checks that they are such.

What does not fit is broadcast somewhere, and a wrong number is worse than none; or it ends in
TensorFlow's own words. Every estimator checks here. Shapes are compared as far as they are known
while a graph is traced, which costs nothing later; the graph compares the rest when it runs.
"""

import re
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.core.errors import SMVIError

__all__ = [
    "ONE_NUMBER",
    "LogDensity",
    "check_distribution",
    "check_posterior",
    "check_prior",
    "log_densities",
    "points",
]

# What a graph says of a log-density when it runs, after the name of the argument.
ONE_NUMBER = "must return one number for each z"

# z: float [..., *event_shape] -> float [...], nats
LogDensity = Callable[[tf.Tensor], tf.Tensor]

_DTYPES = re.compile(r"\b(bfloat16|float16|half|float32|float|float64|double|u?int\d+|bool)\b")
_SYNONYMS = {"half": "float16", "float": "float32", "double": "float64"}


def check_distribution(name: str, distribution: Any) -> None:
    """Raises an SMVIError unless a distribution is one of a single floating-point tensor.

    Args:
        name: the argument that it was given for.
        distribution: a distribution of TFP, or what has its methods.
    """
    if not all(hasattr(distribution, part) for part in ("dtype", "event_shape", "log_prob")):
        raise SMVIError(
            f"is of type {type(distribution).__name__}",
            field=name,
            remedy="give a TFP distribution",
        )
    dtype = distribution.dtype
    if tf.nest.is_nested(dtype):
        raise SMVIError(
            "is a distribution of several tensors",
            field=name,
            remedy="give one of a single tensor, such as tfd.Blockwise of its parts",
        )
    if dtype is not None and not tf.as_dtype(dtype).is_floating:
        raise SMVIError(
            f"is a distribution of {tf.as_dtype(dtype).name} values",
            field=name,
            remedy="give one of floating-point z: the estimators need continuous latents",
        )
    if distribution.event_shape.rank is None or distribution.batch_shape.rank is None:
        raise SMVIError(
            "has a shape of unknown rank",
            field=name,
            remedy="make its parameters with tf.ensure_shape",
        )


def check_posterior(posterior: Any) -> None:
    """Raises an SMVIError unless the gradient passes through samples of q(z|x).

    Otherwise the encoder would be trained with a part of its gradient.
    """
    check_distribution("posterior", posterior)
    if posterior.reparameterization_type != tfd.FULLY_REPARAMETERIZED:
        raise SMVIError(
            f"({posterior.name}) is not reparameterized, so its samples carry no gradient",
            field="posterior",
            remedy="give one that is, such as tfd.MixtureSameFamily(..., reparameterize=True)",
        )


def check_prior(prior: Any, posterior: Any) -> None:
    """Raises an SMVIError unless the density of p(z) is one number for each z of q(z|x)."""
    check_distribution("prior", prior)
    if prior.dtype != posterior.dtype:
        raise _wrong_dtype("prior", prior.dtype, f"{_name(posterior.dtype)}, as posterior has")
    if not prior.event_shape.is_compatible_with(posterior.event_shape):
        raise SMVIError(
            f"has event shape {_shape(prior.event_shape)}",
            field="prior",
            remedy=f"give one with event shape {_shape(posterior.event_shape)}, as posterior has; "
            "tfd.Independent makes batch axes event axes",
        )
    if not _broadcasts(prior.batch_shape, posterior.batch_shape):
        raise SMVIError(
            f"has batch shape {_shape(prior.batch_shape)}",
            field="prior",
            remedy="give one without batch axes, or with the posterior's "
            f"{_shape(posterior.batch_shape)}",
        )


def points(z: Any, distribution: Any) -> tf.Tensor:
    """Returns points z of a distribution as a tensor: float [..., *batch_shape, *event_shape].

    Raises:
        SMVIError: they have another shape or dtype.
    """
    if not tf.is_tensor(z):
        try:
            z = tf.convert_to_tensor(z, distribution.dtype)
        except (TypeError, ValueError) as error:
            remedy = f"give {_name(distribution.dtype)} numbers"
            raise SMVIError(f"is of type {type(z).__name__}", field="z", remedy=remedy) from error
    z = tf.convert_to_tensor(z)
    if distribution.dtype is not None and z.dtype != distribution.dtype:
        raise _wrong_dtype("z", z.dtype, f"{_name(distribution.dtype)}, as the distribution has")
    shape = distribution.batch_shape.concatenate(distribution.event_shape)
    rank = shape.rank
    if z.shape.rank is not None and not (
        z.shape.rank >= rank and z.shape[z.shape.rank - rank :].is_compatible_with(shape)
    ):
        raise SMVIError(
            f"has shape {_shape(z.shape)}",
            field="z",
            remedy=f"give samples of the distribution: [..., {', '.join(map(str, shape))}]",
        )
    return z


def log_densities(
    name: str, log_density_fn: LogDensity, z: tf.Tensor, event_rank: int = 1
) -> tf.Tensor:
    """Returns the log-densities at z, or raises an SMVIError unless there is one for each z.

    Others would be broadcast or summed somewhere.

    Args:
        name: the argument that the function was given for.
        log_density_fn: z -> float [...], nats.
        z: float [..., *event_shape].
        event_rank: the axes of the event shape.
    """
    values = _called(name, log_density_fn, z)
    try:
        values = tf.convert_to_tensor(values)
    except (TypeError, ValueError) as error:
        raise SMVIError(
            f"returns a value of type {type(values).__name__}",
            field=name,
            remedy="return a tensor, one number for each z",
        ) from error
    if values.dtype != z.dtype:
        raise _wrong_dtype(name, values.dtype, f"{z.dtype.name}, the dtype of z", "return")
    return _one_for_each(name, values, z, event_rank)


def _called(name: str, log_density_fn: LogDensity, z: tf.Tensor) -> Any:
    """What a function returns at z; TensorFlow's words for two common mistakes become one line."""
    try:
        return log_density_fn(z)
    except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
        dtypes = sorted({_SYNONYMS.get(dtype, dtype) for dtype in _DTYPES.findall(str(error))})
        if len(dtypes) != 2:
            raise
        raise SMVIError(
            f"mixes {dtypes[0]} and {dtypes[1]} at z of {z.dtype.name}",
            field=name,
            remedy=f"cast data and weights to {z.dtype.name}",
        ) from error
    except (AttributeError, NotImplementedError) as error:
        if "numpy" not in str(error):
            raise
        raise SMVIError(
            "uses NumPy on tensors of a graph",
            field=name,
            remedy="compute it from z with TensorFlow alone",
        ) from error


def _one_for_each(name: str, values: tf.Tensor, z: tf.Tensor, event_rank: int) -> tf.Tensor:
    expected = z.shape if z.shape.rank is None else z.shape[: z.shape.rank - event_rank]
    if not values.shape.is_compatible_with(expected):
        raise SMVIError(
            f"has shape {_shape(values.shape)} at z of shape {_shape(z.shape)}",
            field=name,
            remedy=f"return {_shape(expected)}, one number for each z, summed over the axes of x "
            "and over no other",
        )
    if values.shape.is_fully_defined() and expected.is_fully_defined():
        return values
    wanted = tf.shape(z)[: tf.rank(z) - event_rank]
    same = tf.debugging.assert_equal(tf.shape(values), wanted, f"{name} {ONE_NUMBER}")
    with tf.control_dependencies([same]):
        values = tf.identity(values)
    values.set_shape(expected)
    return values


def _broadcasts(shape: tf.TensorShape, target: tf.TensorShape) -> bool:
    """Whether a shape can be broadcast to another, as far as both are known."""
    try:
        return bool(tf.broadcast_static_shape(shape, target).is_compatible_with(target))
    except ValueError:
        return False


def _wrong_dtype(name: str, given: Any, wanted: str, verb: str = "give") -> SMVIError:
    return SMVIError(f"has dtype {_name(given)}", field=name, remedy=f"{verb} {wanted}")


def _name(dtype: Any) -> str:
    return str(tf.as_dtype(dtype).name)


def _shape(shape: tf.TensorShape) -> str:
    return "unknown" if shape.rank is None else str(tuple(shape))
