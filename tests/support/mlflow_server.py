"""A real MLflow tracking server on loopback, with its SQLite store, and a gate before it.

Run as a script it is the server: its application is MLflow's, which the lean package has, too.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.ports import free_port

__all__ = ["Gate", "Stored", "mlflow_server"]

ROOT = Path(__file__).parents[2]

# The server imports, and makes its tables, for tens of seconds on a busy machine.
START_SECONDS = 200


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[int]:
    """Serves a new store in a folder; yields the port once it answers."""
    port = free_port()
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/mlflow.db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artifacts"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }
    with (folder / "server.log").open("w") as log:
        command = [sys.executable, "-m", "tests.support.mlflow_server", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        _wait(process, port, folder / "server.log")
        yield port
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Waits until the store answers."""
    end = time.monotonic() + START_SECONDS
    url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get?experiment_id=0"
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=60):
            return
        time.sleep(0.2)
    raise AssertionError(f"MLflow's server did not start:\n{log.read_text()[-3000:]}")


class Stored:
    """What the server has, by MLflow's own client."""

    def __init__(self, port: int) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(f"http://127.0.0.1:{port}")

    def named(self, name: str) -> Any:
        """The runs of a name in the experiment."""
        experiment = self.client.get_experiment_by_name("tfp-smvi")
        assert experiment is not None
        query = f"attributes.run_name = '{name}'"
        return list(self.client.search_runs([experiment.experiment_id], query))

    def only(self, name: str) -> Any:
        """The one run of a name."""
        (run,) = self.named(name)
        return run

    def epochs(self, run: Any, metric: str) -> list[int]:
        """The epochs of a metric's points, as often as they are there."""
        return [point.step for point in self.client.get_metric_history(run.info.run_id, metric)]

    def files(self, run: Any, folder: str | None = None) -> set[str]:
        """The paths of a run's artifacts in a folder."""
        return {file.path for file in self.client.list_artifacts(run.info.run_id, folder)}


class Gate:
    """A port that passes connections on to a server while it is open, and refuses them else."""

    def __init__(self, backend: int) -> None:
        """Is closed."""
        self.port, self._backend = free_port(), backend
        self.uri = f"http://127.0.0.1:{self.port}"
        self._sockets: list[socket.socket] = []

    def open(self) -> None:
        """Accepts connections from now on."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self._sockets.append(listener)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        """Refuses connections, and ends those that there are."""
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._sockets.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._backend))
                self._sockets += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=_pass_on, args=pair, daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _serve(port: int) -> None:
    from mlflow.server import app
    from werkzeug.serving import make_server

    application: Any = app
    make_server("127.0.0.1", port, application, threaded=True).serve_forever()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
