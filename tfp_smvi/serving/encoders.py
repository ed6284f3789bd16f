"""Encoders that give features of examples: the protocol, and an export loaded into this process."""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import NotFoundError, SMVIError, plain_reason
from tfp_smvi.core.files import open_regular
from tfp_smvi.core.runtime import require_float32
from tfp_smvi.engines.recipes import Recipe
from tfp_smvi.export.formats import find_cut_products, find_weakness, read_names
from tfp_smvi.serving.pretrained import find_model, on_any_host

__all__ = [
    "Encoder",
    "Features",
    "FunctionEncoder",
    "Identity",
    "Images",
    "LocalEncoder",
    "RejectedImagesError",
    "Signature",
    "TensorInfo",
    "check_features",
    "export_versions",
    "make_signature",
    "require_signatures",
]

# JSON values that differ wherever examples or features may differ.
Identity = Mapping[str, str | int]
# What a signature takes: an array [n, *image_shape], or the bytes of n image files.
Images = npt.NDArray[Any] | Sequence[bytes]


class Features(NamedTuple):
    """The parameters of q(z|x) = N(mean, diag(stddev^2)) for some examples.

    Attributes:
        mean: float32 [n, latent_dim].
        stddev: float32 [n, latent_dim].
    """

    mean: npt.NDArray[np.float32]
    stddev: npt.NDArray[np.float32]


class TensorInfo(NamedTuple):
    """An input or an output of a signature, as a model describes it.

    Attributes:
        dtype: the name of its dtype, such as "float32".
        shape: its shape, with None for a size that is free.
    """

    dtype: str
    shape: tuple[int | None, ...]


class Signature(NamedTuple):
    """One way to ask a model for features.

    Attributes:
        input_name: the name of its only input.
        dtype: "float32", "uint8" or "string".
        image_shape: the shape of one x; empty for encoded images.
        latent_dim: the size of mean and stddev.
    """

    input_name: str
    dtype: str
    image_shape: tuple[int, ...]
    latent_dim: int


class RejectedImagesError(SMVIError):
    """The model answers and refuses these examples."""


class Encoder(Protocol):
    """A model that returns features; `encode` may be called from several threads."""

    @property
    def identity(self) -> Identity:
        """JSON values that differ wherever the features may differ."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The signatures that return features, by name."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the entries of x, such as columns, in order; None if they are not known."""

    def encode(self, signature: str, images: Images) -> Features:
        """Returns the features of examples.

        Args:
            signature: "serving_default", with images: float32 [n, *image_shape] in [0, 1];
                "uint8", with images: uint8 [n, *image_shape]; or "encoded_image", with the bytes
                of n PNG or JPEG files.
            images: the examples.

        Raises:
            RejectedImagesError: the model refuses the examples.
            SMVIError: the model does not answer, or its answer is not features.
        """

    def close(self) -> None:
        """Cancels running requests; the encoder can no longer be used."""


class FunctionEncoder:
    """An encoder of concrete functions of TensorFlow in this process.

    Args:
        functions: by the name of their signature; those that return features have one input and
            the outputs mean and stddev.
        identity: JSON values that differ wherever the features may differ.
        names: the names of the entries of x, or None.
        where: where they come from, for messages.

    Raises:
        SMVIError: none of them returns features.
    """

    def __init__(
        self,
        functions: Mapping[str, Any],
        identity: Identity,
        names: tuple[str, ...] | None,
        where: str,
    ) -> None:
        """Describes the functions."""
        self._functions, self.identity, self.names = functions, identity, names
        self.signatures: dict[str, Signature] = {}
        for name, function in functions.items():
            positional, named = function.structured_input_signature
            inputs = _describe({spec.name: spec for spec in positional} | named)
            self.signatures |= make_signature(name, inputs, _describe(function.structured_outputs))
        require_signatures(self.signatures, where)

    def encode(self, signature: str, images: Images) -> Features:
        """Returns the features of examples; see `Encoder.encode`."""
        import tensorflow as tf

        how = self.signatures[signature]
        try:
            outputs = self._functions[signature](**{how.input_name: tf.constant(images, how.dtype)})
        except tf.errors.InvalidArgumentError as error:
            raise RejectedImagesError(plain_reason(error)) from error
        features = Features(outputs["mean"].numpy(), outputs["stddev"].numpy())
        return check_features(features, len(images), how.latent_dim, "the model")

    def close(self) -> None:
        """Does nothing: there are no requests to cancel."""


class LocalEncoder(FunctionEncoder):
    """A version of an export, loaded into this process.

    Args:
        model: the folder of a model, with its versions, or of one version, or "pretrained:NAME".
        version: the version; None for the highest.
        warn: is called with a line if the export should be made again for its safety, or does not
            suit this processor; None warns as Python does.

    Raises:
        SMVIError: there is no such export, it cannot be loaded, or it is not an encoder.
    """

    def __init__(
        self,
        model: Path | str,
        version: int | None = None,
        *,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """Loads it."""
        import tensorflow as tf

        require_float32()
        folder = _version_folder(find_model(model), version)
        self.recipe = Recipe(f"{__name__}:LocalEncoder", on_any_host(folder))
        for line in filter(None, (find_weakness(folder), find_cut_products(folder))):
            (warn or warnings.warn)(line)
        try:
            # The signatures are only valid as long as the model exists.
            self._model = tf.saved_model.load(str(folder))
            functions = dict(self._model.signatures)
            identity: Identity = {"sha256": _hash(folder)}
            names = read_names(folder)
        except Exception as error:  # a damaged file makes TensorFlow raise nearly anything
            raise SMVIError(
                f"cannot load the export {folder} ({plain_reason(error)})",
                remedy="export the run again",
            ) from error
        super().__init__(functions, identity, names, str(folder))


def make_signature(
    name: str, inputs: Mapping[str, TensorInfo], outputs: Mapping[str, TensorInfo]
) -> dict[str, Signature]:
    """Returns a signature by its name, or an empty dictionary if it does not return features."""
    if len(inputs) != 1 or not {"mean", "stddev"} <= set(outputs):
        return {}
    ((input_name, (dtype, shape)),) = inputs.items()
    latent = outputs["mean"].shape
    if len(latent) != 2 or latent[1] is None or None in shape[1:]:
        return {}
    return {name: Signature(input_name, dtype, tuple(size or 0 for size in shape[1:]), latent[1])}


def require_signatures(signatures: Mapping[str, Signature], where: str) -> None:
    """Raises an SMVIError if no signature of the model at `where` returns features."""
    if not signatures:
        raise SMVIError(
            f"{where} is not an encoder: it has no signature with one input and the outputs mean "
            "and stddev",
            remedy="make an export with tfp-smvi export",
        )


def check_features(features: Features, num_images: int, latent_dim: int, where: str) -> Features:
    """Returns the features if they are float32 [num_images, latent_dim], finite, and stddev >= 0.

    Raises:
        SMVIError: they are not; the message begins with `where`.
    """
    for name, values in features._asdict().items():
        if values.dtype != np.float32 or values.shape != (num_images, latent_dim):
            raise SMVIError(
                f"{where} returned {name} as {values.dtype} {list(values.shape)} for {num_images} "
                f"examples instead of float32 [{num_images}, {latent_dim}]",
                remedy="use an export of tfp-smvi",
            )
        if not np.isfinite(values).all():
            problem = f"{where} returned values of {name} that are not finite"
            raise SMVIError(problem, remedy="check the training of the model")
    if (features.stddev < 0).any():
        problem = f"{where} returned values of stddev that are negative"
        raise SMVIError(problem, remedy="use an export of tfp-smvi")
    return features


def export_versions(path: Path) -> list[int]:
    """Returns the versions of an export in ascending order: numbered folders that hold a model."""
    names = [folder.parent.name for folder in path.glob("*/saved_model.pb")]
    return sorted(int(name) for name in names if name.isdecimal() and not name.startswith("0"))


def _describe(specs: Mapping[str, Any]) -> dict[str, TensorInfo]:
    """Describes the tensors of a signature, from TensorFlow's TensorSpecs."""
    return {
        key: TensorInfo(spec.dtype.name, tuple(spec.shape.as_list())) for key, spec in specs.items()
    }


def _version_folder(model: Path, version: int | None) -> Path:
    """Finds the folder of a version: the highest, the requested one, or `model` itself."""
    if (model / "saved_model.pb").exists():
        if version is not None:
            raise SMVIError(
                f"is not allowed, because {model} is one version of an export",
                field="version",
                value=version,
                remedy=f"leave it out, or give {{model}} {model.parent}",
            )
        return model
    versions = export_versions(model)
    if not versions:
        raise NotFoundError(
            "holds no export",
            field="model",
            value=str(model),
            remedy="make one with tfp-smvi export",
        )
    if version is not None and version not in versions:
        raise NotFoundError(
            f"does not exist in {model}",
            field="version",
            value=version,
            remedy=f"give one of: {', '.join(map(str, versions))}",
        )
    return model / str(versions[-1] if version is None else version)


def _hash(folder: Path) -> str:
    """Hashes the graph and the weights of an export: SHA-256 in hex."""
    digest = hashlib.sha256()
    for path in (folder / "saved_model.pb", *sorted((folder / "variables").iterdir())):
        with open_regular(path) as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
