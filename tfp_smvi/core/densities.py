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
from tfp_smvi.core.supports import is_discrete

__all__ = [
    "ONE_NUMBER",
    "LogDensity",
    "broadcasts",
    "check_distribution",
    "check_divergence",
    "check_posterior",
    "check_prior",
    "log_densities",
    "points",
    "uncached",
]

# What a graph says of a log-density when it runs, after the name of the argument.
ONE_NUMBER = "must return one number for each z"

# z: float [..., *event_shape] -> float [...], nats
LogDensity = Callable[[tf.Tensor], tf.Tensor]

_DTYPES = re.compile(r"\b(bfloat16|float16|half|float32|float|float64|double|u?int\d+|bool)\b")
# How TensorFlow begins to say that two dtypes do not fit.
_MIXED = re.compile(
    r"cannot compute \w+ as input #|has type \w+ that does not match type|"
    r"Tensor conversion requested dtype|Incompatible type conversion|to EagerTensor of dtype|"
    r"must have the same dtype|same type as|incompatible dtypes|Expected \w+, got"
)
_SYNONYMS = {"half": "float16", "float": "float32", "double": "float64"}


def check_distribution(name: str, distribution: Any) -> None:
    """Raises an SMVIError unless a distribution has a density of a single floating-point tensor.

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
    if is_discrete(distribution):
        raise SMVIError(
            f"({distribution.name}) has no density: its values are counts or points",
            field=name,
            remedy="give one of continuous z",
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
    if not broadcasts(prior.batch_shape, posterior.batch_shape):
        raise SMVIError(
            f"has batch shape {_shape(prior.batch_shape)}",
            field="prior",
            remedy="give one without batch axes, or with the posterior's "
            f"{_shape(posterior.batch_shape)}",
        )
    if not (_is_known(prior) and _is_known(posterior)):
        given, target = prior.batch_shape_tensor(), posterior.batch_shape_tensor()
        fits = tf.reduce_all((given == 1) | (given == target[tf.size(target) - tf.size(given) :]))
        _require_when_run(fits, "prior must have no batch axes, or those of posterior", given)
        event = prior.event_shape_tensor()
        same = _same(event, posterior.event_shape_tensor())
        _require_when_run(same, "prior must have the event shape of posterior", event)


def check_divergence(kl: tf.Tensor, posterior: Any) -> tf.Tensor:
    """Returns an analytic KL(q(z|x), p(z)), or raises an SMVIError unless it is one for each x."""
    if not kl.shape.is_compatible_with(posterior.batch_shape):
        raise SMVIError(
            f"has a KL divergence of shape {_shape(kl.shape)}",
            field="prior",
            remedy=f"give one for which it has the posterior's {_shape(posterior.batch_shape)}",
        )
    if not (kl.shape.is_fully_defined() and posterior.batch_shape.is_fully_defined()):
        same = _same(tf.shape(kl), posterior.batch_shape_tensor())
        _require_when_run(same, "prior must have one KL divergence for each x", tf.shape(kl))
    return kl


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
    if not (_is_known(distribution) and z.shape[-rank:].is_fully_defined()):
        wanted = tf.concat(
            [distribution.batch_shape_tensor(), distribution.event_shape_tensor()], axis=0
        )
        same = _same(tf.shape(z)[-rank:], wanted)
        _require_when_run(same, "z must be samples of the distribution", tf.shape(z))
    return z


def uncached(z: tf.Tensor) -> tf.Tensor:
    """z as a tensor that TFP's bijectors have not seen.

    A transformed distribution remembers the noise that a sample was made from, and its log_prob at
    that very tensor takes the noise from its cache: the gradient with respect to z would then be
    wrong, without an error.
    """
    return tf.identity(z)


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
        if len(dtypes) != 2 or not _MIXED.search(str(error)):
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
    same = _same(tf.shape(values), wanted)
    with tf.control_dependencies(
        [_require_when_run(same, f"{name} {ONE_NUMBER}", tf.shape(values))]
    ):
        values = tf.identity(values)
    values.set_shape(expected)
    return values


def _is_known(distribution: Any) -> bool:
    """Whether the shapes of a distribution are known while a graph is traced."""
    return bool(
        distribution.batch_shape.is_fully_defined() and distribution.event_shape.is_fully_defined()
    )


def _same(shape: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Whether two shapes are the same when a graph runs, also if their ranks differ."""
    equal = tf.raw_ops.Equal(x=shape, y=other, incompatible_shape_error=False)
    return (tf.size(shape) == tf.size(other)) & tf.reduce_all(equal)


def _require_when_run(condition: tf.Tensor, problem: str, shape: tf.Tensor) -> Any:
    """Stops a graph when it runs, with a shape, unless a condition holds."""
    return tf.debugging.Assert(condition, [f"{problem}, and the shape is", shape])


def broadcasts(shape: tf.TensorShape, target: tf.TensorShape) -> bool:
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
