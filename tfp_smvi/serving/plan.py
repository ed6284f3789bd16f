"""What TF Serving's server is started with: its command, and the files that it reads.

References:
    [1] https://www.tensorflow.org/tfx/serving/serving_config
    [2] https://github.com/tensorflow/serving/issues/1969: the server listens on all interfaces
"""

import functools
import json
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tfp_smvi.config import ServeConfig
from tfp_smvi.core.errors import SMVIError, explain_write_errors
from tfp_smvi.serving.encoders import export_versions
from tfp_smvi.storage.atomic import write_atomically

__all__ = ["IMAGE", "SERVER", "ServerPlan", "plan_server"]

SERVER = "tensorflow_model_server"
# The same release as the tensorflow-serving-api that the client is made with.
IMAGE = "tensorflow/serving:2.21.0"
# No model has such a name: they begin with a letter or a digit.
FILES_FOLDER = "_server"
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
        with explain_write_errors(f"to {self.folder}", "give write permission."):
            self.folder.mkdir(exist_ok=True)
            for name, text in self.files.items():
                write_atomically(self.folder / name, functools.partial(_write_text, text))


def plan_server(config: ServeConfig) -> ServerPlan:
    """Finds a server on this machine and makes its command and its files.

    Raises:
        SMVIError: there is no server, no such model or version, or the server cannot be held to the
            host.
    """
    root = Path(config.models).expanduser().resolve()
    models = _models(root, config)
    in_docker = config.docker or shutil.which(SERVER) is None
    if in_docker and shutil.which("docker") is None:
        raise SMVIError(
            _INSTALL
            if not config.docker
            else "there is no Docker; install it, or leave --docker out."
        )
    if not in_docker and config.host not in (None, "0.0.0.0"):
        raise SMVIError(
            f"{SERVER} listens on all interfaces and cannot be told otherwise; give --docker, or --host 0.0.0.0 "
            "where a firewall keeps others out."
        )
    bind = config.host or (_LOOPBACK if in_docker else "0.0.0.0")
    base = "/models" if in_docker else str(root)
    flags = _flags(
        f"{base}/{FILES_FOLDER}",
        *((8500, 8501) if in_docker else (config.grpc_port, config.rest_port)),
    )
    container = f"tfp-smvi-serve-{config.rest_port}" if in_docker else None
    command = (SERVER, *flags)
    if container:
        mount = f"type=bind,source={root},target=/models,readonly"
        ports = [f"{bind}:{config.grpc_port}:8500", f"{bind}:{config.rest_port}:8501"]
        # --init: as process 1 the server would not end at a signal.
        options = [
            "--rm",
            "--init",
            "--name",
            container,
            "--mount",
            mount,
            "-p",
            ports[0],
            "-p",
            ports[1],
        ]
        command = ("docker", "run", *options, "--entrypoint", SERVER, IMAGE, *flags)
    files = {
        "models.config": _models_config(base, root, models, config),
        "batching.config": _BATCHING,
        "monitoring.config": _MONITORING,
    }
    address = _LOOPBACK if bind == "0.0.0.0" else bind
    return ServerPlan(command, root / FILES_FOLDER, files, models, container, bind, address, config)


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
            *(
                f"    {line}"
                for line in _version_lines(export_versions(root / model), model, config)
            ),
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
        *(
            f'version_labels {{ key: "{label}" value: {version} }}'
            for label, version in labels.items()
        ),
    ]


def _write_text(text: str, file: Any) -> None:
    file.write(text.encode())
