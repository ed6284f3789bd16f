"""Networks that a user's function makes, held to what a model needs of them."""

import contextlib
import random
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_smvi.config import ModelConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.models.architectures import Networks, NetworkShapes, input_shape_of
from tfp_smvi.models.imports import RAISED, UserFunction, reason_of
from tfp_smvi.models.keras_backend import keras

__all__ = ["own_networks"]

# Examples in a trial of a network, and how its outputs may round from one call to the next.
TRIAL_SIZE, ROUNDING = 3, 1e-5


def own_networks(
    function: UserFunction, shapes: NetworkShapes, config: ModelConfig, seed: int
) -> Networks:
    """Calls a user's function for its networks, whose weights follow from the seed.

    Args:
        function: (image_shape, config) -> encoder, decoder.
        shapes: what the networks must take and return.
        config: the model's settings, for the function.
        seed: the seed of the initialization, any integer.

    Raises:
        SMVIError: the function raises an error or returns something else, or a network is random,
            or changes its variables when it is called.
    """
    with _seeded(zlib.crc32(f"{seed}/{function.name}".encode())):
        networks = function(shapes.image_shape, config)
    kinds = [isinstance(network, keras.Model) for network in _listed(networks)]
    if kinds != [True, True]:
        names = ", ".join(type(network).__name__ for network in _listed(networks))
        remedy = "give encoder, decoder: two models of Keras 3"
        raise _wrong(function, f"returns {names or 'nothing'}", remedy)
    networks = Networks(*networks)
    size, outputs = shapes.decoder_size, shapes.decoder_outputs
    image = shapes.image_shape
    _check(function, "encoder", networks.encoder, shapes.input_shape, [(shapes.encoder_outputs,)])
    _check(
        function,
        "decoder",
        networks.decoder,
        (shapes.latent_dim,),
        [(*image, outputs), (size,), (*image[:-1], image[-1] * outputs)],
    )
    return networks


def _listed(networks: Any) -> list[Any]:
    return [*networks] if isinstance(networks, tuple | list) else [networks]


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds what the initializers of Keras draw their seeds from; afterwards all is as before."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def _check(
    function: UserFunction,
    name: str,
    network: keras.Model,
    input_shape: tuple[int, ...],
    output_shapes: list[tuple[int, ...]],
) -> None:
    """Calls a network as a model does, and refuses what no density can be made of."""
    shape = input_shape_of(network, input_shape)
    x = np.random.default_rng(0).random((TRIAL_SIZE, *shape), np.float32)
    expected = " or ".join(map(_batch, output_shapes))
    remedy = f"give {name}: float32 {_batch(shape)} -> {expected}"
    # The first call makes the weights of some networks.
    (output,) = _calls(function, name, network, x, training=False, number=1)
    kinds = {variable.dtype for variable in network.variables} - {"float32"}
    if output.dtype != np.float32:
        raise _wrong(function, f"returns {_a(name)} of {output.dtype}", remedy)
    if len(output) != TRIAL_SIZE or output.shape[1:] not in output_shapes:
        problem = f"returns {_a(name)} with outputs {_batch(output.shape[1:])}"
        raise _wrong(function, problem, remedy)
    _require_function(function, name, network, x, output)
    if kinds:
        problem = f"returns {_a(name)} with variables of {', '.join(sorted(kinds))}"
        raise _wrong(function, problem, "give float32")


def _require_function(
    function: UserFunction, name: str, network: keras.Model, x: np.ndarray, output: np.ndarray
) -> None:
    """Refuses a network that is random or keeps a state, in training or not."""
    before = [variable.numpy() for variable in network.variables]
    others = [
        y for training in (True, False) for y in _calls(function, name, network, x, training, 2)
    ]
    changed = [
        variable.path
        for variable, value in zip(network.variables, before, strict=True)
        if not np.array_equal(variable.numpy(), value)
    ]
    differ = any(not np.allclose(y, output, ROUNDING, ROUNDING) for y in others)
    if changed or differ:
        what = f"changes {', '.join(changed)}" if changed else "gives other outputs at the same x"
        raise _wrong(
            function,
            f"returns {_a(name)} that {what} when it is called in training",
            "leave out Dropout, BatchNormalization and the like: q(z|x) and p(x|z) must be "
            "functions; LayerNormalization is one",
        )


def _calls(
    function: UserFunction,
    name: str,
    network: keras.Model,
    x: np.ndarray,
    training: bool,
    number: int,
) -> list[np.ndarray]:
    """Returns what a network gives in calls of one graph, whose batch has any size.

    After tf.random.set_seed the random numbers of two graphs are the same.
    """
    signature = tf.TensorSpec([None, *x.shape[1:]], tf.float32)
    graph = tf.function(lambda x: network(x, training=training), autograph=False)
    try:
        concrete = graph.get_concrete_function(signature)
        return [concrete(tf.constant(x)).numpy() for _ in range(number)]
    except RAISED as error:
        raise _wrong(
            function,
            f"returns {_a(name)} that fails: {reason_of(error, function.file)}",
            f"give {_a(name)} of float32 {_batch(x.shape[1:])}, a batch of any size",
        ) from error


def _a(name: str) -> str:
    return f"an {name}" if name == "encoder" else f"a {name}"


def _batch(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, ('batch', *shape)))}]"


def _wrong(function: UserFunction, problem: str, remedy: str) -> SMVIError:
    return SMVIError(problem, field="model", value=function.name, remedy=remedy)
