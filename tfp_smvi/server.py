"""TF Serving's own server: found, configured, started, watched and stopped.

References:
    [1] https://www.tensorflow.org/tfx/serving/serving_config
    [2] https://github.com/tensorflow/serving/issues/1969: the server listens on all interfaces
"""

import base64
import contextlib
import functools
import io
import json
import shlex
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tfp_smvi.checkpoint import write_atomically
from tfp_smvi.config import FeaturesConfig, ServeConfig
from tfp_smvi.encoders import Signature, export_versions
from tfp_smvi.errors import SMVIError
from tfp_smvi.serving import connect

__all__ = ["IMAGE", "ServerPlan", "plan_server", "serve"]

SERVER = "tensorflow_model_server"
# The same release as the tensorflow-serving-api that the client is made with.
IMAGE = "tensorflow/serving:2.21.0"
# No model has such a name: they begin with a letter or a digit.
FILES_FOLDER = "_server"
LOG = "server.log"
# Seconds that the server gets to end by itself.
GRACE = 10
_LOOPBACK = "127.0.0.1"

_INSTALL = f"""there is no {SERVER} on the PATH and no Docker; install one of them:
  Docker:          https://docs.docker.com/engine/install/
                   docker pull {IMAGE}
  Debian, Ubuntu:  sudo curl -o /etc/apt/trusted.gpg.d/tensorflow-serving.asc \\
                     https://storage.googleapis.com/tensorflow-serving-apt/tensorflow-serving.release.pub.gpg
                   echo "deb https://storage.googleapis.com/tensorflow-serving-apt stable \\
                     tensorflow-model-server tensorflow-model-server-universal" | \\
                     sudo tee /etc/apt/sources.list.d/tensorflow-serving.list
                   sudo apt-get update && sudo apt-get install tensorflow-model-server"""

_BATCHING = """\
# Requests that come within a millisecond are answered together.
max_batch_size { value: 4096 }
batch_timeout_micros { value: 1000 }
max_enqueued_batches { value: 1000 }
"""
_MONITORING = """\
prometheus_config { enable: true, path: "/monitoring/prometheus/metrics" }
"""


class ServerPlan(NamedTuple):
    """A server that can be started.

    Attributes:
        command: the program and its arguments.
        folder: where its files are.
        files: the contents of the files that it reads, by name.
        models: the models that it serves.
        container: the name of its Docker container, or None.
        bind: the address that it listens on.
        address: the address to reach it at.
        config: what was asked for.
    """

    command: tuple[str, ...]
    folder: Path
    files: Mapping[str, str]
    models: tuple[str, ...]
    container: str | None
    bind: str
    address: str
    config: ServeConfig

    @property
    def shell_command(self) -> str:
        """The command as one enters it in a shell."""
        return shlex.join(self.command)

    @property
    def rest_url(self) -> str:
        """The beginning of REST addresses."""
        return f"http://{self.address}:{self.config.rest_port}"

    def write_files(self) -> None:
        """Writes the files that the server reads.

        Raises:
            SMVIError: they cannot be written.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            for name, text in self.files.items():
                write_atomically(self.folder / name, functools.partial(_write_text, text))
        except OSError as error:
            raise SMVIError(
                f"cannot write to {self.folder} ({error.strerror}); give write permission."
            ) from error


def plan_server(config: ServeConfig) -> ServerPlan:
    """Finds a server on this machine and makes its command and its files.

    Raises:
        SMVIError: there is no server, no such model or version, or the server cannot be held to the host.
    """
    root = Path(config.models).expanduser().resolve()
    models = _models(root, config)
    in_docker = config.docker or shutil.which(SERVER) is None
    if in_docker and shutil.which("docker") is None:
        raise SMVIError(
            _INSTALL if not config.docker else "there is no Docker; install it, or leave --docker out."
        )
    if not in_docker and config.host not in (None, "0.0.0.0"):
        raise SMVIError(
            f"{SERVER} listens on all interfaces and cannot be told otherwise; give --docker, or --host 0.0.0.0 "
            "where a firewall keeps others out."
        )
    bind = config.host or (_LOOPBACK if in_docker else "0.0.0.0")
    base = "/models" if in_docker else str(root)
    flags = _flags(
        f"{base}/{FILES_FOLDER}", *((8500, 8501) if in_docker else (config.grpc_port, config.rest_port))
    )
    container = f"tfp-smvi-serve-{config.rest_port}" if in_docker else None
    command = (SERVER, *flags)
    if container:
        mount = f"type=bind,source={root},target=/models,readonly"
        ports = [f"{bind}:{config.grpc_port}:8500", f"{bind}:{config.rest_port}:8501"]
        # --init: as process 1 the server would not end at a signal.
        options = ["--rm", "--init", "--name", container, "--mount", mount, "-p", ports[0], "-p", ports[1]]
        command = ("docker", "run", *options, "--entrypoint", SERVER, IMAGE, *flags)
    files = {
        "models.config": _models_config(base, root, models, config),
        "batching.config": _BATCHING,
        "monitoring.config": _MONITORING,
    }
    address = _LOOPBACK if bind == "0.0.0.0" else bind
    return ServerPlan(command, root / FILES_FOLDER, files, models, container, bind, address, config)


def serve(plan: ServerPlan, *, note: Callable[[str], None], ready: Callable[[str], None]) -> None:
    """Runs the server until it ends, or until an exception such as a signal's comes, and then stops it.

    Args:
        plan: the server.
        note: receives lines for a person.
        ready: receives the addresses and an example once all models answer.

    Raises:
        SMVIError: a port is in use, the server does not start, no version of a model becomes available in time, or
            the server ends by itself.
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


def _models(root: Path, config: ServeConfig) -> tuple[str, ...]:
    """Returns the models to serve."""
    found = sorted(path.name for path in root.glob("[A-Za-z0-9]*") if export_versions(path))
    if config.model_name is None:
        if not found:
            raise SMVIError(f"{config.models} holds no models; make one with tfp-smvi export.")
        if config.labels and len(found) > 1:
            raise SMVIError(f"--label needs --model-name, one of {', '.join(found)}.")
        return tuple(found)
    if config.model_name not in found:
        raise SMVIError(
            f"{config.models} has no model {config.model_name!r}, only {', '.join(found) or 'nothing'}; "
            "make it with tfp-smvi export --model-name."
        )
    return (config.model_name,)


def _flags(folder: str, grpc_port: int, rest_port: int) -> list[str]:
    return [
        f"--port={grpc_port}",
        f"--rest_api_port={rest_port}",
        f"--model_config_file={folder}/models.config",
        # Edits of models.config, such as another version for a label, take effect within seconds.
        "--model_config_file_poll_wait_seconds=10",
        # Without it the server does not start with labels: no version is loaded yet.
        "--allow_version_labels_for_unavailable_models=true",
        "--enable_batching=true",
        f"--batching_parameters_file={folder}/batching.config",
        f"--monitoring_config_file={folder}/monitoring.config",
    ]


def _models_config(base: str, root: Path, models: tuple[str, ...], config: ServeConfig) -> str:
    """Writes the server's list of models [1]."""
    lines = [
        "# Written by tfp-smvi serve at its start. The server reads it again every 10 seconds.",
        "model_config_list {",
    ]
    for model in models:
        lines += [
            "  config {",
            f'    name: "{model}"',
            f"    base_path: {json.dumps(f'{base}/{model}', ensure_ascii=False)}",
            '    model_platform: "tensorflow"',
            *(f"    {line}" for line in _version_lines(export_versions(root / model), model, config)),
            "  }",
        ]
    return "\n".join([*lines, "}", ""])


def _version_lines(versions: list[int], model: str, config: ServeConfig) -> list[str]:
    """Says which versions are served: the newest, or those with labels and the newest."""
    if not config.labels:
        return [f"model_version_policy {{ latest {{ num_versions: {config.num_versions} }} }}"]
    labels = {}
    for text in config.labels:
        label, _, version = text.partition("=")
        if not version.isdecimal() or int(version) not in versions:
            known = ", ".join(map(str, versions))
            raise SMVIError(f"--label {text}: {model} has no version {version!r}; it has {known}.")
        labels[label] = int(version)
    chosen = sorted({*labels.values(), *versions[-config.num_versions :]})
    numbers = " ".join(f"versions: {version}" for version in chosen)
    policy = f"model_version_policy {{ specific {{ {numbers} }} }}"
    return [
        policy,
        *(f'version_labels {{ key: "{label}" value: {version} }}' for label, version in labels.items()),
    ]


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
            raise SMVIError(f"cannot fetch {IMAGE} ({_last_line(answer.stderr)}); check the network.")


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
    return f"version {state['version']} is in state {state['state']}" + (f": {message}" if message else "")


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
        versions = ", ".join(sorted((s["version"] for s in states if s["state"] == "AVAILABLE"), key=int))
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
        signatures = connect(f"{plan.rest_url}/{model}", FeaturesConfig(retries=2, timeout=10.0)).signatures
    except SMVIError:  # it is no encoder
        return f"curl {url}/metadata"
    if "encoded_image" not in signatures or "uint8" not in signatures:
        return f"curl {url}/metadata"
    instance = {"image_bytes": {"b64": base64.b64encode(_black_png(signatures["uint8"])).decode()}}
    body = json.dumps({"signature_name": "encoded_image", "instances": [instance]})
    return shlex.join(["curl", f"{url}:predict", "-d", body])


def _write_text(text: str, file: Any) -> None:
    file.write(text.encode())


def _black_png(signature: Signature) -> bytes:
    from PIL import Image

    height, width, channels = signature.image_shape
    file = io.BytesIO()
    Image.new("L" if channels == 1 else "RGB", (width, height)).save(file, "PNG")
    return file.getvalue()
