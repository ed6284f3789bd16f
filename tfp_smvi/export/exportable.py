"""The model of a run in the form that an export needs: of x as it was given."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfp_smvi.config import PartName
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.given_units import in_given_units
from tfp_smvi.runs.loading import LoadedRun

__all__ = ["exportable"]


def exportable(run: LoadedRun, part: PartName) -> Any:
    """Returns the model of a run, of x in the units that the data were given in.

    Args:
        run: the run.
        part: the part to export.

    Returns:
        A `tfp_smvi.export.signatures.Encodes`, and a `tfp_smvi.VAE` if there is a decoder.

    Raises:
        SMVIError: the model cannot be exported.
    """
    if isinstance(run.model, VAE):
        return in_given_units(run.model, run.standardization)
    if part != "encoder":
        raise SMVIError(
            "is not for a model that was given in Python, whose p(x|z) has no known parameters",
            field="part",
            value=part,
            remedy="give encoder",
        )
    return in_given_units(_GivenModel(run), run.standardization)


class _GivenModel:
    """A model that was given in Python, with what its run records of x."""

    def __init__(self, run: LoadedRun) -> None:
        """Takes the run."""
        self._model, self.image_shape, self.config = run.model, run.image_shape, run.config.model

    @property
    def named_variables(self) -> Mapping[str, tf.Variable]:
        """All variables by name."""
        return self._model.named_variables

    def encode(self, x: tf.Tensor) -> Any:
        """Returns q(z|x)."""
        return self._model.encode(x)
