"""The plan of a TF Serving server: its command, and the files that it reads.

References:
    [1] https://www.tensorflow.org/tfx/serving/serving_config
    [2] https://github.com/tensorflow/serving/issues/1969: the server listens on all interfaces
"""

import json
import operator
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tfp_smvi.config import ServeConfig
from tfp_smvi.core.errors import NotFoundError, SMVIError, explain_write_errors
from tfp_smvi.core.paths import absolute, require_utf_8
from tfp_smvi.export.formats import find_weakness
from tfp_smvi.serving.docker import IMAGE, SERVER, docker_command
from tfp_smvi.serving.encoders import export_versions
from tfp_smvi.storage.atomic import write_atomically

__all__ = ["LOG", "ServerPlan", "plan_server"]

# Names of models begin with a letter or a digit, so none is equal to this.
FILES_FOLDER = "_server"
LOG = "server.log"
_LOOPBACK, _EVERYWHERE = "127.0.0.1", "0.0.0.0"

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
        folder: the folder of its files.
        files: the contents of the files that it reads, by name.
        models: the models that it serves.
        container: the name of its Docker container, or None.
        address: the address to reach it at.
        config: the settings of the server.
        notes: lines for a person before it starts.
    """

    command: tuple[str, ...]
    folder: Path
    files: Mapping[str, str]
    models: tuple[str, ...]
    container: str | None
    address: str
    config: ServeConfig
    notes: tuple[str, ...]

    @property
    def shell_command(self) -> str:
        """The command as a line for a shell."""
        return shlex.join(self.command)

    @property
    def rest_url(self) -> str:
        """The part that all REST addresses begin with."""
        return f"http://{self.address}:{self.config.rest_port}"

    def write_files(self) -> None:
        """Writes the files that the server reads.

        Raises:
            SMVIError: they cannot be written.
        """
        with explain_write_errors(f"to {self.folder}", "give write permission"):
            for name, text in self.files.items():
                write = operator.methodcaller("write", text.encode())
                write_atomically(self.folder / name, write)


def plan_server(config: ServeConfig) -> ServerPlan:
    """Finds a server on this machine, and makes its command and its files.

    Raises:
        SMVIError: there is no server, no such model or version, or the server cannot be restricted
            to the host.
    """
    root = absolute(config.models, "models")
    require_utf_8(root, "models")
    models = _models(root, config)
    in_docker = _needs_docker(config)
    base = "/models" if in_docker else str(root)
    container = f"tfp-smvi-serve-{config.rest_port}" if in_docker else None
    if container:
        flags = _flags(f"{base}/{FILES_FOLDER}", 8500, 8501)
        command = docker_command(root, container, config, flags)
    else:
        flags = _flags(f"{base}/{FILES_FOLDER}", config.grpc_port, config.rest_port)
        command = (SERVER, *flags)
    files = {
        "models.config": _models_config(base, root, models, config),
        "batching.config": _BATCHING,
        "monitoring.config": _MONITORING,
    }
    address = _LOOPBACK if config.host == _EVERYWHERE else config.host
    notes = (*_notes(config, in_docker=in_docker), *_weaknesses(root, models, config))
    folder = root / FILES_FOLDER
    return ServerPlan(command, folder, files, models, container, address, config, notes)


def _notes(config: ServeConfig, *, in_docker: bool) -> Iterator[str]:
    """What a person should know of the address."""
    if config.host == _EVERYWHERE:
        yield "Warning: the server listens on all interfaces, without a password."
    elif not config.docker and in_docker and shutil.which(SERVER):
        yield f"Using Docker, because {SERVER} cannot listen on {config.host} alone."


def _weaknesses(root: Path, models: tuple[str, ...], config: ServeConfig) -> Iterator[str]:
    """What is wrong with the exports to serve."""
    for model in models:
        for version in _served(export_versions(root / model), config):
            if weakness := find_weakness(root / model / str(version)):
                yield f"Warning: {weakness}"


def _needs_docker(config: ServeConfig) -> bool:
    """Whether the server runs in Docker; raises an SMVIError if it can run nowhere."""
    has_server = shutil.which(SERVER) is not None
    in_docker = config.docker or not has_server or config.host != _EVERYWHERE
    if in_docker and shutil.which("docker") is None:
        if config.docker:
            raise SMVIError(
                "needs Docker, which is not installed",
                field="docker",
                remedy="install it, or leave {docker} out",
            )
        if not has_server:
            raise SMVIError(_INSTALL)
        raise SMVIError(
            f"is not possible without Docker: {SERVER} always listens on all interfaces",
            field="host",
            value=config.host,
            remedy=f"give {_EVERYWHERE} as {{host}} if a firewall protects this machine, or "
            "install Docker",
        )
    return in_docker


def _models(root: Path, config: ServeConfig) -> tuple[str, ...]:
    """The names of the models to serve."""
    names = sorted(path.name for path in root.glob("[A-Za-z0-9]*") if export_versions(path))
    if config.model_name is None:
        if not names:
            raise NotFoundError(
                "holds no models",
                field="models",
                value=config.models,
                remedy="make one with tfp-smvi export",
            )
        if config.labels and len(names) > 1:
            raise SMVIError(
                "needs the name of a model",
                field="labels",
                value=config.labels,
                remedy=f"give {{model_name}}, one of {', '.join(names)}",
            )
        return tuple(names)
    if config.model_name not in names:
        raise NotFoundError(
            f"does not exist in {config.models}",
            field="model_name",
            value=config.model_name,
            remedy=f"give one of: {', '.join(names)}" if names else "make one with tfp-smvi export",
        )
    return (config.model_name,)


def _flags(folder: str, grpc_port: int, rest_port: int) -> list[str]:
    return [
        f"--port={grpc_port}",
        f"--rest_api_port={rest_port}",
        f"--model_config_file={folder}/models.config",
        # Changes of models.config, such as another version for a label, take effect in seconds.
        "--model_config_file_poll_wait_seconds=10",
        # Without it the server does not start with labels, as no version is loaded yet.
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
    """The policy that selects the newest versions, and those with labels."""
    if not config.labels:
        return [f"model_version_policy {{ latest {{ num_versions: {config.num_versions} }} }}"]
    labels = {}
    for text in config.labels:
        label, _, version = text.partition("=")
        if not version.isdecimal() or int(version) not in versions:
            choices = ", ".join(map(str, versions))
            raise SMVIError(
                f"names a version that {model} does not have",
                field="labels",
                value=text,
                remedy=f"give one of: {choices}",
            )
        labels[label] = int(version)
    numbers = " ".join(f"versions: {version}" for version in _served(versions, config))
    policy = f"model_version_policy {{ specific {{ {numbers} }} }}"
    return [
        policy,
        *(
            f'version_labels {{ key: "{label}" value: {version} }}'
            for label, version in labels.items()
        ),
    ]


def _served(versions: list[int], config: ServeConfig) -> list[int]:
    """The newest versions, and those with labels."""
    labelled = (int(label.partition("=")[2]) for label in config.labels)
    return sorted({*labelled, *versions[-config.num_versions :]})
