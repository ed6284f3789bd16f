"""A trained model as a versioned SavedModel for TF Serving: verified, then published in one step.

    <output>/<name>/<version>/
        saved_model.pb, variables/, fingerprint.pb   the model
        assets.extra/tf_serving_warmup_requests      a request for each signature, and the answer
        onnx/, tflite/                               the signatures for other runtimes, if wanted
        model_card.json                              what the model is, and its origin
        SHA256SUMS                                   the checksums of all these files

References:
    [1] https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfp_smvi.config import ExportPrecision, ExportWeights, FormatName, Kind, PartName
from tfp_smvi.core.errors import SMVIError, name_fields, plain_reason
from tfp_smvi.core.extras import of_extra
from tfp_smvi.core.paths import require_utf_8
from tfp_smvi.core.runtime import numerics_unchecked
from tfp_smvi.data.standardization import doubts_of_rounding
from tfp_smvi.data.values import to_float
from tfp_smvi.export.card import ModelCard, describe_run
from tfp_smvi.export.check import find_wrong_answer, write_checksums
from tfp_smvi.export.exportable import check_precision, exportable, find_kind
from tfp_smvi.export.formats import MODEL_CARD, find_cut_products
from tfp_smvi.export.runtimes import add_formats, check_formats
from tfp_smvi.export.signatures import (
    Encodes,
    Part,
    decoder_part,
    describe_signatures,
    describe_values,
    encoder_part,
    parameters_of,
)
from tfp_smvi.export.standalone_check import WARMUP_REQUESTS
from tfp_smvi.export.versions import NOT_PUBLISHED, publish
from tfp_smvi.models.protocol import TrainableModel
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.directory import run_directory_name
from tfp_smvi.runs.loading import LoadedRun, load_run
from tfp_smvi.storage.atomic import write_json
from tfp_smvi.storage.json_files import read_json

__all__ = ["ExportResult", "export_run"]

# Few, so that a warm-up takes no time; more than one, so that mixed-up examples would show.
NUM_EXAMPLES = 3


class ExportResult(NamedTuple):
    """A published model.

    Attributes:
        path: the folder of the version.
        card: its model card.
    """

    path: Path
    card: ModelCard


class _Example(NamedTuple):
    """Inputs of a signature, and the answers of the model in memory, by name."""

    inputs: Mapping[str, npt.NDArray[Any]]
    outputs: Mapping[str, npt.NDArray[Any]]


class _Export(NamedTuple):
    """One model to publish: its card, the part itself, and an example for each signature."""

    card: ModelCard
    part: Part
    examples: Mapping[str, _Example]


def export_run(
    run_dir: Path | str,
    *,
    output: Path | str = "saved_models",
    model_name: str | None = None,
    version: int | None = None,
    part: PartName = "encoder",
    formats: Sequence[FormatName] = (),
    precision: ExportPrecision = "float32",
    weights: ExportWeights = "float32",
    verify: bool = True,
    model: TrainableModel | None = None,
    note: Callable[[str], None] = lambda line: None,
    warn: Callable[[str], None] | None = None,
) -> list[ExportResult]:
    """Publishes the newest state of a run as a new version of a model.

    A version appears whole or not at all. With part "both", encoder and decoder are two models with
    the same version, and neither is published before both are written.

    Args:
        run_dir: the run directory.
        output: the folder of the models.
        model_name: the name; None for that of the run, such as "mnist-lam0.5-seed0". The name of
            the decoder ends in "-decoder", unless the decoder alone is exported under a given name.
        version: the version, at least 1; None for the next free one.
        part: the part to export.
        formats: what to write beside the SavedModel for other runtimes: "onnx", "tflite" or both; a
            signature that a runtime cannot take is left out, with a note.
        precision: of the encoder's matrix products; all else is float32. "bfloat16" is faster on a
            processor that multiplies it, and for dense networks without other formats.
        weights: the dtype that they are stored in; "float16" takes half of the bytes, without other
            formats. All arithmetic with the rounded weights is as without.
        verify: whether to load the result in a fresh process, and to publish it only if it answers
            like the model.
        model: a model as `fit` was given, which gets the weights; for a run of such a model, of
            which only the encoder can be exported.
        note: receives lines for the user.
        warn: receives the warnings of the run, with settings in braces such as "{epochs}"; None for
            `note`, with their names.

    Returns:
        The published model; with part "both" two of them.

    Raises:
        SMVIError: there is no trained run, the part, a format, the name or the version is not
            allowed, the version exists, the folder cannot be written, no signature can be written
            in a format, a package is missing, or the verification fails.
    """
    if part not in get_args(PartName):
        raise SMVIError(
            "is not allowed",
            field="part",
            value=part,
            remedy=f"give one of {', '.join(get_args(PartName))}",
        )
    run_dir, output, chosen = Path(run_dir), Path(output), check_formats(formats, verify=verify)
    require_utf_8(output, "output")
    warn = warn or (lambda line: note(f"Warning: {name_fields(line)}"))
    run = load_run(run_dir, model=model, note=note, warn=warn)
    check_precision(run, part, chosen, precision, weights)
    exports = _exports(run, run_dir, model_name, part, precision, weights, note)
    writers = {
        name: functools.partial(_write, export, chosen, verify, note)
        for name, export in exports.items()
    }
    try:
        paths = publish(output, writers, version, note)
    except (OSError, tf.errors.OpError) as error:
        reason = plain_reason(error).rpartition("; ")[2]  # TensorFlow names the file before it
        raise SMVIError(f"cannot write to {output} ({reason})", remedy=NOT_PUBLISHED) from error
    for line in filter(None, map(find_cut_products, paths.values())):
        warn(line)
    if run.standardization is not None:
        for line in doubts_of_rounding(run.standardization, run.names):
            warn(line)
    return [
        ExportResult(path, ModelCard.from_json(read_json(path / MODEL_CARD)))
        for path in paths.values()
    ]


def _exports(
    run: LoadedRun,
    run_dir: Path,
    model_name: str | None,
    part: PartName,
    precision: ExportPrecision,
    weights: ExportWeights,
    note: Callable[[str], None],
) -> dict[str, _Export]:
    """Makes the models to publish, by name."""
    default = re.sub(r"[^A-Za-z0-9_.-]", "-", run_directory_name(run.config)).lstrip("_.-")
    name = default if model_name is None else model_name
    decoder_name = f"{name}-decoder" if model_name is None or part == "both" else name
    kind, model = find_kind(run, note), exportable(run, part, weights)
    values, card = describe_values(run.config.model, kind), describe_run(run, run_dir, note)
    description = dataclasses.replace(card, values=values, precision=weights)
    exports = {}
    if part != "decoder":
        encoder = encoder_part(model, kind, precision)
        for signature, reason in encoder.left_out.items():
            note(f"The signature {signature} is left out: {reason}.")
        examples = _encoder_examples(model, encoder, kind)
        description = dataclasses.replace(description, products=precision)
        card = _complete(description, name, "encoder", encoder)
        exports[name] = _Export(card, encoder, examples)
    if part != "encoder":
        decoder = decoder_part(model)
        card = _complete(description, decoder_name, "decoder", decoder)
        exports[decoder_name] = _Export(card, decoder, _decoder_examples(model))
    return exports


def _complete(description: ModelCard, name: str, kind: str, part: Part) -> ModelCard:
    """Adds what the card says of one part."""
    return dataclasses.replace(
        description,
        model_name=name,
        part=kind,
        signatures=describe_signatures(part.signatures),
        left_out=part.left_out,
    )


def _encoder_examples(model: Encodes, part: Part, kind: Kind) -> dict[str, _Example]:
    """Makes random examples and their q(z|x), for each signature."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (NUM_EXAMPLES, *model.image_shape), np.uint8)
    x = to_float(pixels)
    if kind == "real":
        x = rng.standard_normal(x.shape).astype(np.float32)
    elif kind == "counts":
        x = rng.integers(0, model.config.num_categories or 10, x.shape).astype(np.float32)
    inputs = {"serving_default": {"images": x}, "uint8": {"images": pixels}}
    if "encoded_image" in part.signatures:
        inputs["encoded_image"] = {
            "image_bytes": np.array([tf.io.encode_png(i).numpy() for i in pixels], object)
        }
    outputs = dict.fromkeys(part.signatures, _features(model, x))
    if model.config.missing:
        x = np.where(rng.random(x.shape) < 0.5, x, np.float32(np.nan))
        inputs["serving_default"], outputs["serving_default"] = {"images": x}, _features(model, x)
    return {name: _Example(inputs[name], outputs[name]) for name in part.signatures}


def _features(model: Encodes, x: npt.NDArray[np.float32]) -> Mapping[str, npt.NDArray[Any]]:
    with tf.device("CPU"):  # the check runs there, too
        posterior = model.encode(tf.constant(x))
        return {"mean": posterior.mean().numpy(), "stddev": posterior.stddev().numpy()}


def _decoder_examples(model: VAE) -> dict[str, _Example]:
    """Makes random latents and the parameters of their p(x|z)."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((NUM_EXAMPLES, model.config.latent_dim)).astype(np.float32)
    with tf.device("CPU"):
        parameters = parameters_of(model, tf.constant(z))
        outputs = {name: value.numpy() for name, value in parameters.items()}
    return {"serving_default": _Example({"latent": z}, outputs)}


def _write(
    export: _Export,
    formats: Sequence[str],
    verify: bool,
    note: Callable[[str], None],
    folder: Path,
    version: int,
) -> None:
    """Writes a version and verifies it.

    Raises:
        SMVIError: it does not answer like the model.
    """
    module = tf.Module()
    module.weights = export.part.variables
    with numerics_unchecked():  # an export has no operations of a debugger
        tf.saved_model.save(module, str(folder), signatures=export.part.signatures)
    _write_requests(folder / WARMUP_REQUESTS, export.card.model_name, export.examples)
    card = dataclasses.replace(export.card, formats=add_formats(folder, formats))
    for format_name, spec in card.formats.items():
        for signature, reason in spec.left_out.items():
            note(f"The signature {signature} is not written as {format_name}: {reason}.")
    write_json(folder / MODEL_CARD, {"version": version, **card.to_json()})
    write_checksums(folder)
    if verify and (mistake := find_wrong_answer(folder)):
        raise SMVIError(
            f"the written export does not answer like the model ({mistake})",
            remedy="nothing was published; check the versions of TensorFlow and of the processor's "
            "libraries",
        )


def _write_requests(path: Path, name: str, examples: Mapping[str, _Example]) -> None:
    """Writes the requests for the warm-up of TF Serving, at most 1000 [1]."""
    with of_extra("serve"):
        from tensorflow_serving.apis import prediction_log_pb2

    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, example in examples.items():
            log = prediction_log_pb2.PredictLog()
            log.request.model_spec.name = log.response.model_spec.name = name
            log.request.model_spec.signature_name = log.response.model_spec.signature_name = (
                signature
            )
            for key, value in example.inputs.items():
                log.request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            for key, value in example.outputs.items():
                log.response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
