"""The engine that runs each task in a separate process, several at once."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tfp_smvi.core.files import create_new
from tfp_smvi.engines.base import Event, Task
from tfp_smvi.engines.worker import DONE

__all__ = ["Processes", "describe_exit"]


class Processes:
    """Runs tasks in processes of `engines.worker`; they save and end when the context ends.

    Args:
        count: how many tasks to run at once.
        environment: variables of the processes, beside those of this one.
        folder: their working directory; None for that of this process.
    """

    def __init__(
        self,
        count: int,
        *,
        environment: Mapping[str, str] | None = None,
        folder: str | None = None,
    ) -> None:
        """Starts none."""
        self._count, self._environment, self._folder = count, dict(environment or {}), folder
        if count > 1:  # several share a GPU's memory only if none takes all of it
            self._environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._idle: list[subprocess.Popen[bytes]] = []
        # The task of each process that has one. Threads that listen take it out at its end.
        self._names: dict[int, str] = {}
        # A signal handler may put into it while the same thread waits for it.
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        """Does nothing."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Stops the processes that still run, and waits for them."""
        self.stop()
        for process in (*self._processes.values(), *self._idle):
            process.wait()
        self._processes.clear()
        self._idle.clear()

    def __len__(self) -> int:
        """The number of tasks whose exit was not returned yet."""
        return len(self._processes)

    @property
    def capacity(self) -> int:
        """How many tasks run at once."""
        return self._count

    @property
    def full(self) -> bool:
        """Whether as many run as may."""
        return len(self) >= self._count

    def require(self, folder: Path) -> None:
        """Does nothing: the processes see what this one does."""

    def start(self, task: Task) -> None:
        """Starts a process, whose stderr goes to the task's log; the log's folder is made.

        A reusable task goes to a process that a task before has left, if there is one.

        Raises:
            OSError: the log cannot be written, or no process can be started.
        """
        text = json.dumps(task.to_json())
        if task.reusable and self._give(task.name, text):
            return
        path = task.log_path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        # -P: a file in the working directory must not replace a module of the same name.
        command = [sys.executable, "-P", "-m", "tfp_smvi.engines.worker", text]
        with Path(os.devnull).open("wb") if path is None else create_new(path) as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | self._environment,
                cwd=self._folder,
            )
        self._processes[task.name], self._names[process.pid] = process, task.name
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()

    def next_event(self) -> Event:
        """Waits for the next event."""
        event = self._events.get()
        if event.kind == "exit":
            process = self._processes.pop(event.task)
            assert process.stdin is not None
            if event.values["code"] == 0 and process.poll() is None:
                self._idle.append(process)
            else:
                process.stdin.close()
        return event

    def put(self, event: Event) -> None:
        """Puts an event into the queue; may be called from a signal handler."""
        self._events.put(event)

    def stop(self) -> None:
        """Lets all processes save and end; their exits are events."""
        for process in (*self._processes.values(), *self._idle):
            assert process.stdin is not None
            process.stdin.close()

    def kill(self) -> None:
        """Ends all processes at once."""
        for process in (*self._processes.values(), *self._idle):
            process.kill()

    def _give(self, name: str, text: str) -> bool:
        """Gives a task to a process that waits for one; returns whether there was one."""
        while self._idle:
            process = self._idle.pop()
            assert process.stdin is not None
            if process.poll() is not None:
                process.stdin.close()
                continue
            self._processes[name], self._names[process.pid] = process, name
            try:
                process.stdin.write(f"{text}\n".encode())
                process.stdin.flush()
                return True
            except OSError:  # it ends
                del self._processes[name]
                self._names.pop(process.pid, None)
                with contextlib.suppress(OSError):
                    process.stdin.close()
        return False

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if not line.endswith(b"\n"):  # a kill may leave a torn line
                    continue
                values = json.loads(line)
                kind = values.pop("event")
                if kind == DONE:
                    self.put(Event(self._names.pop(process.pid), "exit", {"code": 0}))
                elif process.pid in self._names:
                    self.put(Event(self._names[process.pid], kind, values))
        code = process.wait()
        name = self._names.pop(process.pid, None)
        if name is not None:
            self.put(Event(name, "exit", {"code": code}))


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
