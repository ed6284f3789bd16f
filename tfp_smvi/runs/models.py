"""The model of a run: made from its configuration, with the user's code if it names some."""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfp_smvi.config import RunConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.models.imports import import_function, sha256_of
from tfp_smvi.models.protocol import TrainableModel
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.records import CodeRecord

__all__ = ["RunModel", "code_of", "given_model", "make_model", "weights_digest"]

# What a model given in Python must have.
_MEMBERS = ("encode", "decode", "prior", "log_joint", "named_variables", "trainable_variables")


class RunModel(NamedTuple):
    """The model of a run.

    Attributes:
        model: the model, with the weights of its initialization.
        code: the user's code that it is made with; None for none.
    """

    model: TrainableModel
    code: CodeRecord | None


def make_model(
    config: RunConfig,
    image_shape: tuple[int, ...],
    run_dir: Path,
    note: Callable[[str], None] = lambda line: None,
) -> RunModel:
    """Makes the model that a configuration describes.

    Args:
        config: the configuration, complete.
        image_shape: the shape of one x.
        run_dir: the run directory, from which no code is imported.
        note: receives one line on what is imported, before it is.

    Raises:
        SMVIError: the architecture cannot take such x, or the function that the configuration names
            cannot be imported or is not usable.
    """
    function = code = None
    if config.model.model is not None:
        function = import_function(config.model.model, run_dir, note)
        code = CodeRecord(function.name, function.file, function.sha256)
    return RunModel(VAE(config.model, image_shape, config.train.seed, function), code)


def given_model(model: Any, config: RunConfig) -> RunModel:
    """Checks a model that was made in Python, and describes its class.

    Raises:
        SMVIError: it lacks what the package needs, or the configuration describes another one.
    """
    code = code_of(model)
    missing = [member for member in _MEMBERS if not hasattr(model, member)]
    if config.train.averaging_steps and not hasattr(model, "copy"):
        missing.append("copy")
    if missing:
        raise SMVIError(
            f"has no {', '.join(missing)}",
            field="model",
            value=code.name,
            remedy="see tfp_smvi.TrainableModel; copy is only for {averaging_steps} above 0",
        )
    for field, value, default in (
        ("model", config.model.model, None),
        ("init_from", config.train.init_from, None),
        ("precision", config.train.precision, "float32"),
    ):
        if value != default:
            raise SMVIError(
                "is not for a model that is given in Python",
                field=field,
                value=value,
                remedy="leave it out",
            )
    return RunModel(model, code)


def code_of(model: Any) -> CodeRecord:
    """Describes the class of an object that was made in Python."""
    try:
        file = inspect.getsourcefile(type(model))
    except (TypeError, OSError):  # such as that of a notebook
        file = None
    name = f"{type(model).__module__}:{type(model).__qualname__}"
    return CodeRecord(name, file, sha256_of(file))


def weights_digest(variables: Mapping[str, tf.Variable]) -> str:
    """Returns the SHA-256 of variables and their names, in hex."""
    digest = hashlib.sha256()
    for name, variable in sorted(variables.items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(variable.numpy()).data)
    return digest.hexdigest()
