"""A trial of a user's model: whether an evaluation can work with what its functions return."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.core.densities import check_posterior
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.models.imports import RAISED, reason_of
from tfp_smvi.models.outside import AdaptedModel

__all__ = ["check_model"]

LogDensity = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

# Examples and draws of z in a trial, and how values may round from one call to the next.
TRIAL_SIZE, NUM_DRAWS, ROUNDING = 3, 2, 1e-4


def check_model(model: AdaptedModel, x: tf.Tensor) -> None:
    """Calls the functions of a model as an evaluation does, on a few examples.

    Args:
        model: the model.
        x: examples of the data: float32 [n, *image_shape], n of at least TRIAL_SIZE.

    Raises:
        SMVIError: a function fails or returns something of another type or shape, NaN, or values
            that depend on other examples of the batch; log p(x|z) has no gradient with respect to
            z; or p(x|z) is of bits, and x has intensities.
    """
    size = [NUM_DRAWS, TRIAL_SIZE]
    z = _call(model, "prior.sample", lambda: model.prior.sample(size, seed=(0, 0)))
    x = x[:TRIAL_SIZE]
    _check_lengths(model, "prior", model.prior)
    _check_score(model, "log p(z)", lambda x, z: model.prior.log_prob(z), x, z)
    _check_decoder(model, x, z)
    _check_likelihood(model, x, z)
    _check_score(model, "log p(x|z)", model.log_likelihood, x, z)
    _check_simulation(model, x, z)
    if model.has_encoder:
        _check_encoder(model, x, z)


def _check_decoder(model: AdaptedModel, x: tf.Tensor, z: tf.Tensor) -> None:
    decoded = _call(model, "decode(z)", lambda: model.decoded(z))
    if decoded is None:
        return
    if not isinstance(decoded, tfd.Distribution):
        raise model.wrong(
            f"has a decode(z) that returns a {type(decoded).__name__}",
            "give a TFP distribution, such as tfd.Independent(tfd.Bernoulli(logits=...), 1)",
        )
    batch, event = decoded.batch_shape, decoded.event_shape
    if batch != z.shape[:-1] or event != x.shape[1:]:
        raise model.wrong(
            f"has a decode(z) of batch shape {batch} and event shape {event} for z "
            f"{list(z.shape)}, and an x of the data has shape {x.shape[1:]}",
            f"give batch shape {z.shape[:-1]} and event shape {x.shape[1:]}, which tfd.Independent "
            "makes of parameters with the axes of z and x",
        )


def _check_likelihood(model: AdaptedModel, x: tf.Tensor, z: tf.Tensor) -> None:
    name = "log p(x|z)"
    values = _call(model, name, lambda: model.log_likelihood(x, z))
    _require_tensor(model, name, values, [NUM_DRAWS, TRIAL_SIZE], _shapes(x, z))
    numbers = values.numpy()
    if np.isnan(numbers).any():
        raise model.wrong(f"gives NaN as {name} at a draw of the prior", "mend the function")
    if not np.isfinite(numbers).any():
        raise model.wrong(
            f"gives {numbers.flat[0]} as {name} at all draws of the prior",
            "see that the data have the values that p(x|z) is a density of",
        )
    few = _call(model, name, lambda: model.log_likelihood(x[:2], z[:1, :2])).numpy()
    _require_same(model, name, few, numbers[:1, :2])


def _check_score(
    model: AdaptedModel, name: str, function: LogDensity, x: tf.Tensor, z: tf.Tensor
) -> None:
    """Refuses a log-density of x and z that cannot be differentiated in a graph."""

    def value_and_gradient(x: tf.Tensor, z: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = function(x, z)
        return value, tape.gradient(value, z)

    graph = tf.function(value_and_gradient, autograph=False)
    value, gradient = _call(
        model, f"{name} in a tf.function", lambda: graph.get_concrete_function(x, z)(x, z)
    )
    tensorflow = "write it in operations of TensorFlow, without NumPy"
    if gradient is None:
        raise model.wrong(f"has a {name} without a gradient with respect to z", tensorflow)
    finite = np.isfinite(value.numpy())
    if not np.isfinite(gradient.numpy()[finite]).all():
        raise model.wrong(
            f"has a gradient of {name} with respect to z that is not finite",
            "mend the function: chains follow this gradient",
        )


def _check_simulation(model: AdaptedModel, x: tf.Tensor, z: tf.Tensor) -> None:
    name = "a simulated x"
    drawn = [_call(model, name, lambda: model.simulate(z[0], (0, 0))) for _ in range(2)]
    _require_tensor(model, name, drawn[0], x.shape, f"z {list(z.shape[1:])}")
    values = drawn[0].numpy()
    if np.isnan(values).any():
        raise model.wrong("simulates x with NaN", "mend the function")
    if not np.array_equal(values, drawn[1].numpy()):
        raise model.wrong(
            "simulates another x from the same z and seed",
            "give the seed, int32 [2], to a stateless function such as tf.random.stateless_normal",
        )


def _check_encoder(model: AdaptedModel, x: tf.Tensor, z: tf.Tensor) -> None:
    posterior = _call(model, "encode(x)", lambda: model.encode(x))
    remedy = "give a TFP distribution of float32, of batch shape [batch] and event shape "
    remedy += "[latent_dim]"
    if not isinstance(posterior, tfd.Distribution):
        raise model.wrong(f"has an encode(x) that returns a {type(posterior).__name__}", remedy)
    dtype, batch, event = posterior.dtype, posterior.batch_shape, posterior.event_shape
    if dtype != tf.float32 or batch != [TRIAL_SIZE] or event != z.shape[-1:]:
        raise model.wrong(
            f"has an encode(x) that returns {tf.as_dtype(dtype).name} of batch shape {batch} and "
            f"event shape {event} for x {list(x.shape)} and {z.shape[-1]} latents",
            remedy,
        )
    model.require("q(z|x)", check_posterior, posterior)
    _check_lengths(model, "q(z|x)", posterior)
    name = "log q(z|x)"
    values = _call(model, name, lambda: posterior.log_prob(z))
    _require_tensor(model, name, values, [NUM_DRAWS, TRIAL_SIZE], _shapes(x, z))
    few = _call(model, name, lambda: model.encode(x[:2]).log_prob(z[:, :2]))
    _require_same(model, name, few.numpy(), values.numpy()[:, :2])
    _check_score(model, name, lambda x, z: model.encode(x).log_prob(z), x, z)


def _check_lengths(model: AdaptedModel, name: str, distribution: Any) -> None:
    """Refuses a distribution without the moments that chains and results need."""
    for moment in ("mean", "stddev"):
        remedy = "give one that has, such as a Gaussian"
        try:
            values = np.asarray(getattr(distribution, moment)())
        except RAISED as error:
            raise model.wrong(f"has a {name} without a {moment}", remedy) from error
        positive = moment == "mean" or (values > 0.0).all()
        if not (np.isfinite(values).all() and positive):
            wrong = "not finite" if moment == "mean" else "not finite, or not positive"
            raise model.wrong(
                f"has a {name} whose {moment} is {wrong}",
                "give one with finite parameters that has a mean and a stddev, such as a Gaussian",
            )


def _call(model: AdaptedModel, what: str, function: Callable[[], Any]) -> Any:
    """Calls a user's function, whose errors become one line."""
    try:
        return function()
    except SMVIError:
        raise
    except RAISED as error:
        raise model.wrong(
            f"fails for {what}: {reason_of(error, model.file)}",
            "mend it, for float32 x [batch, ...] and z [..., batch, latent_dim]",
        ) from error


def _require_tensor(model: AdaptedModel, what: str, value: Any, shape: Any, arguments: str) -> None:
    """Refuses a value that is no float32 of a shape."""
    if not tf.is_tensor(value):
        raise model.wrong(f"gives a {type(value).__name__} as {what}", "give a tensor of float32")
    if value.dtype != tf.float32:
        raise model.wrong(f"gives {what} of {value.dtype.name}", "give float32")
    if value.shape != shape:
        raise model.wrong(
            f"gives {what} of shape {list(value.shape)} for {arguments}",
            f"give {list(shape)}, as tfd.Independent does over the axes of an x",
        )


def _require_same(model: AdaptedModel, what: str, few: np.ndarray, all_: np.ndarray) -> None:
    if not np.allclose(few, all_, ROUNDING, ROUNDING, equal_nan=True):
        place = int(np.abs(few - all_).argmax())
        raise model.wrong(
            f"gives another {what} for an example if others are in its batch: "
            f"{few.flat[place]:.6g} and {all_.flat[place]:.6g}",
            "leave out what is random or looks at the batch, such as Dropout or BatchNormalization "
            "in training",
        )


def _shapes(x: tf.Tensor, z: tf.Tensor) -> str:
    return f"x {list(x.shape)} and z {list(z.shape)}"
