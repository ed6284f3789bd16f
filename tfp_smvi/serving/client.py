"""Clients of an encoder on a TF Serving server, over gRPC or REST.

References:
    [1]
    https://github.com/tensorflow/serving/blob/master/tensorflow_serving/apis/prediction_service.proto
    [2] https://www.tensorflow.org/tfx/serving/api_rest
"""

import base64
import html
import math
import re
import urllib.parse
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.errors import plain_reason
from tfp_smvi.core.extras import of_extra
from tfp_smvi.serving.encoders import (
    Features,
    Images,
    RejectedImagesError,
    Signature,
    TensorInfo,
    make_signature,
)
from tfp_smvi.serving.served import (
    Endpoint,
    ServedEncoder,
    TooLargeError,
    TransientError,
    is_too_large,
)

__all__ = ["Endpoint", "GrpcEncoder", "RestEncoder", "connect"]

# Too many requests, and the codes of a server or a proxy that is down, busy or too slow.
_RETRIED_HTTP = (408, 429, 502, 503, 504)
# The largest answers: of gRPC, of metadata, and of REST for each number and for all others.
_GRPC_BYTES, _METADATA_BYTES, _NUMBER_BYTES, _REST_BYTES = 2**28, 2**20, 64, 2**30
# The most values of JSON in metadata: a signature of an export has about 100.
_METADATA_VALUES = 50_000
# TF Serving's names of dtypes in JSON.
_DTYPES = {"DT_FLOAT": "float32", "DT_UINT8": "uint8", "DT_STRING": "string"}


class GrpcEncoder(ServedEncoder):
    """An encoder behind the gRPC API [1]; x travels as bytes."""

    def _connect(self) -> None:
        with of_extra("serve"):
            import grpc
            from tensorflow_serving.apis import prediction_service_pb2_grpc
        options = {
            # A batch is larger than gRPC's default of 4 MB.
            "grpc.max_send_message_length": -1,
            "grpc.max_receive_message_length": _GRPC_BYTES,
            # A bit for each algorithm: none compresses, so that a small message stays small.
            "grpc.compression_enabled_algorithms_bitset": 1,
            # The default waits up to two minutes before it reconnects to a server that was down.
            "grpc.initial_reconnect_backoff_ms": 100,
            "grpc.max_reconnect_backoff_ms": 2000,
            "grpc.enable_http_proxy": 0,
        }
        self._channel = grpc.insecure_channel(self._endpoint.address, options=list(options.items()))
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def close(self) -> None:
        """Cancels running requests."""
        super().close()
        self._channel.close()

    def _describe(self, version: int | None, label: str | None) -> tuple[int, dict[str, Signature]]:
        import tensorflow as tf
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self._endpoint.model
        if version is not None:
            request.model_spec.version.value = version
        if label is not None:
            request.model_spec.version_label = label
        response = self._call(self._stub.GetModelMetadata, request)
        definitions = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(definitions)

        def describe(tensors: Any) -> dict[str, TensorInfo]:
            return {
                key: TensorInfo(
                    tf.as_dtype(info.dtype).name, _shape(dim.size for dim in info.tensor_shape.dim)
                )
                for key, info in tensors.items()
            }

        signatures: dict[str, Signature] = {}
        try:
            for name, definition in definitions.signature_def.items():
                inputs, outputs = describe(definition.inputs), describe(definition.outputs)
                signatures |= make_signature(name, inputs, outputs)
        except TypeError as error:
            raise self._wrong_answer(f"unknown form of metadata: {error}") from error
        return response.model_spec.version.value, signatures

    def make_request(self, signature: str, images: Images) -> Any:
        """Returns the PredictRequest for the features of examples."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        how = self.signatures[signature]
        request = predict_pb2.PredictRequest(output_filter=["mean", "stddev"])
        request.model_spec.name = self._endpoint.model
        request.model_spec.version.value = self._version
        request.model_spec.signature_name = signature
        tensor = request.inputs[how.input_name]
        tensor.dtype = tf.as_dtype(how.dtype).as_datatype_enum
        tensor.tensor_shape.dim.add().size = len(images)
        if how.dtype == "string":
            tensor.string_val.extend(images)
        else:
            for size in how.image_shape:
                tensor.tensor_shape.dim.add().size = size
            tensor.tensor_content = np.ascontiguousarray(images, how.dtype).tobytes()
        return request

    def _predict(self, signature: str, how: Signature, images: Images) -> Features:
        import tensorflow as tf

        response = self._call(self._stub.Predict, self.make_request(signature, images))
        outputs = {key: response.outputs[key] for key in Features._fields}
        for key, tensor in outputs.items():
            # An array of one value many times is a small message.
            shape = [dim.size for dim in tensor.tensor_shape.dim]
            if math.prod(shape) > len(images) * how.latent_dim:
                raise self._wrong_answer(f"{key} of shape {shape} for {len(images)} examples")
        try:
            arrays = {key: tf.make_ndarray(tensor) for key, tensor in outputs.items()}
        except (ValueError, TypeError) as error:
            raise self._wrong_answer(error) from error
        return Features(**arrays)

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        """Makes one call, and sorts failures into those worth a retry and those that are final."""
        import grpc

        code = grpc.StatusCode
        transient = (
            code.UNAVAILABLE,
            code.RESOURCE_EXHAUSTED,
            code.DEADLINE_EXCEEDED,
            code.ABORTED,
        )
        try:
            return method(request, timeout=self._config.timeout)
        except grpc.RpcError as error:
            status, details = error.code(), error.details() or ""
            if is_too_large(details):
                raise TooLargeError(details) from error
            if status in transient:
                raise TransientError(f"{status.name}: {details}") from error
            if status == code.INVALID_ARGUMENT:
                raise RejectedImagesError(plain_reason(details)) from error
            if status == code.NOT_FOUND:
                raise self._not_found(details) from error
            raise self._refusal(f"{status.name}: {details}") from error


class RestEncoder(ServedEncoder):
    """An encoder behind the REST API [2]; x travels as decimal numbers, or files in base64."""

    def _connect(self) -> None:
        from tfp_smvi.serving.transport import Transport

        where = self._endpoint
        self._url = f"{where.scheme}://{where.address}/v1/models/{where.model}"
        self._transport = Transport(self._config.timeout, self._config.in_flight)

    def close(self) -> None:
        """Closes idle connections."""
        super().close()
        self._transport.close()

    def _describe(self, version: int | None, label: str | None) -> tuple[int, dict[str, Signature]]:
        part = f"/versions/{version}" if version is not None else ""
        part = f"/labels/{urllib.parse.quote(label, safe='')}" if label is not None else part
        answer = self._request("GET", f"{self._url}{part}/metadata", 0)

        def describe(tensors: Any) -> dict[str, TensorInfo]:
            return {
                key: TensorInfo(
                    _DTYPES.get(info["dtype"], info["dtype"]),
                    _shape(int(dim["size"]) for dim in info["tensor_shape"].get("dim", [])),
                )
                for key, info in tensors.items()
            }

        signatures: dict[str, Signature] = {}
        try:
            for name, definition in answer["metadata"]["signature_def"]["signature_def"].items():
                inputs, outputs = describe(definition["inputs"]), describe(definition["outputs"])
                signatures |= make_signature(name, inputs, outputs)
            return int(answer["model_spec"]["version"]), signatures
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise self._wrong_answer("unknown form of metadata") from error

    def _predict(self, signature: str, how: Signature, images: Images) -> Features:
        if how.dtype == "string":
            values = [{"b64": base64.b64encode(data).decode()} for data in images]
        else:
            values = np.asarray(images, how.dtype).tolist()
        body = {"signature_name": signature, "inputs": {how.input_name: values}}
        numbers = 2 * len(images) * how.latent_dim
        url = f"{self._url}/versions/{self._version}:predict"
        answer = self._request("POST", url, 2 * len(images) + numbers, body)
        try:
            outputs = answer["outputs"]
            return Features(*(_array(outputs[name], how.latent_dim) for name in ("mean", "stddev")))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self._wrong_answer("no rows of numbers as mean and stddev") from error

    def _request(self, method: str, url: str, num_values: int, body: object = None) -> Any:
        """Makes one request, and sorts failures into those worth a retry and final ones.

        Args:
            method: such as "GET".
            url: the address.
            num_values: the numbers and rows of the answer, beside as much as metadata have.
            body: JSON values to send.
        """
        from tfp_smvi.serving.transport import UntrustedError, WrongAnswerError

        limit = min(_METADATA_BYTES + _NUMBER_BYTES * num_values, _REST_BYTES)
        try:
            answered = self._transport.request(method, url, limit, body)
        except UntrustedError as error:
            raise self._refusal(str(error)) from error
        except WrongAnswerError as error:
            raise self._wrong_answer(error) from error
        status, name, data = answered
        try:
            answer = answered.parse(_METADATA_VALUES + num_values)
        except ValueError as error:
            # Another program answers with a page, which says more than that it is no JSON.
            is_json = data.lstrip()[:1] in (b"[", b"{")
            reason = plain_reason(error) if is_json else _title(data) or name
            if status == 200:
                raise self._wrong_answer(reason) from error
        else:
            if status == 200:
                return answer
            reason = str(answer.get("error", answer) if isinstance(answer, dict) else answer)
        raise self._failure(status, reason)

    def _failure(self, status: int, reason: str) -> Exception:
        """The error of an answer with another status than 200."""
        if status == 413 or is_too_large(reason):
            return TooLargeError(f"HTTP {status}: {reason}")
        if status in _RETRIED_HTTP:
            return TransientError(f"HTTP {status}: {reason}")
        if status == 400:
            return RejectedImagesError(plain_reason(reason))
        if status == 404:
            return self._not_found(reason)
        return self._refusal(f"HTTP {status}: {reason}")


def connect(
    endpoint: str, config: FeaturesConfig, version: int | None = None, label: str | None = None
) -> GrpcEncoder | RestEncoder:
    """Connects to a served encoder; see `Endpoint.parse` for the forms of an endpoint.

    Raises:
        SMVIError: the endpoint has another form, does not answer, has no such version, or is not an
            encoder.
    """
    where = Endpoint.parse(endpoint)
    kind = GrpcEncoder if where.scheme == "grpc" else RestEncoder
    return kind(where, config, version, label)


def _shape(sizes: Iterable[int]) -> tuple[int | None, ...]:
    """A shape in which -1 stands for a size that is free."""
    return tuple(size if size >= 0 else None for size in sizes)


def _title(page: bytes) -> str:
    """What a page of a proxy says: its title, or else its beginning without tags."""
    text = page[:10_000].decode(errors="replace")
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    words = html.unescape(title[1] if title else re.sub(r"<[^>]*>", " ", text)).split()
    return " ".join(words)[:200]


def _array(values: Any, latent_dim: int) -> npt.NDArray[np.float32]:
    """Makes an array of JSON numbers, [n, latent_dim]."""
    array = np.asarray(values, np.float32)
    return array.reshape(-1, latent_dim) if array.size == 0 else array
