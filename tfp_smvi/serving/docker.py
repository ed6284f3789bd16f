"""TF Serving's server in Docker.

References:
    [1] https://docs.docker.com/reference/cli/docker/container/run/#mount
"""

import csv
import io
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tfp_smvi.config import ServeConfig
from tfp_smvi.core.errors import SMVIError

__all__ = ["ANSWER_SECONDS", "IMAGE", "SERVER", "docker", "docker_command", "prepare_docker"]

SERVER = "tensorflow_model_server"
# The same release as the tensorflow-serving-api of the client.
IMAGE = "tensorflow/serving:2.21.0"
# Seconds for an answer of Docker, and for a download.
ANSWER_SECONDS, _PULL_SECONDS = 30.0, 3600.0


def docker(*arguments: str, timeout: float | None = None) -> "subprocess.CompletedProcess[str]":
    """Runs a command of Docker; if its daemon hangs, the command fails when the time is over.

    Args:
        *arguments: the command.
        timeout: seconds; None for ANSWER_SECONDS.

    Raises:
        OSError: there is no Docker.
    """
    command = ["docker", *arguments]
    seconds = ANSWER_SECONDS if timeout is None else timeout
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        reason = f"no answer within {seconds:g} s"
        return subprocess.CompletedProcess(command, 124, stdout="", stderr=reason)


def docker_command(
    root: Path, container: str, config: ServeConfig, flags: Sequence[str]
) -> tuple[str, ...]:
    """The command that runs the server in Docker, with the models mounted at /models."""
    mount = io.StringIO()
    # Docker reads a line of CSV, in which a comma in the path needs quotes.
    csv.writer(mount, lineterminator="").writerow(
        ["type=bind", f"source={root}", "target=/models", "readonly"]
    )
    return (
        *("docker", "run", "--rm"),
        "--init",  # as process 1 the server would not end at a signal
        *("--name", container),
        *("--mount", mount.getvalue()),
        *("-p", f"{config.host}:{config.grpc_port}:8500"),
        *("-p", f"{config.host}:{config.rest_port}:8501"),
        *("--entrypoint", SERVER, IMAGE),
        *flags,
    )


def prepare_docker(note: Callable[[str], None]) -> None:
    """Fetches the image if it is missing, which may take minutes.

    Raises:
        SMVIError: Docker does not run, or there is no network.
    """
    answer = docker("version", "--format", "{{.Server.Version}}")
    if answer.returncode:
        raise SMVIError(
            f"Docker does not answer ({_last_line(answer.stderr)})",
            remedy="start it, for example with: sudo systemctl start docker",
        )
    if docker("image", "inspect", IMAGE).returncode:
        note(f"Fetching {IMAGE}, once")
        answer = docker("pull", "--quiet", IMAGE, timeout=_PULL_SECONDS)
        if answer.returncode:
            raise SMVIError(
                f"cannot fetch {IMAGE} ({_last_line(answer.stderr)})", remedy="check the network"
            )


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
