"""Loads an export and asks it what its own warm-up requests ask, as TF Serving does, and compares the answers.

A program that needs TensorFlow and no tfp_smvi, so that what it finds holds for any other process:

    python -P saved_model_check.py FOLDER

prints what is wrong, in one line, and ends with 1, or prints nothing and ends with 0.
"""

import sys
from pathlib import Path
from typing import Any

__all__ = ["TOLERANCE", "WARMUP_REQUESTS", "find_mistake"]

# Where TF Serving looks for the requests
# [https://www.tensorflow.org/tfx/serving/saved_model_warmup].
WARMUP_REQUESTS = "assets.extra/tf_serving_warmup_requests"
# Another order of the same float32 sums differs by 1e-6 or so, of one or of the value where that is
# larger.
TOLERANCE = 1e-5


def find_mistake(folder: Path) -> str | None:
    """Returns what is wrong with the answers of an export in one line, or None if nothing is.

    Every signature must have a request, and its answer must be the recorded one within TOLERANCE *
    (1 + |value|).
    """
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    signatures = tf.saved_model.load(str(folder)).signatures
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record).predict_log
        for record in tf.data.TFRecordDataset(str(folder / WARMUP_REQUESTS)).as_numpy_iterator()
    ]
    asked = {log.request.model_spec.signature_name for log in logs}
    if asked != set(signatures):
        return f"{WARMUP_REQUESTS} asks {sorted(asked)} and the model has the signatures {sorted(signatures)}"
    for log in logs:
        name = log.request.model_spec.signature_name
        inputs = {
            key: tf.constant(tf.make_ndarray(proto)) for key, proto in log.request.inputs.items()
        }
        expected = {key: tf.make_ndarray(proto) for key, proto in log.response.outputs.items()}
        answers = {key: value.numpy() for key, value in signatures[name](**inputs).items()}
        if mistake := _compare(answers, expected):
            return f"signature {name}: {mistake}"
    return None


def _compare(answers: dict[str, Any], expected: dict[str, Any]) -> str | None:
    if answers.keys() != expected.keys():
        return f"the outputs are {sorted(answers)}, not {sorted(expected)}"
    for key, value in expected.items():
        if answers[key].shape != value.shape:
            return f"{key} has the shape {answers[key].shape}, not {value.shape}"
        difference = abs(answers[key] - value) / (1 + abs(value))
        if not (difference <= TOLERANCE).all():  # NaN is not
            return f"{key} differs by {difference.max():.1e} from the model that was exported"
    return None


def main() -> int:
    """Checks the folder that the command line names."""
    assert "tfp_smvi" not in sys.modules
    try:
        mistake = find_mistake(Path(sys.argv[1]))
    except Exception as error:  # damaged files make TensorFlow raise nearly anything
        mistake = " ".join(f"{type(error).__name__}: {error}".split())
    if mistake:
        print(mistake[:1000])
    return 1 if mistake else 0


if __name__ == "__main__":
    sys.exit(main())
