"""What is exported and served, and how features are asked for."""

import ipaddress
import math
import re
from dataclasses import dataclass
from typing import Literal

from tfp_smvi.config.base import Settings, option, require, require_whole

__all__ = [
    "ExportPrecision",
    "ExportWeights",
    "FeaturesConfig",
    "FormatName",
    "OnError",
    "PartName",
    "ServeConfig",
]

PartName = Literal["encoder", "decoder", "both"]
ExportPrecision = Literal["float32", "bfloat16"]
ExportWeights = Literal["float32", "float16"]
# What an export can have beside its SavedModel.
FormatName = Literal["onnx", "tflite"]
OnError = Literal["fail", "skip"]


@dataclass(frozen=True)
class FeaturesConfig(Settings):
    """How `features` queries a model; beyond rounding, the features do not depend on it."""

    batch_size: int = option(512, "Examples in one request to the model.")
    in_flight: int = option(4, "Requests to a server at a time.")
    timeout: float = option(30.0, "Seconds to wait for a server's answer.")
    retries: int = option(8, "Retries of a request to a server that is away, busy or too slow.")
    on_error: OnError = option(
        "fail", "At an example that cannot be read: fail, or skip it and list it."
    )

    def _check(self) -> None:
        require_whole("batch_size", self.batch_size, least=1)
        require_whole("in_flight", self.in_flight, least=1)
        require_whole("retries", self.retries, least=0)
        timeout_ok = 0.0 < self.timeout < math.inf
        require("timeout", self.timeout, timeout_ok, "a number of seconds greater than 0")


@dataclass(frozen=True)
class ServeConfig(Settings):
    """Which models a TF Serving server holds, and where it listens."""

    models: str = option("saved_models", "The folder of the exported models.")
    model_name: str | None = option(None, "The model.  [default: all in the folder]")
    num_versions: int = option(
        2, "The newest versions of each model to serve; a request may name one."
    )
    labels: tuple[str, ...] = option((), "A name for a version, as NAME=VERSION; may be repeated.")
    host: str = option("127.0.0.1", "The address to listen on; 0.0.0.0 for all interfaces.")
    grpc_port: int = option(8500, "Port of gRPC.")
    rest_port: int = option(8501, "Port of REST and of the metrics for Prometheus.")
    docker: bool = option(False, "Use Docker even if tensorflow_model_server is on the PATH.")
    wait: float = option(120.0, "Seconds to wait until the models are available.")

    def _check(self) -> None:
        require_whole("num_versions", self.num_versions, least=1)
        for name in ("grpc_port", "rest_port"):
            require(
                name,
                getattr(self, name),
                1 <= getattr(self, name) <= 65535,
                "a port from 1 to 65535",
            )
        require(
            "rest_port",
            self.rest_port,
            self.rest_port != self.grpc_port,
            "a port other than {grpc_port}",
        )
        require("wait", self.wait, 0.0 < self.wait < math.inf, "a number of seconds greater than 0")
        require(
            "host",
            self.host,
            _is_ipv4(self.host),
            "an IPv4 address such as 0.0.0.0",
        )
        for label in self.labels:
            ok = re.fullmatch(r"[A-Za-z0-9_.-]+=[1-9][0-9]*", label) is not None
            require("labels", label, ok, "NAME=VERSION, such as stable=1")


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
