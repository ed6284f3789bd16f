"""Clusters of Dask on the loopback interface: a scheduler and workers, each a real process."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from distributed import Client

__all__ = ["LoopbackCluster", "wait_until"]

SETTLED_SECONDS = 2.0
_SECONDS = 60.0


class LoopbackCluster:
    """A scheduler and its workers, whose processes end with the context.

    Args:
        folder: for the logs and the scheduler's file.
        path: folders to import modules from, in the workers and the processes of their tasks.
    """

    def __init__(self, folder: Path, path: Sequence[Path] = ()) -> None:
        """Starts the scheduler."""
        self.folder = folder
        self.file = folder / "scheduler.json"
        self._path = ":".join(map(str, path))
        self._processes: list[subprocess.Popen[bytes]] = []
        self.start_scheduler()

    def __enter__(self) -> Self:
        """Does nothing."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends all processes."""
        self._client.close()
        for process in self._processes:
            end(process)

    @property
    def address(self) -> str:
        """The scheduler's address."""
        return str(json.loads(self.file.read_text())["address"])

    def start_scheduler(self) -> None:
        """Starts the scheduler, or another one in the place of one that has ended."""
        self.file.unlink(missing_ok=True)
        options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        file = ("--scheduler-file", str(self.file))
        self.scheduler = self._start("dask_scheduler", [*options, *file], {})
        wait_until(self.file.exists)
        self._client = Client(self.address, set_as_default=False)

    def num_workers(self) -> int:
        """How many workers the scheduler knows."""
        return len(self._client.scheduler_info()["workers"])

    def start_worker(
        self,
        *options: str,
        nanny: bool = False,
        before: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Starts a worker of one thread and waits until the scheduler knows it.

        Args:
            options: more options of `dask worker`.
            nanny: whether the process is a nanny, which starts the worker.
            before: words before the command.
            environment: more variables.
        """
        count = self.num_workers()
        words = [self.address, "--nthreads", "1", "--no-dashboard", *options]
        words += [] if nanny else ["--no-nanny"]
        process = self._start("dask_worker", words, environment or {}, before)
        wait_until(lambda: self.num_workers() > count)
        return process

    def stop_in_a_task(self, worker: subprocess.Popen[bytes]) -> int:
        """Stops the process of a worker's task by SIGSTOP, and waits until a task has begun there.

        A process that has just ended a task is given the next one, which stays in its middle; the
        events of both may still be on their way, so that the last one must be so for a while.

        Returns:
            The process ID. It needs a SIGCONT after the death of the worker to see it.
        """
        (process,) = task_processes(worker.pid)
        os.kill(process, signal.SIGSTOP)
        wait_until(self._is_in_a_task)
        return process

    def _is_in_a_task(self) -> bool:
        """Whether no event comes, and the last one was not the end of a task."""
        before = self._events()
        time.sleep(SETTLED_SECONDS)
        return before == self._events() != [] and json.loads(max(before)[1])["kind"] != "exit"

    def _events(self) -> list[tuple[float, str]]:
        """The events that engines got."""
        topics = self._client.get_events()
        return [e for topic in topics if topic.startswith("tfp-smvi-") for e in topics[topic]]

    @contextlib.contextmanager
    def workers(self, count: int, *options: str) -> Iterator[list[subprocess.Popen[bytes]]]:
        """Workers within the block."""
        processes = [self.start_worker(*options) for _ in range(count)]
        try:
            yield processes
        finally:
            for process in processes:
                end(process)
            self.wait_for_none()

    def wait_for_none(self) -> None:
        """Waits until the scheduler knows of no worker."""
        wait_until(lambda: self.num_workers() == 0)

    def _start(
        self,
        module: str,
        options: Sequence[str],
        environment: Mapping[str, str],
        before: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        paths = [environment.get("PYTHONPATH"), self._path, os.environ.get("PYTHONPATH")]
        path = ":".join(text for text in paths if text)
        command = [*before, sys.executable, "-m", f"distributed.cli.{module}", *options]
        with (self.folder / f"{module}-{len(self._processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | environment | {"PYTHONPATH": path},
            )
        self._processes.append(process)
        return process


def task_processes(worker: int) -> list[int]:
    """The processes of the tasks of a worker, by its process ID."""
    files = Path(f"/proc/{worker}/task").glob("*/children")
    children = [int(word) for file in files for word in file.read_text().split()]
    return [c for c in children if b"tfp_smvi.engines" in Path(f"/proc/{c}/cmdline").read_bytes()]


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process in order, or at once if it takes long."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def wait_until(condition: Callable[[], object], seconds: float = _SECONDS) -> None:
    """Waits until a condition holds; it must within a minute."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.1)
