"""Writes the signatures of an export for other runtimes, a file each.

A program that needs TensorFlow but not tfp_smvi: the converters print at will, and can crash.

    python -P standalone_convert.py FOLDER FORMAT...

    FOLDER/onnx/SIGNATURE.onnx        for ONNX Runtime; needs tf2onnx
    FOLDER/tflite/SIGNATURE.tflite    for the TFLite interpreter, with its built-in operations alone

prints as JSON why a signature has no file, by format and signature: {"onnx": {"uint8": "..."}}.

References:
    [1] https://onnx.ai/onnx/operators
    [2] W. Kahan. Mathematics Written in Sand. 1983. Section 5: log(1 + x).
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FORMATS", "convert_signatures"]

# Of 2021: every ONNX Runtime since 1.10 reads it, and newer ones hold nothing that we need [1].
_OPSET = 15


class _Unable(Exception):  # noqa: N818  # it is no error of the program
    """A runtime lacks what a signature needs; the message says what."""


def convert_signatures(folder: Path, formats: list[str]) -> dict[str, dict[str, str]]:
    """Writes each signature of a SavedModel in some formats.

    Args:
        folder: the folder of the SavedModel, where a folder for each format is made.
        formats: names of FORMATS.

    Returns:
        For each format, why a signature could not be written, by its name.

    Raises:
        OSError: a file cannot be written.
    """
    import tensorflow as tf

    model = tf.saved_model.load(str(folder))  # has the variables, while it lives
    left_out: dict[str, dict[str, str]] = {}
    for name in formats:
        left_out[name] = {}
        (folder / name).mkdir()
        for key, signature in model.signatures.items():
            try:
                data = _convert(name, folder, key, signature)
            except _Unable as reason:
                left_out[name][key] = str(reason)
            else:
                (folder / name / f"{key}.{name}").write_bytes(data)
    return left_out


def _convert(name: str, folder: Path, key: str, signature: Any) -> bytes:
    """Returns the file of one signature, or raises _Unable."""
    specs = signature.structured_input_signature[1].values()
    if any(spec.dtype.name == "string" for spec in specs):
        raise _Unable("it takes files, and only TensorFlow has the operations that decode them")
    try:
        return FORMATS[name](folder, key, signature)
    except _Unable:
        raise
    except Exception as error:  # a converter raises nearly anything
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise _Unable(f"the converter failed ({line[:300]})") from error


def _to_onnx(folder: Path, key: str, signature: Any) -> bytes:
    """Converts with tf2onnx; inputs and outputs keep their names."""
    import onnx
    import tensorflow as tf
    import tf2onnx

    (spec,) = signature.structured_input_signature[1].values()
    model, _ = tf2onnx.convert.from_function(
        tf.function(lambda x: signature(**{spec.name: x}), input_signature=[spec]),
        input_signature=[spec],
        opset=_OPSET,
        custom_op_handlers={"Log1p": (_log1p, []), "BroadcastArgs": (_broadcast_args, [])},
    )
    if missing := {node.op_type for node in _nodes(model.graph) if not _is_known(onnx, node)}:
        raise _Unable(f"ONNX has no operations {', '.join(sorted(missing))}")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _is_known(onnx: Any, node: Any) -> bool:
    return onnx.defs.has(node.op_type, domain=node.domain)


def _nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph, with those of loops and branches."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _log1p(graph: Any, node: Any, name: str, _: object) -> None:
    """Replaces Log1p, which ONNX lacks, without the loss of small x.

    With u = 1 + x as it is rounded, log(1 + x) = log(u) x / (u - 1), or x if u = 1 [2].
    """
    x, outputs, shapes, dtypes = node.input[0], node.output, node.output_shapes, node.output_dtypes
    graph.remove_node(node.name)
    one = graph.make_const(f"{name}/one", np.array(1, np.float32)).output[0]

    def add(operation: str, *inputs: str) -> str:
        return graph.make_node(operation, [*inputs]).output[0]

    u = add("Add", x, one)
    is_one = add("Equal", u, one)
    divisor = add("Where", is_one, one, add("Sub", u, one))
    quotient = add("Div", add("Mul", add("Log", u), x), divisor)
    graph.make_node(
        "Where", [is_one, x, quotient], name=name, outputs=outputs, shapes=shapes, dtypes=dtypes
    )


def _broadcast_args(graph: Any, node: Any, name: str, _: object) -> None:
    """Replaces BroadcastArgs, which ONNX lacks, by the shape of a sum of zeros of both shapes."""
    from onnx import TensorProto

    outputs, dtypes = node.output, node.output_dtypes
    zeros = []
    for shape in node.input:
        cast = graph.make_node("Cast", [shape], attr={"to": TensorProto.INT64})
        zeros.append(graph.make_node("ConstantOfShape", [cast.output[0]]).output[0])
    graph.remove_node(node.name)
    shape = graph.make_node("Shape", [graph.make_node("Add", zeros).output[0]]).output[0]
    graph.make_node(
        "Cast", [shape], attr={"to": dtypes[0]}, name=name, outputs=outputs, dtypes=dtypes
    )


def _to_tflite(folder: Path, key: str, signature: Any) -> bytes:
    """Converts with TensorFlow's converter; the file has one signature, of the same name."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[key])
    try:
        return converter.convert()
    except Exception as error:
        missing = sorted({*re.findall(r"'tf\.(\w+)' op is neither", str(error))})
        if not missing:
            raise
        raise _Unable(f"TFLite has no operations {', '.join(missing)}") from error


# By name: writes a signature of the SavedModel in a folder.
FORMATS: Mapping[str, Callable[[Path, str, Any], bytes]] = {"onnx": _to_onnx, "tflite": _to_tflite}


def main() -> None:
    """Converts the folder that the command line names, to the formats after it."""
    assert "tfp_smvi" not in sys.modules
    folder, *formats = sys.argv[1:]
    print(json.dumps(convert_signatures(Path(folder), formats)))


if __name__ == "__main__":
    main()
