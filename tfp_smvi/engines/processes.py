"""The engine that runs each task in a separate process, several at once."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

from tfp_smvi.core.files import create_new
from tfp_smvi.engines.base import Event, Task

__all__ = ["Processes", "describe_exit"]


class Processes:
    """Runs tasks in processes of `engines.worker`; they save and end when the context ends.

    Args:
        count: how many tasks to run at once.
    """

    def __init__(self, count: int) -> None:
        """Starts none."""
        self._count = count
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        # A signal handler may put into it while the same thread waits for it.
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        """Does nothing."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Stops the processes that still run, and waits for them."""
        self.stop()
        for process in self._processes.values():
            process.wait()
        self._processes.clear()

    def __len__(self) -> int:
        """The number of processes whose exit was not returned yet."""
        return len(self._processes)

    @property
    def full(self) -> bool:
        """Whether as many run as may."""
        return len(self) >= self._count

    def start(self, task: Task) -> None:
        """Starts a process, whose stderr goes to the task's log; the log's folder is made.

        Raises:
            OSError: the log cannot be written, or no process can be started.
        """
        path = task.log_path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        # -P: a file in the working directory must not replace a module of the same name.
        command = [
            sys.executable,
            "-P",
            "-m",
            "tfp_smvi.engines.worker",
            json.dumps(task.to_json()),
        ]
        # Several share a GPU's memory only if none takes all of it.
        shared = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"} if self._count > 1 else {}
        with Path(os.devnull).open("wb") if path is None else create_new(path) as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | shared,
            )
        self._processes[task.name] = process
        threading.Thread(target=self._listen, args=(task.name, process), daemon=True).start()

    def next_event(self) -> Event:
        """Waits for the next event."""
        event = self._events.get()
        if event.kind == "exit":
            stdin = self._processes.pop(event.task).stdin
            assert stdin is not None
            stdin.close()
        return event

    def put(self, event: Event) -> None:
        """Puts an event into the queue; may be called from a signal handler."""
        self._events.put(event)

    def stop(self) -> None:
        """Lets all processes save and end; their exits are events."""
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()

    def kill(self) -> None:
        """Ends all processes at once."""
        for process in self._processes.values():
            process.kill()

    def _listen(self, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if line.endswith(b"\n"):  # a kill may leave a torn line
                    values = json.loads(line)
                    self.put(Event(name, values.pop("event"), values))
        self.put(Event(name, "exit", {"code": process.wait()}))


def describe_exit(code: int, log: str) -> str:
    """Says in words how a process ended that gave no reason itself.

    Args:
        code: its exit code, negative for a signal.
        log: the name of its log.
    """
    if code == -signal.SIGKILL:
        return (
            "killed by SIGKILL; unless you did it, memory ran out: run fewer jobs at once, or take "
            "smaller batches."
        )
    if code < 0:
        return f"killed by {signal.Signals(-code).name} (see {log})"
    if code == 128 + signal.SIGTERM:
        return "stopped by SIGTERM"
    return f"ended with exit code {code} (see {log})"
