"""Sends an export its own warm-up requests, as TF Serving does, and compares the answers.

Those of the SavedModel, and those of ONNX Runtime and the TFLite interpreter if it has their files.

A program that needs TensorFlow but not tfp_smvi, so that its result holds for any other process:

    python -P standalone_check.py FOLDER

prints the mistake in one line and exits with 1, or prints nothing and exits with 0. Without FOLDER
it loads TensorFlow and waits for [FOLDER] as JSON at stdin.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

__all__ = ["REDUCED_TOLERANCE", "TOLERANCE", "WARMUP_REQUESTS", "find_mistake"]

# The file in which TF Serving looks for requests
# [https://www.tensorflow.org/tfx/serving/saved_model_warmup].
WARMUP_REQUESTS = "assets.extra/tf_serving_warmup_requests"
# Another order of the same float32 sums differs by about 1e-6, relative to the value if that is
# larger than one.
TOLERANCE = 1e-5
# Of products in bfloat16, relative to the largest value of an example. The largest difference among
# 70,000 images of MNIST was 0.013, on a processor that multiplies bfloat16.
REDUCED_TOLERANCE = 0.02

Array: TypeAlias = npt.NDArray[Any]


def find_mistake(folder: Path) -> str | None:
    """Returns one line on the first wrong answer of an export, or None if all are right.

    Every signature must have a request, and its answer must be the recorded one within TOLERANCE *
    (1 + |value|). If the model card says that the products are in bfloat16, it must be that of
    float32 within REDUCED_TOLERANCE * (1 + max |value|), with the maximum over an example.
    """
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    # A GPU would multiply float32 matrices with the 10 bits of mantissa of float16.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    signatures = tf.saved_model.load(str(folder)).signatures
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record).predict_log
        for record in tf.data.TFRecordDataset(str(folder / WARMUP_REQUESTS)).as_numpy_iterator()
    ]
    reduced = _products(folder) == "bfloat16"
    asked = {log.request.model_spec.signature_name for log in logs}
    if asked != set(signatures):
        return (
            f"{WARMUP_REQUESTS} has requests for {sorted(asked)}, and the model has the signatures "
            f"{sorted(signatures)}"
        )
    for log in logs:
        name = log.request.model_spec.signature_name
        inputs = {key: tf.make_ndarray(proto) for key, proto in log.request.inputs.items()}
        expected = {key: tf.make_ndarray(proto) for key, proto in log.response.outputs.items()}
        tensors = {key: tf.constant(value) for key, value in inputs.items()}
        answers = {key: value.numpy() for key, value in signatures[name](**tensors).items()}
        if mistake := _compare(answers, expected, reduced):
            return f"signature {name}: {mistake}"
        for file, others in _answers_of_files(folder, name, inputs):
            if mistake := _compare(others, expected, reduced):
                return f"{file}: {mistake}"
    return None


def _products(folder: Path) -> str | None:
    card = folder / "model_card.json"
    return json.loads(card.read_text("utf-8")).get("products") if card.is_file() else None


def _answers_of_files(
    folder: Path, name: str, inputs: Mapping[str, Array]
) -> Iterator[tuple[str, Mapping[str, Array]]]:
    """Yields the answers of the files for other runtimes that a signature has."""
    for format_name, ask in _RUNTIMES.items():
        file = f"{format_name}/{name}.{format_name}"
        if (folder / file).exists():
            yield file, ask(folder / file, inputs)


def _ask_onnx_runtime(path: Path, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def _ask_tflite(path: Path, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    import tensorflow as tf

    # Deprecated for the same interpreter in another package, ai-edge-litert.
    return tf.lite.Interpreter(str(path)).get_signature_runner(path.stem)(**inputs)


_RUNTIMES: Mapping[str, Callable[[Path, Mapping[str, Array]], Mapping[str, Array]]] = {
    "onnx": _ask_onnx_runtime,
    "tflite": _ask_tflite,
}


def _compare(
    answers: Mapping[str, Array], expected: Mapping[str, Array], reduced: bool
) -> str | None:
    if answers.keys() != expected.keys():
        return f"the outputs are {sorted(answers)}, not {sorted(expected)}"
    for key, value in expected.items():
        if answers[key].shape != value.shape:
            return f"{key} has the shape {answers[key].shape}, not {value.shape}"
        size = abs(value).max(-1, keepdims=True, initial=0) if reduced else abs(value)
        difference = abs(answers[key] - value) / (1 + size)
        if not (difference <= (REDUCED_TOLERANCE if reduced else TOLERANCE)).all():  # NaN is not
            return f"{key} differs by {difference.max():.1e} from the model that was exported"
    return None


def _wait_for_arguments() -> list[str]:
    """Loads TensorFlow first; without an end of stdin in order, there is nothing to check."""
    import tensorflow as tf

    tf.config.list_physical_devices()
    text = sys.stdin.read()
    return json.loads(text) if text else sys.exit(1)


def main() -> int:
    """Checks the folder that the command line names."""
    assert "tfp_smvi" not in sys.modules
    # TensorFlow imports what it finds of these, which takes half of its time. None hides them.
    sys.modules.update(dict.fromkeys(("keras", "matplotlib", "sklearn")))  # type: ignore[arg-type]
    try:
        mistake = find_mistake(Path(*(sys.argv[1:] or _wait_for_arguments())))
    except Exception as error:  # damaged files make TensorFlow raise nearly anything
        mistake = " ".join(f"{type(error).__name__}: {error}".split())
    if mistake:
        print(mistake[:1000])
    return 1 if mistake else 0


if __name__ == "__main__":
    sys.exit(main())
