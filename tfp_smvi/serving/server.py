"""TF Serving's own server: started, watched and stopped."""

import base64
import contextlib
import io
import json
import shlex
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.serving.client import connect
from tfp_smvi.serving.encoders import Signature
from tfp_smvi.serving.plan import IMAGE, SERVER, ServerPlan

__all__ = ["serve"]

LOG = "server.log"
# Seconds that the server gets to end by itself.
GRACE = 10


def serve(plan: ServerPlan, *, note: Callable[[str], None], ready: Callable[[str], None]) -> None:
    """Runs the server until it ends, or until an exception such as a signal's comes, and then stops it.

    Args:
        plan: the server.
        note: receives lines for a person.
        ready: receives the addresses and an example once all models answer.

    Raises:
        SMVIError: a port is in use, the server does not start, no version of a model becomes
            available in time, or the server ends by itself.
    """
    for port in (plan.config.grpc_port, plan.config.rest_port):
        _require_free(plan.bind, port)
    if plan.container:
        _prepare_docker(note)
    plan.write_files()
    with _running(plan) as process:
        _wait_until_available(plan, process, note)
        ready(_describe(plan))
        process.wait()
        raise _ended(plan, process)


def _require_free(host: str, port: int) -> None:
    """Raises an SMVIError where another program listens."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Connections that ended a moment ago are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise SMVIError(
            f"cannot listen on {host}:{port} ({error.strerror}); stop what runs there, or give another "
            "--grpc-port, --rest-port or --host."
        ) from error


def _prepare_docker(note: Callable[[str], None]) -> None:
    """Fetches the image at its first use, which may take minutes.

    Raises:
        SMVIError: Docker does not run, or there is no network.
    """
    answer = _docker("version", "--format", "{{.Server.Version}}")
    if answer.returncode:
        raise SMVIError(
            f"there is no {SERVER} on the PATH, and Docker does not answer ({_last_line(answer.stderr)}); start "
            "Docker, such as with: sudo systemctl start docker"
        )
    if _docker("image", "inspect", IMAGE).returncode:
        note(f"Fetching {IMAGE}, once")
        answer = _docker("pull", "--quiet", IMAGE)
        if answer.returncode:
            raise SMVIError(
                f"cannot fetch {IMAGE} ({_last_line(answer.stderr)}); check the network."
            )


def _docker(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]


@contextlib.contextmanager
def _running(plan: ServerPlan) -> Iterator["subprocess.Popen[bytes]"]:
    """Starts the server, and stops it at the end."""
    with (plan.folder / LOG).open("wb") as log:
        try:
            process = subprocess.Popen(
                plan.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A Ctrl-C in the terminal is for this process, which then stops the server.
                start_new_session=True,
            )
        except OSError as error:
            raise SMVIError(
                f"cannot start {plan.command[0]} ({error.strerror}); install it again."
            ) from error
    try:
        yield process
    finally:
        _stop(plan, process)


def _stop(plan: ServerPlan, process: "subprocess.Popen[bytes]") -> None:
    """Asks the server to end, and makes it end where it does not."""
    try:
        if process.poll() is None:
            if plan.container:
                _docker("stop", "--time", str(GRACE), plan.container)
            else:
                process.terminate()
            process.wait(GRACE + 5)
    except BaseException as error:  # it does not end, or a second signal came
        if plan.container:
            _docker("rm", "--force", plan.container)
        process.kill()
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise


def _wait_until_available(
    plan: ServerPlan, process: "subprocess.Popen[bytes]", note: Callable[[str], None]
) -> None:
    """Waits until each model has a version that answers; tells of versions that cannot be loaded."""
    deadline = time.monotonic() + plan.config.wait
    for model in plan.models:
        url = f"{plan.rest_url}/v1/models/{model}"
        states: list[dict[str, Any]] = []
        while not any(state["state"] == "AVAILABLE" for state in states):
            if process.poll() is not None:
                raise _ended(plan, process)
            if time.monotonic() > deadline:
                reasons = [_reason(state) for state in states] or ["the server does not answer"]
                raise SMVIError(
                    f"no version of {model} is available after {plan.config.wait:g} s ({'; '.join(reasons)}); look "
                    f"into {plan.folder / LOG}, or give it more time with --wait."
                )
            time.sleep(0.1)
            states = _states(url)
        for state in states:
            if state["status"]["error_code"] != "OK":
                note(f"Warning: {model} {_reason(state)}")


def _states(url: str) -> list[dict[str, Any]]:
    """Asks for the states of a model's versions; none where the server does not answer yet."""
    # A proxy has no way to this machine's loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            states: list[dict[str, Any]] = json.load(response)["model_version_status"]
    except (OSError, ValueError, KeyError):  # urllib's errors are OSErrors
        return []
    return states


def _reason(state: Mapping[str, Any]) -> str:
    message = state["status"]["error_message"]
    return f"version {state['version']} is in state {state['state']}" + (
        f": {message}" if message else ""
    )


def _ended(plan: ServerPlan, process: "subprocess.Popen[bytes]") -> SMVIError:
    """Makes the error that says how the server ended, with the end of its log."""
    lines = (plan.folder / LOG).read_text(errors="replace").splitlines()[-15:]
    tail = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
    return SMVIError(
        f"the server ended with exit code {process.returncode}; the end of {plan.folder / LOG}:\n{tail}"
    )


def _describe(plan: ServerPlan) -> str:
    """Says where the models are, with one request that works."""
    lines = []
    for model in plan.models:
        states = _states(f"{plan.rest_url}/v1/models/{model}")
        versions = ", ".join(
            sorted((s["version"] for s in states if s["state"] == "AVAILABLE"), key=int)
        )
        lines += [
            f"{model}, version {versions}:",
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
    """Returns a curl command that asks for the features of a black image, or else for the model's metadata."""
    url = f"{plan.rest_url}/v1/models/{model}"
    try:
        signatures = connect(
            f"{plan.rest_url}/{model}", FeaturesConfig(retries=2, timeout=10.0)
        ).signatures
    except SMVIError:  # it is no encoder
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
