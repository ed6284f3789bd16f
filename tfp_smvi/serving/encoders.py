"""What gives features of images: the encoder of an export, in this process or behind a server."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import SMVIError, plain_reason

__all__ = [
    "Encoder",
    "Features",
    "LocalEncoder",
    "RejectedImagesError",
    "Signature",
    "check_features",
    "export_versions",
    "make_signature",
]


class Features(NamedTuple):
    """The parameters of q(z|x) = N(mean, diag(stddev^2)) for some images.

    Attributes:
        mean: float32 [n, latent_dim].
        stddev: float32 [n, latent_dim].
    """

    mean: npt.NDArray[np.float32]
    stddev: npt.NDArray[np.float32]


class Signature(NamedTuple):
    """One way to ask a model for features.

    Attributes:
        input_name: the name of its only input.
        dtype: "float32", "uint8" or "string".
        image_shape: the shape of one image; empty for encoded images.
        latent_dim: the size of mean and stddev.
    """

    input_name: str
    dtype: str
    image_shape: tuple[int, ...]
    latent_dim: int


class RejectedImagesError(SMVIError):
    """The model is there and refuses these images."""


class Encoder(Protocol):
    """A model that is asked for features; `encode` may be called from several threads."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """JSON values that differ where the features may differ."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The ways to ask it, by name."""

    def encode(self, signature: str, images: Any) -> Features:
        """Returns the features of images.

        Args:
            signature: "serving_default", with images: float32 [n, *image_shape] in [0, 1]; "uint8",
                with images:
                uint8 [n, *image_shape]; or "encoded_image", with a list of n PNG or JPEG files'
                bytes.
            images: the images.

        Raises:
            RejectedImagesError: the model refuses them.
            SMVIError: the model does not answer, or what it answers is no features.
        """

    def close(self) -> None:
        """Ends what is under way; the encoder can no longer be used."""


class LocalEncoder:
    """A version of an export, loaded into this process.

    Args:
        path: the folder of a model, with versions in it, or that of one version.
        version: the version; None for the highest.

    Raises:
        SMVIError: there is no such export, it cannot be loaded or is no encoder.
    """

    def __init__(self, path: Path | str, version: int | None = None) -> None:
        """Loads it."""
        import tensorflow as tf

        folder = _version_folder(Path(path), version)
        try:
            self._model = tf.saved_model.load(str(folder))
            functions = dict(self._model.signatures)
            self.identity = {"sha256": _hash(folder)}
        except (
            Exception
        ) as error:  # a damaged file may fail anywhere in TensorFlow, each in its own way
            reason = plain_reason(error)
            raise SMVIError(
                f"cannot load the export {folder} ({reason}); export the run again."
            ) from error
        self.signatures: dict[str, Signature] = {}
        for name, function in functions.items():
            inputs = {
                key: (spec.dtype.name, spec.shape.as_list())
                for key, spec in function.structured_input_signature[1].items()
            }
            outputs = {
                key: spec.shape.as_list() for key, spec in function.structured_outputs.items()
            }
            self.signatures |= make_signature(name, inputs, outputs)
        require_signatures(self.signatures, str(folder))
        self._functions = functions

    def encode(self, signature: str, images: Any) -> Features:
        """Returns the features of images; see `Encoder.encode`."""
        import tensorflow as tf

        how = self.signatures[signature]
        try:
            outputs = self._functions[signature](**{how.input_name: tf.constant(images, how.dtype)})
        except tf.errors.InvalidArgumentError as error:
            raise RejectedImagesError(plain_reason(error)) from error
        features = Features(outputs["mean"].numpy(), outputs["stddev"].numpy())
        return check_features(features, len(images), how.latent_dim, "the model")

    def close(self) -> None:
        """There is nothing to end."""


def make_signature(
    name: str,
    inputs: Mapping[str, tuple[str, list[int | None]]],
    outputs: Mapping[str, list[int | None]],
) -> dict[str, Signature]:
    """Describes a signature, by its name; returns nothing where it is no way to ask for features."""
    if len(inputs) != 1 or not {"mean", "stddev"} <= set(outputs):
        return {}
    ((input_name, (dtype, shape)),) = inputs.items()
    latent = outputs["mean"]
    if len(latent) != 2 or latent[1] is None or any(size is None for size in shape[1:]):
        return {}
    return {name: Signature(input_name, dtype, tuple(size or 0 for size in shape[1:]), latent[1])}


def require_signatures(signatures: Mapping[str, Signature], where: str) -> None:
    """Raises an SMVIError where a model has no signature that gives features."""
    if not signatures:
        raise SMVIError(
            f"{where} is no encoder: it has no signature with one input and the outputs mean and stddev; "
            "make an export with tfp-smvi export."
        )


def check_features(features: Features, num_images: int, latent_dim: int, where: str) -> Features:
    """Returns the features if they are float32, finite and [num_images, latent_dim].

    Raises:
        SMVIError: they are not; the message begins with `where`.
    """
    for name, values in features._asdict().items():
        if values.dtype != np.float32 or values.shape != (num_images, latent_dim):
            raise SMVIError(
                f"{where} gave {name} as {values.dtype} {list(values.shape)} for {num_images} images, and not as "
                f"float32 [{num_images}, {latent_dim}]; is it an export of tfp-smvi?"
            )
        if not np.isfinite(values).all():
            raise SMVIError(
                f"{where} gave values of {name} that are not finite; look at the model's training."
            )
    return features


def _version_folder(path: Path, version: int | None) -> Path:
    """Finds the folder of a version: the highest, the one that is asked for, or `path` itself."""
    if (path / "saved_model.pb").exists():
        if version is not None:
            raise SMVIError(
                f"{path} is one version of an export; leave --version out, or give {path.parent}."
            )
        return path
    versions = export_versions(path)
    if not versions:
        raise SMVIError(f"{path} holds no export; make one with tfp-smvi export.")
    if version is not None and version not in versions:
        raise SMVIError(f"{path} has no version {version}; it has {', '.join(map(str, versions))}.")
    return path / str(versions[-1] if version is None else version)


def export_versions(path: Path) -> list[int]:
    """Returns the versions of an export, in ascending order: folders named by a number, with a model in them."""
    found = [folder.parent.name for folder in path.glob("*/saved_model.pb")]
    return sorted(int(name) for name in found if name.isdecimal() and not name.startswith("0"))


def _hash(folder: Path) -> str:
    """Hashes the graph and the weights of an export: SHA-256 in hex."""
    digest = hashlib.sha256()
    for path in (folder / "saved_model.pb", *sorted((folder / "variables").iterdir())):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
