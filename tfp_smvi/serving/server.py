"""TF Serving's own server: started, watched and stopped."""

import base64
import errno
import io
import json
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Callable
from typing import NamedTuple

from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.text import printable
from tfp_smvi.serving.client import connect
from tfp_smvi.serving.docker import prepare_docker
from tfp_smvi.serving.encoders import Signature
from tfp_smvi.serving.listeners import find_listener
from tfp_smvi.serving.plan import LOG, ServerPlan
from tfp_smvi.serving.process import holding, running
from tfp_smvi.serving.served import TransientError
from tfp_smvi.storage.json_files import parse_json

__all__ = ["serve", "write_files"]

# The largest answer to a question for the state of a model.
_STATES_BYTES = 2**20
# The end of a log that is read for its last lines.
_LOG_BYTES = 2**16


class VersionState(NamedTuple):
    """The state of one version of a model on the server.

    Attributes:
        version: the version's number.
        state: such as "AVAILABLE".
        error: why it cannot be loaded; empty if there is no error.
        failed: whether it cannot be loaded.
    """

    version: int
    state: str
    error: str
    failed: bool

    def __str__(self) -> str:
        """Such as "version 2 is in state END: no weights"."""
        text = f"version {self.version} is in state {self.state}"
        return printable(f"{text}: {self.error}" if self.error else text)


def serve(plan: ServerPlan, *, note: Callable[[str], None], ready: Callable[[str], None]) -> None:
    """Runs the server until it ends, or stops it at an exception such as that of a signal.

    Args:
        plan: the server.
        note: receives lines for a person.
        ready: receives the addresses and an example when all models answer.

    Raises:
        SMVIError: the models are served already, a port is in use, the server does not start, no
            version of a model becomes available in time, or the server ends by itself.
    """
    _require_free(plan.config.host, "grpc_port", plan.config.grpc_port)
    _require_free(plan.config.host, "rest_port", plan.config.rest_port)
    if plan.container:
        prepare_docker(note)
    with holding(plan) as lock:
        plan.write_files()
        _run(plan, lock, note, ready)


def write_files(plan: ServerPlan) -> None:
    """Writes the files that the server reads, and starts nothing.

    Raises:
        SMVIError: a server runs with them, or they cannot be written.
    """
    with holding(plan):
        plan.write_files()


def _run(
    plan: ServerPlan, lock: int, note: Callable[[str], None], ready: Callable[[str], None]
) -> None:
    """Runs the server until it ends."""
    with running(plan, lock) as process:
        _wait_until_available(plan, process, note)
        ready(_describe(plan))
        process.wait()
        raise _ended(plan, process)


def _require_free(host: str, name: str, port: int) -> None:
    """Raises an SMVIError if another program listens on the port."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Connections that were closed a moment ago do not block the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        listener = find_listener(port) if error.errno == errno.EADDRINUSE else None
        there = f"; there listens {listener.description}" if listener else ""
        stop = f"stop it with: {listener.stop_command}" if listener else "stop what listens there"
        raise SMVIError(
            f"cannot be used on {host} ({error.strerror}{there})",
            field=name,
            value=port,
            remedy=f"give another {{{name}}} or {{host}}, or {stop}",
        ) from error


def _wait_until_available(
    plan: ServerPlan, process: "subprocess.Popen[bytes]", note: Callable[[str], None]
) -> None:
    """Waits until each model has a version that answers, and reports versions that cannot load."""
    deadline = time.monotonic() + plan.config.wait
    for model in plan.models:
        states: list[VersionState] = []
        while not any(state.state == "AVAILABLE" for state in states):
            if process.poll() is not None:
                raise _ended(plan, process)
            if time.monotonic() > deadline:
                raise _unavailable(plan, model, states)
            time.sleep(0.1)
            states = _states(f"{plan.rest_url}/v1/models/{model}")
        for state in states:
            if state.failed:
                note(f"Warning: {model} {state}")


def _states(url: str) -> list[VersionState]:
    """Requests the states of a model's versions; empty while the server does not answer."""
    from tfp_smvi.serving.transport import Transport, WrongAnswerError

    transport = Transport(timeout=5.0)
    try:
        answer = transport.request("GET", url, _STATES_BYTES)
        statuses = parse_json(answer.data)["model_version_status"]
        return [
            VersionState(
                version=int(status["version"]),
                state=status["state"],
                error=status["status"]["error_message"],
                failed=status["status"]["error_code"] != "OK",
            )
            for status in statuses
        ]
    except (TransientError, WrongAnswerError):
        return []
    except (ValueError, KeyError, TypeError):  # it is another program
        return []
    finally:
        transport.close()


def _unavailable(plan: ServerPlan, model: str, states: list[VersionState]) -> SMVIError:
    """Makes the error of a model that did not become available in time."""
    reasons = "; ".join(map(str, states)) or "the server does not answer"
    return SMVIError(
        f"no version of {model} is available after {plan.config.wait:g} s ({reasons})",
        remedy=f"look into {plan.folder / LOG}, or give a larger {{wait}}",
    )


def _ended(plan: ServerPlan, process: "subprocess.Popen[bytes]") -> SMVIError:
    """Makes the error of a server that ended by itself, with the end of its log."""
    with (plan.folder / LOG).open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
        lines = log.read(_LOG_BYTES).decode(errors="replace").splitlines()[-15:]
    tail = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
    return SMVIError(
        f"the server ended with exit code {process.returncode}; the end of "
        f"{plan.folder / LOG}:\n{tail}"
    )


def _describe(plan: ServerPlan) -> str:
    """Lists the addresses of the models, with an example of a request."""
    lines = []
    for model in plan.models:
        states = _states(f"{plan.rest_url}/v1/models/{model}")
        versions = sorted(state.version for state in states if state.state == "AVAILABLE")
        lines += [
            f"{model}, version {', '.join(map(str, versions))}:",
            f"  gRPC   grpc://{plan.address}:{plan.config.grpc_port}/{model}",
            f"  REST   {plan.rest_url}/v1/models/{model}",
        ]
    lines += [
        f"Metrics for Prometheus: {plan.rest_url}/monitoring/prometheus/metrics",
        f"Log: {plan.folder / LOG}",
        "Try: " + _example(plan, plan.models[0]),
    ]
    return "\n".join(lines)


def _example(plan: ServerPlan, model: str) -> str:
    """A curl command for the features of a black image; for the metadata if it takes no images."""
    url = f"{plan.rest_url}/v1/models/{model}"
    try:
        signatures = connect(
            f"{plan.rest_url}/{model}", FeaturesConfig(retries=2, timeout=10.0)
        ).signatures
    except SMVIError:  # it is not an encoder
        return f"curl {url}/metadata"
    if "encoded_image" not in signatures or "uint8" not in signatures:
        return f"curl {url}/metadata"
    instance = {"image_bytes": {"b64": base64.b64encode(_black_png(signatures["uint8"])).decode()}}
    body = json.dumps({"signature_name": "encoded_image", "instances": [instance]})
    return shlex.join(["curl", f"{url}:predict", "-d", body])


def _black_png(signature: Signature) -> bytes:
    from PIL import Image

    height, width, channels = signature.image_shape
    file = io.BytesIO()
    Image.new("L" if channels == 1 else "RGB", (width, height)).save(file, "PNG")
    return file.getvalue()
