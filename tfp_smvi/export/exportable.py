"""The model of a run in the form that an export needs: of x as it was given."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import tensorflow as tf

from tfp_smvi.config import ExportPrecision, ExportWeights, Kind, PartName
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.records import decode
from tfp_smvi.export.stored_weights import HalfWeights
from tfp_smvi.models.layers import Dense
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.given_units import in_given_units
from tfp_smvi.runs.loading import LoadedRun, load_data_of

__all__ = ["check_precision", "exportable", "find_kind"]


def exportable(run: LoadedRun, part: PartName, weights: ExportWeights = "float32") -> Any:
    """Returns the model of a run, of x in the units that the data were given in.

    Args:
        run: the run.
        part: the part to export.
        weights: the dtype that its weights are stored in.

    Returns:
        A `tfp_smvi.export.signatures.Encodes`, and a `tfp_smvi.VAE` if there is a decoder.

    Raises:
        SMVIError: the model cannot be exported.
    """
    if isinstance(run.model, VAE):
        model = HalfWeights(run.model) if weights == "float16" else run.model
        return in_given_units(model, run.standardization)
    if part != "encoder":
        raise SMVIError(
            "is not for a model that was given in Python, whose p(x|z) has no known parameters",
            field="part",
            value=part,
            remedy="give encoder",
        )
    return in_given_units(_GivenModel(run), run.standardization)


def check_precision(
    run: LoadedRun,
    part: PartName,
    formats: Collection[str],
    precision: ExportPrecision,
    weights: ExportWeights,
) -> None:
    """Raises an SMVIError if a run cannot be exported with such products and weights."""
    chosen = {
        "precision": decode("precision", precision, ExportPrecision),
        "weights": decode("weights", weights, ExportWeights),
    }
    model = run.model
    dense = isinstance(model, VAE) and all(isinstance(n, Dense) for n in model.encoder.layers)
    plain = (not formats, "is only for the SavedModel", ", or leave {formats} out")
    # Whether what is not float32 is possible, and the error if it is not.
    rules = (
        ("precision", part == "encoder", "is only for the encoder", ", or encoder as {part}"),
        ("precision", *plain),
        ("precision", dense, "is only for the architecture dense", ""),
        ("weights", *plain),
        ("weights", isinstance(model, VAE), "is not for a model that was given in Python", ""),
    )
    for name, possible, problem, instead in rules:
        if chosen[name] != "float32" and not possible:
            remedy = f"give float32{instead}"
            raise SMVIError(problem, field=name, value=chosen[name], remedy=remedy)


def find_kind(run: LoadedRun, note: Callable[[str], None]) -> Kind:
    """What the values of x are; if the run does not record it, the data decide."""
    if run.kind is not None:
        return run.kind
    if run.config.model.likelihood != "gaussian" or not run.config.data.is_file:
        return "intensities"
    try:
        return load_data_of(run).kind
    except SMVIError as error:
        note(
            "Cannot tell whether the data are intensities in [0, 1], so any real inputs are "
            f"allowed: {error}"
        )
        return "real"


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
