"""Exports to serve, and servers that speak TF Serving's protocols: the protocols, not TF Serving.

gRPC is served on the stubs of tensorflow-serving-api, REST by a small twin of it. Both answer with
an export that TensorFlow loads in this process, and do what a test wants them to do wrong.
"""

import base64
import contextlib
import http.server
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfp_smvi.config import ModelConfig
from tfp_smvi.export.signatures import encoder_part
from tfp_smvi.models.vae import VAE

NAME = "digits"
SHAPE = (8, 8, 1)
LATENT_DIM = 4


def make_export(
    folder: Path, seed: int = 0, latent_dim: int = LATENT_DIM, shape: tuple[int, ...] = SHAPE
) -> Path:
    """Saves an untrained encoder to a version's folder, with the signatures of an export."""
    model = VAE(ModelConfig("bernoulli", latent_dim=latent_dim, hidden_sizes=(16,)), shape, seed)
    part = encoder_part(model, kind="intensities")
    module = tf.Module()
    module.weights = part.variables
    tf.saved_model.save(module, str(folder), signatures=dict(part.signatures))
    return folder


def make_images(count: int, seed: int = 0) -> np.ndarray:
    """Random grey levels, uint8 [count, *SHAPE]."""
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), np.uint8)


def encode_png(image: np.ndarray) -> bytes:
    """The PNG file of one image."""
    return tf.io.encode_png(image).numpy()


class Fault(NamedTuple):
    """What goes wrong with one request: a wait, then an error or another answer."""

    seconds: float = 0.0
    code: str | None = None
    change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] | None = None


class ServingError(Exception):
    """A request fails with a code, as gRPC names it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Models:
    """One model's versions, what goes wrong with the next requests, and the requests that came.

    Args:
        versions: the folders of exports, by version.
        labels: versions by label.
    """

    def __init__(self, versions: dict[int, Path], labels: dict[str, int] | None = None) -> None:
        self._loaded = {
            version: tf.saved_model.load(str(path)) for version, path in versions.items()
        }
        self._labels = labels or {}
        self._lock = threading.Lock()
        self.faults: list[Fault] = []
        # The bytes of a request that a server takes; None for any number.
        self.largest_request: int | None = None
        # (version, signature, number of images) of each prediction, and how many were at work at
        # once at most.
        self.requests: list[tuple[int, str, int]] = []
        self.most_at_once = self._at_once = 0

    def choose(self, name: str, version: int | None, label: str | None) -> int:
        """Finds the version that a request is for."""
        if name != NAME:
            raise ServingError("NOT_FOUND", f"Servable not found for request: Latest({name})")
        if label:
            if label not in self._labels:
                raise ServingError(
                    "INVALID_ARGUMENT", f"Unrecognized servable version label: {label}"
                )
            version = self._labels[label]
        version = version or max(self._loaded)
        if version not in self._loaded:
            raise ServingError(
                "NOT_FOUND", f"Servable not found for request: Specific({name}, {version})"
            )
        return version

    def states(self) -> list[dict[str, Any]]:
        """The states of all versions, as REST gives them."""
        status = {"error_code": "OK", "error_message": ""}
        return [
            {"version": str(v), "state": "AVAILABLE", "status": status}
            for v in sorted(self._loaded)
        ]

    def signatures(self, version: int) -> dict[str, Any]:
        """Inputs and outputs by signature: name -> (dtype, shape)."""

        def describe(specs: Any) -> dict[str, Any]:
            return {key: (spec.dtype, spec.shape.as_list()) for key, spec in specs.items()}

        return {
            name: (
                describe(function.structured_input_signature[1]),
                describe(function.structured_outputs),
            )
            for name, function in self._loaded[version].signatures.items()
        }

    def predict(
        self, version: int, signature: str, inputs: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Answers a request, or does what the next fault says."""
        with self._lock:
            fault = self.faults.pop(0) if self.faults else Fault()
            (values,) = inputs.values()
            self.requests.append((version, signature, len(values)))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            time.sleep(fault.seconds)
            if fault.code:
                raise ServingError(fault.code, "a fault of the test")
            function = self._loaded[version].signatures[signature]
            outputs = function(**{key: tf.constant(value) for key, value in inputs.items()})
        except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
            raise ServingError("INVALID_ARGUMENT", str(error)) from error
        finally:
            with self._lock:
                self._at_once -= 1
        arrays = {key: value.numpy() for key, value in outputs.items()}
        return fault.change(arrays) if fault.change else arrays


class _Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models: Models) -> None:
        self._models = models

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with _grpc_errors(context):
            version = self._choose(request.model_spec)
            response.model_spec.name, response.model_spec.version.value = NAME, version
            definitions = get_model_metadata_pb2.SignatureDefMap()
            for name, sides in self._models.signatures(version).items():
                definition = definitions.signature_def[name]
                for infos, side in zip((definition.inputs, definition.outputs), sides, strict=True):
                    for key, (dtype, shape) in side.items():
                        infos[key].dtype = dtype.as_datatype_enum
                        for size in shape:
                            infos[key].tensor_shape.dim.add().size = -1 if size is None else size
            response.metadata["signature_def"].Pack(definitions)
        return response

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = predict_pb2.PredictResponse()
        with _grpc_errors(context):
            version = self._choose(request.model_spec)
            inputs = {key: tf.make_ndarray(tensor) for key, tensor in request.inputs.items()}
            outputs = self._models.predict(version, request.model_spec.signature_name, inputs)
            response.model_spec.version.value = version
            for key in request.output_filter or outputs:
                response.outputs[key].CopyFrom(tf.make_tensor_proto(outputs[key]))
        return response

    def _choose(self, spec: Any) -> int:
        version = spec.version.value if spec.HasField("version") else None
        return self._models.choose(spec.name, version, spec.version_label or None)


@contextlib.contextmanager
def _grpc_errors(context: Any) -> Iterator[None]:
    try:
        yield
    except ServingError as error:
        context.abort(getattr(grpc.StatusCode, error.code), str(error))


@contextlib.contextmanager
def grpc_server(models: Models, port: int = 0) -> Iterator[str]:
    """Serves models over gRPC; yields the endpoint."""
    largest = -1 if models.largest_request is None else models.largest_request
    options = [("grpc.max_receive_message_length", largest), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(8), options=[*options, ("grpc.so_reuseport", 0)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Servicer(models), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}/{NAME}"
    finally:
        server.stop(grace=0).wait()


_HTTP_STATUS = {
    "NOT_FOUND": 404,
    "INVALID_ARGUMENT": 400,
    "UNAVAILABLE": 503,
    "RESOURCE_EXHAUSTED": 429,
}
# As nginx sends it.
_TOO_LARGE = (
    b"<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n"
    b"<center><h1>413 Request Entity Too Large</h1></center>\r\n</body>\r\n</html>\r\n"
)
_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata|:predict)?")
_DT = {tf.float32: "DT_FLOAT", tf.uint8: "DT_UINT8", tf.string: "DT_STRING"}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    models: Models

    def do_GET(self) -> None:  # http.server's name
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *arguments: object) -> None:
        pass

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        largest = self.models.largest_request
        if largest is not None and len(body) > largest:
            self._send(413, "text/html", _TOO_LARGE)
            return
        try:
            status, answer = 200, self._find(body)
        except ServingError as error:
            status, answer = _HTTP_STATUS[error.code], {"error": str(error)}
        self._send(status, "application/json", json.dumps(answer).encode())

    def _send(self, status: int, content_type: str, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the client may be gone
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def _find(self, body: bytes) -> Any:
        match = _PATH.fullmatch(self.path)
        assert match, self.path
        name, number, label, what = match.groups()
        version = self.models.choose(name, int(number) if number else None, label)
        if what == "/metadata":
            return self._metadata(version)
        if what == ":predict":
            return self._predict(version, json.loads(body))
        return {"model_version_status": self.models.states()}

    def _metadata(self, version: int) -> Any:
        def describe(side: dict[str, Any]) -> dict[str, Any]:
            return {
                key: {
                    "dtype": _DT[dtype],
                    "tensor_shape": {"dim": [{"size": str(-1 if n is None else n)} for n in shape]},
                }
                for key, (dtype, shape) in side.items()
            }

        definitions = {
            name: {"inputs": describe(inputs), "outputs": describe(outputs)}
            for name, (inputs, outputs) in self.models.signatures(version).items()
        }
        return {
            "model_spec": {"name": NAME, "signature_name": "", "version": str(version)},
            "metadata": {"signature_def": {"signature_def": definitions}},
        }

    def _predict(self, version: int, request: Any) -> Any:
        signature = request.get("signature_name", "serving_default")
        ((key, (dtype, _)),) = self.models.signatures(version)[signature][0].items()
        rows = "instances" in request
        values = [row[key] for row in request["instances"]] if rows else request["inputs"][key]
        if dtype == tf.string:
            values = [base64.b64decode(value["b64"]) for value in values]
        else:
            values = np.array(values, dtype.as_numpy_dtype)
        outputs = self.models.predict(version, signature, {key: values})
        lists = {name: array.tolist() for name, array in outputs.items()}
        if rows:
            return {
                "predictions": [
                    dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)
                ]
            }
        return {"outputs": lists}


@contextlib.contextmanager
def rest_server(models: Models, port: int = 0) -> Iterator[str]:
    """Serves models over REST; yields the endpoint."""
    handler = type("Handler", (_Handler,), {"models": models})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/{NAME}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


SERVERS = {"grpc": grpc_server, "rest": rest_server}


class Proxy:
    """Passes connections on to a server, and can reset them."""

    def __init__(self, port: int) -> None:
        self._backend, self._sockets = port, list[socket.socket]()
        self.resets = 0  # the next connections that are reset once bytes come
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for connection in (self._listener, *self._sockets):
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                self._sockets.append(client)
                if self.resets > 0:
                    self.resets -= 1
                    client.recv(1)
                    # With no time to linger, close sends a reset.
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._backend))
                self._sockets.append(server)
                for source, target in ((client, server), (server, client)):
                    threading.Thread(
                        target=self._pass_on, args=(source, target), daemon=True
                    ).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
