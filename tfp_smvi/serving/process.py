"""The process of a server: it ends with the one that started it, and others can tell what it is.

    <models>/_server/.lock          held by the server, and by the process that started it
    <models>/_server/server.json    what runs, while the lock is held
    <models>/_server/server.log     the output of the server

References:
    [1] prctl(2), PR_SET_PDEATHSIG.
"""

import contextlib
import datetime
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tfp_smvi.core.errors import SMVIError, explain_write_errors
from tfp_smvi.core.files import create_new
from tfp_smvi.core.records import Record
from tfp_smvi.core.signals import is_running
from tfp_smvi.serving.docker import ANSWER_SECONDS, docker
from tfp_smvi.serving.plan import LOG, ServerPlan
from tfp_smvi.storage.atomic import write_json
from tfp_smvi.storage.json_files import read_json
from tfp_smvi.storage.locks import hold_shared

__all__ = ["Running", "find_running", "holding", "running"]

_LOCK, _RECORD = ".lock", "server.json"
# Seconds that the server gets to end by itself.
GRACE = 10

# Becomes the server. argv[1:3] are the process that must live, and the signal that comes when its
# thread that started this one has ended [1]. What Python itself ignores, the server does not.
_END_WITH_PARENT = """
import ctypes, os, signal, sys
parent, number = map(int, sys.argv[1:3])
ctypes.CDLL(None).prctl(1, number, 0, 0, 0)
if os.getppid() != parent:
    sys.exit(1)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
try:
    os.execvp(sys.argv[3], sys.argv[3:])
except OSError as error:
    sys.exit(f"cannot start {sys.argv[3]} ({error.strerror})")
"""


@dataclass(frozen=True)
class Running(Record):
    """A server that runs.

    Attributes:
        pid: the number of its process; with Docker, of Docker's client.
        started_by: the number of the process that started it, and ends it at a signal.
        models: the names of the models.
        host: the address that it listens on.
        grpc_port: the port of gRPC.
        rest_port: the port of REST.
        container: the name of its container; None without Docker.
        since: when it was started, ISO 8601.
    """

    pid: int
    started_by: int
    models: tuple[str, ...]
    host: str
    grpc_port: int
    rest_port: int
    container: str | None
    since: str

    def __str__(self) -> str:
        """Such as "process 17, which serves mnist on 127.0.0.1, ports 8500 and 8501, since ..."."""
        return (
            f"process {self.pid}, which serves {', '.join(self.models)} on {self.host}, ports "
            f"{self.grpc_port} and {self.rest_port}, since {self.since}"
        )

    @property
    def stop_command(self) -> str:
        """The command that stops it."""
        return f"kill {self.started_by if is_running(self.started_by) else self.pid}"


def find_running(folder: Path) -> Running | None:
    """Reads what runs with the files of a folder; None if it cannot be read."""
    try:
        return Running.from_json(read_json(folder / _RECORD))
    except (OSError, ValueError, SMVIError):
        return None


@contextlib.contextmanager
def holding(plan: ServerPlan) -> Iterator[int]:
    """Holds the folder of the server's files, which a server reads again while it runs.

    Yields:
        The descriptor of the lock. The server inherits it, and holds the lock as long as it runs.

    Raises:
        SMVIError: a server runs with these files, or they cannot be written.
    """
    if plan.folder.is_symlink():
        raise SMVIError(
            f"{plan.folder} is a link, which may lead anywhere", remedy="delete it, and try again"
        )
    with explain_write_errors(f"to {plan.folder}", "give write permission"):
        plan.folder.mkdir(exist_ok=True)
        lock = hold_shared(plan.folder / _LOCK)
    if lock is None:
        server = find_running(plan.folder)
        raise SMVIError(
            f"is served by {server or 'another process'}",
            field="models",
            value=plan.config.models,
            remedy=f"stop it with: {server.stop_command}" if server else "wait for it",
        )
    try:
        yield lock
    finally:
        os.close(lock)


@contextlib.contextmanager
def running(plan: ServerPlan, lock: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Starts the server, and stops it at the end.

    Raises:
        SMVIError: it cannot be started.
    """
    with explain_write_errors(f"to {plan.folder}", "give write permission"):
        log = create_new(plan.folder / LOG)
    with log:
        try:
            process = subprocess.Popen(
                _ending_with_this_process(plan),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock],
                # Ctrl-C in the terminal must reach this process only, which then stops the server.
                start_new_session=True,
            )
        except OSError as error:
            raise SMVIError(
                f"cannot start {plan.command[0]} ({error.strerror})", remedy="install it again"
            ) from error
    try:
        _record(plan, process.pid)
        yield process
    finally:
        _stop(plan, process)
        (plan.folder / _RECORD).unlink(missing_ok=True)


def _ending_with_this_process(plan: ServerPlan) -> tuple[str, ...]:
    """The command whose process ends with this one, on Linux, even if this one is killed.

    The server has nothing to save. The client of Docker hands SIGTERM on to the container.
    """
    if sys.platform != "linux":
        return plan.command
    number = signal.SIGTERM if plan.container else signal.SIGKILL
    python = (sys.executable, "-I", "-S", "-c", _END_WITH_PARENT)
    return (*python, str(os.getpid()), str(int(number)), *plan.command)


def _record(plan: ServerPlan, pid: int) -> None:
    config, now = plan.config, datetime.datetime.now(datetime.UTC)
    server = Running(
        pid=pid,
        started_by=os.getpid(),
        models=plan.models,
        host=config.host,
        grpc_port=config.grpc_port,
        rest_port=config.rest_port,
        container=plan.container,
        since=now.isoformat(timespec="seconds"),
    )
    with explain_write_errors(f"to {plan.folder}", "give write permission"):
        write_json(plan.folder / _RECORD, server)


def _stop(plan: ServerPlan, process: "subprocess.Popen[bytes]") -> None:
    """Asks the server to end, and kills it if it does not."""
    try:
        if process.poll() is None:
            if plan.container:
                seconds = GRACE + ANSWER_SECONDS
                docker("stop", "--time", str(GRACE), plan.container, timeout=seconds)
            else:
                process.terminate()
            process.wait(GRACE + 5)
    except BaseException as error:  # it does not end, or a second signal came
        if plan.container:
            docker("rm", "--force", plan.container)
        process.kill()
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
