"""Runs an export by TensorFlow's C API, in a process without TensorFlow for Python.

Run as a program it reads a request from stdin and writes the answers to stdout, both JSON. The
libraries come from the TensorFlow wheel; the types and functions are those of tensorflow/c/c_api.h
and tf_tensor.h.
"""

import base64
import ctypes
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# TF_DataType.
DTYPES = {1: np.float32, 4: np.uint8}
STRING, STRING_SIZE = 7, 24


class CAPIError(Exception):
    """What a TF_Status says."""


def run_export(
    folder: Path, signature: str, *inputs: Mapping[str, Any]
) -> list[dict[str, np.ndarray] | str]:
    """Loads an export in a fresh process with XLA off, and asks a signature several times.

    Args:
        folder: the folder of a version.
        signature: the name of the signature.
        inputs: float32 or uint8 arrays, or lists of bytes, by name; one mapping for each time.

    Returns:
        The outputs by name, or the message of the error, for each time.
    """
    from tensorflow.core.protobuf import config_pb2, saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    definition = model.meta_graphs[0].signature_def[signature]
    config = config_pb2.ConfigProto()
    config.graph_options.optimizer_options.global_jit_level = config_pb2.OptimizerOptions.OFF
    request = {
        "folder": str(folder),
        "config": _pack_bytes(config.SerializeToString()),
        "calls": [
            {definition.inputs[key].name: _pack(value) for key, value in values.items()}
            for values in inputs
        ],
        "outputs": {key: tensor.name for key, tensor in definition.outputs.items()},
    }
    process = subprocess.run(
        [sys.executable, "-P", __file__],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_XLA_FLAGS": "--tf_xla_auto_jit=-1"},
    )
    assert process.returncode == 0, process.stderr
    answers = json.loads(process.stdout)
    return [
        answer
        if isinstance(answer, str)
        else {name: _unpack(value) for name, value in answer.items()}
        for answer in answers
    ]


def _pack_bytes(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _pack(value: Any) -> Any:
    if isinstance(value, list):
        return [_pack_bytes(item) for item in value]
    return {"dtype": str(value.dtype), "shape": value.shape, "data": _pack_bytes(value.tobytes())}


def _unpack(value: Any) -> Any:
    if isinstance(value, list):
        return [base64.b64decode(item) for item in value]
    return np.frombuffer(base64.b64decode(value["data"]), value["dtype"]).reshape(value["shape"])


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    )


class _Library:
    """The C API, whose functions return pointers unless told otherwise."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("tensorflow")  # finds it without importing it
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent
        self._libraries = [
            ctypes.CDLL(str(next(folder.glob(f"libtensorflow_{name}.so.*"))), ctypes.RTLD_GLOBAL)
            for name in ("framework", "cc")
        ]
        self.status = self.TF_NewStatus()

    def __getattr__(self, name: str) -> Any:
        function = getattr(
            self._libraries[-1], name
        )  # its symbols include those that it depends on
        function.restype = ctypes.c_void_p

        def call(*arguments: Any) -> Any:
            return function(
                *(ctypes.c_void_p(a) if isinstance(a, int) and a > 2**31 else a for a in arguments)
            )

        return call

    def check(self) -> None:
        """Raises CAPIError unless the last call with the status was fine."""
        if int(self.TF_GetCode(self.status) or 0):
            raise CAPIError(ctypes.string_at(self.TF_Message(self.status)).decode(errors="replace"))


class _Session:
    """A SavedModel, loaded for serving."""

    def __init__(self, library: _Library, folder: str, config: bytes) -> None:
        self._library, self._graph = library, library.TF_NewGraph()
        options = library.TF_NewSessionOptions()
        library.TF_SetConfig(options, config, ctypes.c_size_t(len(config)), library.status)
        library.check()
        tags = (ctypes.c_char_p * 1)(b"serve")
        self._session = library.TF_LoadSessionFromSavedModel(
            options, None, folder.encode(), tags, 1, self._graph, None, library.status
        )
        library.check()

    def run(self, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> dict[str, np.ndarray]:
        """Feeds tensors by name and returns others, under the names given."""
        library = self._library
        fed = (_Output * len(inputs))(*map(self._output, inputs))
        fed_values = (ctypes.c_void_p * len(inputs))(*map(self._tensor, inputs.values()))
        fetched = (_Output * len(outputs))(*map(self._output, outputs.values()))
        values = (ctypes.c_void_p * len(outputs))()
        sizes = [ctypes.c_int(n) for n in (len(inputs), len(outputs), 0)]
        library.TF_SessionRun(
            *(self._session, None, fed, fed_values, sizes[0], fetched, values, sizes[1]),
            *(None, sizes[2], None, library.status),
        )
        library.check()
        return {name: self._array(value) for name, value in zip(outputs, values, strict=True)}

    def _output(self, name: str) -> _Output:
        operation, _, index = name.partition(":")
        found = self._library.TF_GraphOperationByName(self._graph, operation.encode())
        assert found, name
        return _Output(found, int(index))

    def _tensor(self, value: Any) -> int:
        library, is_text = self._library, isinstance(value, list)
        shape = (len(value),) if is_text else value.shape
        dtype = (
            STRING
            if is_text
            else next(number for number, kind in DTYPES.items() if value.dtype == kind)
        )
        size = STRING_SIZE * len(value) if is_text else value.nbytes
        dims = (ctypes.c_int64 * len(shape))(*shape)
        tensor = library.TF_AllocateTensor(dtype, dims, len(shape), ctypes.c_size_t(size))
        data = library.TF_TensorData(tensor)
        if not is_text:
            ctypes.memmove(data, value.tobytes(), size)
            return int(tensor)
        for position, item in enumerate(value):
            text = data + position * STRING_SIZE
            library.TF_StringInit(text)
            library.TF_StringCopy(text, item, ctypes.c_size_t(len(item)))
        return int(tensor)

    def _array(self, tensor: int) -> np.ndarray:
        library = self._library
        dtype = DTYPES[int(library.TF_TensorType(tensor))]
        shape = [
            int(library.TF_Dim(tensor, i) or 0) for i in range(int(library.TF_NumDims(tensor) or 0))
        ]
        data = ctypes.string_at(
            library.TF_TensorData(tensor), int(library.TF_TensorByteSize(tensor) or 0)
        )
        return np.frombuffer(data, dtype).reshape(shape)


def main() -> None:
    """Answers the request on stdin."""
    request = json.loads(sys.stdin.read())
    session = _Session(_Library(), request["folder"], base64.b64decode(request["config"]))
    answers: list[Any] = []
    for call in request["calls"]:
        try:
            outputs = session.run(
                {name: _unpack(value) for name, value in call.items()}, request["outputs"]
            )
            answers.append({name: _pack(value) for name, value in outputs.items()})
        except CAPIError as error:
            answers.append(str(error))
    assert not {"tensorflow", "keras", "tfp_smvi"} & sys.modules.keys()
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
