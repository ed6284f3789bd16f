"""The processes of a sweep: some at once, what they say in one queue, and their end in order."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

__all__ = ["Event", "Jobs", "describe_exit"]

LOG = "sweep.log"


class Event(NamedTuple):
    """Something that happened.

    Attributes:
        run: the name of the run that it happened to; "" for a signal to this process.
        values: what a process of `sweep_stage` said; or {"event": "exit", "code": its exit code},
            the last of a run; or {"event": "signal", "number": the signal's}.
    """

    run: str
    values: Mapping[str, Any]


class Jobs:
    """Processes of `sweep_stage`; those that still run on leaving the context save and end.

    Args:
        jobs: how many there will be at once.
    """

    def __init__(self, jobs: int) -> None:
        """Starts none."""
        self._jobs = jobs
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
        """The number of processes whose exit was not heard of yet."""
        return len(self._processes)

    @property
    def full(self) -> bool:
        """Whether as many run as may."""
        return len(self) >= self._jobs

    def start(self, run: str, run_dir: Path, order: Mapping[str, Any]) -> None:
        """Starts a process, whose stderr goes to sweep.log in the run directory, which is made.

        Raises:
            OSError: the directory or the file cannot be written, or no process can be started.
        """
        run_dir.mkdir(parents=True, exist_ok=True)
        # -P: a file in the working directory must not stand in for a module of the same name.
        command = [sys.executable, "-P", "-m", "tfp_smvi.sweeps.stage", json.dumps(order)]
        # Several share a GPU's memory where none takes all of it.
        environment = os.environ | ({"TF_FORCE_GPU_ALLOW_GROWTH": "true"} if self._jobs > 1 else {})
        with (run_dir / LOG).open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment
            )
        self._processes[run] = process
        threading.Thread(target=self._listen, args=(run, process), daemon=True).start()

    def next_event(self) -> Event:
        """Waits for something to happen."""
        event = self._events.get()
        if event.values["event"] == "exit":
            stdin = self._processes.pop(event.run).stdin
            assert stdin is not None
            stdin.close()
        return event

    def tell(self, event: Event) -> None:
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

    def _listen(self, run: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if line.endswith(b"\n"):  # not where the process was killed within a line
                    self.tell(Event(run, json.loads(line)))
        self.tell(Event(run, {"event": "exit", "code": process.wait()}))


def describe_exit(code: int) -> str:
    """Says in words how a process ended that gave no reason itself."""
    if code == -signal.SIGKILL:
        return "killed by SIGKILL; if you did not do it, memory ran out: take fewer --jobs or smaller batches."
    if code < 0:
        return f"killed by {signal.Signals(-code).name} (see {LOG})"
    if code == 128 + signal.SIGTERM:
        return "stopped by SIGTERM"
    return f"ended with exit code {code} (see {LOG})"
