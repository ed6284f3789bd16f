"""The processes of an engine, forked with TensorFlow loaded in place of new interpreters.

Loading TensorFlow takes a processor 4 seconds. A process of a test forks none itself, for it may
have run TensorFlow: it asks Python's fork server, as tests.support.forked does.
"""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from types import SimpleNamespace
from typing import IO, Any

import pytest

from tests.support.forked import CONTEXT, start_server
from tfp_smvi.engines import processes

__all__ = ["forked_workers"]

_PYTHON = sys.executable
_WORKER = ["-P", "-m", "tfp_smvi.engines.worker"]
# Variables that act while TensorFlow runs or not at all; others may act while it loads.
_LATE = {
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"),
    *("TF_FORCE_GPU_ALLOW_GROWTH", "PYTEST_CURRENT_TEST"),
}
# What a process gets that has loaded a tracker or TensorFlow: the fork server has no tracker, and
# has loaded Keras on this backend.
_TRACKERS, _BACKEND = ("MLFLOW_", "WANDB_"), ("KERAS_BACKEND", "tensorflow")
# One thread alone may ask how a process has ended: the answer can be read once.
_lock = threading.Lock()


def forked_workers() -> Iterator[None]:
    """Lets `engines.processes` fork what it starts in this process, if nothing speaks against it.

    A program in the place of Python and another environment get a process of their own.
    """
    environment = dict(os.environ)

    def start(command: Sequence[str], **options: Any) -> Any:
        same = _early(options["env"]) == _early(environment)
        if same and command[:-1] == [_PYTHON, *_WORKER]:
            return _ForkedWorker(command[-1], **options)
        return subprocess.Popen(command, **options)

    replaced = SimpleNamespace(PIPE=subprocess.PIPE, Popen=start)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "subprocess", replaced)
        # What checks an export is forked at once, or waits for TensorFlow as this process did.
        patch.setattr("tfp_smvi_cli.export.started_early", contextlib.nullcontext)
        yield


def _early(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if not (name in _LATE or name.startswith(_TRACKERS) or (name, value) == _BACKEND)
    }


class _ForkedWorker:
    """What `engines.processes` uses of the Popen of `engines.worker`."""

    def __init__(
        self,
        task: str,
        *,
        stdin: int,
        stdout: int,
        stderr: IO[bytes],
        env: Mapping[str, str],
        cwd: str | None,
    ) -> None:
        assert (stdin, stdout) == (subprocess.PIPE, subprocess.PIPE)
        (their_stdin, ours), (from_stdout, their_stdout) = os.pipe(), os.pipe()
        self.stdin, self.stdout = os.fdopen(ours, "wb"), os.fdopen(from_stdout, "rb")
        # Connections alone travel to a process of the server with their descriptors.
        streams = (
            Connection(their_stdin, writable=False),
            Connection(their_stdout, readable=False),
            Connection(os.dup(stderr.fileno()), readable=False),
        )
        place = (cwd or os.getcwd(), dict(env))  # noqa: PTH109
        with _lock:
            start_server()
            self._process = CONTEXT.Process(target=_work, args=(task, place, streams))
            self._process.start()
        for stream in streams:
            stream.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """The exit code, or minus the signal that killed it; None while it runs."""
        with _lock:
            return self._process.exitcode

    def wait(self) -> int:
        """Waits for the end; returns the exit code."""
        if self.poll() is None:
            wait([self._process.sentinel])
        code = self.poll()
        assert code is not None
        return code

    def kill(self) -> None:
        """Sends SIGKILL."""
        if self.poll() is None:
            self._process.kill()


def _work(
    task: str, place: tuple[str, dict[str, str]], streams: tuple[Connection, Connection, Connection]
) -> None:
    """Does in the forked process what `python -P -m tfp_smvi.engines.worker TASK` does."""
    assert "tensorflow" in sys.modules, "the fork server has not loaded TensorFlow"
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    os.chdir(place[0])
    os.environ.clear()
    os.environ.update(place[1])
    from tfp_smvi.engines.worker import main

    sys.argv = ["worker", task]
    main()
