"""What a Dask worker does with an order of `engines.dask`: it runs a task in another process.

The process has its own TensorFlow and the threads that the order allows, and the worker of Dask
stays small and answers at once. Events go to the engine through the scheduler. The task ends in
order when the engine no longer wants it, when the engine's process has died, and when the worker
closes: its stdin is closed, also by the death of the worker.
"""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask.system import CPU_COUNT
from distributed import Worker, get_worker
from distributed.core import Status

from tfp_smvi.core.errors import plain_reason
from tfp_smvi.core.records import Record
from tfp_smvi.engines.base import Event, Task
from tfp_smvi.engines.processes import Processes

__all__ = ["BEGUN", "LEFT", "Order", "kill_orders", "read_token", "run_order"]

# The events of an order that has begun, and of one that has ended because it was stopped.
BEGUN, LEFT = "begun", "left"
# Between two looks at whether the order is still wanted.
WATCH_SECONDS = 0.5
# How long a process waits for another reusable task.
IDLE_SECONDS = 20.0
# The variables that TensorFlow and NumPy read their numbers of threads from.
_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Order(Record):
    """A task on its way to a worker.

    Attributes:
        task: the task.
        topic: the topic of Dask's events that the engine reads.
        attempt: the number of this attempt, which the events carry.
        slots: how many tasks run at once on the worker's host.
        threads: the CPU threads of the task; None divides the host's cores between its slots.
        folder: the working directory of the engine, taken if the host has it.
    """

    task: Task
    topic: str
    attempt: int
    slots: int
    threads: int | None
    folder: str


# What works now and what waits for a reusable task, by topic. Threads share them.
_working: dict[str, set[Processes]] = {}
_idle: dict[str, list[Processes]] = {}
_lock = threading.Lock()


def run_order(text: str) -> None:
    """Runs the task of an order, given as JSON, to its end; results are in the task's files."""
    order = Order.from_json(json.loads(text))
    worker = get_worker()
    say = _Speaker(worker, order)
    say(BEGUN)
    stopped = threading.Event()
    with _processes_for(order, stopped) as processes:
        try:
            processes.start(order.task)
        except OSError as error:
            say("failed", error=f"no process can be started ({plain_reason(error)})")
            say("exit", code=1)
            return
        with _watching(worker, processes, stopped):
            while len(processes):
                event = processes.next_event()
                if event.kind == "exit" and stopped.is_set():
                    say(LEFT, **event.values)
                elif event.task:
                    say(event.kind, **event.values)
                elif event.kind == "kill":
                    stopped.set()
                    processes.kill()
                else:
                    processes.stop()


def kill_orders(topic: str) -> None:
    """Ends the tasks of an engine on this worker at once."""
    with _lock:
        for processes in _working.get(topic, ()):
            processes.put(Event("", "kill", {}))


def read_token(path: str) -> dict[str, object]:
    """Reads a file for an engine that asks whether this worker sees its folder.

    Returns:
        The name of the "host", and the "text" of the file or the "error".
    """
    host = socket.gethostname()
    try:
        return {"host": host, "text": Path(path).read_text(encoding="utf-8")}
    except (OSError, ValueError) as error:
        return {"host": host, "error": plain_reason(error)}


class _Speaker:
    """Sends events of an order to its engine."""

    def __init__(self, worker: Worker, order: Order) -> None:
        self._worker, self._order, self._host = worker, order, socket.gethostname()

    def __call__(self, kind: str, **values: object) -> None:
        message = {
            "task": self._order.task.name,
            "attempt": self._order.attempt,
            "host": self._host,
            "kind": kind,
            "values": values,
        }
        self._worker.log_event(self._order.topic, json.dumps(message))


@contextlib.contextmanager
def _processes_for(order: Order, stopped: threading.Event) -> Iterator[Processes]:
    """Finds processes for an order; if its task is reusable and not stopped, they may stay."""
    with _lock:
        waiting = _idle.get(order.topic)
        processes = waiting.pop() if waiting and order.task.reusable else _make_processes(order)
        _working.setdefault(order.topic, set()).add(processes)
    try:
        yield processes
    finally:
        stay = order.task.reusable and not stopped.is_set()
        with _lock:
            _working[order.topic].discard(processes)
            if not _working[order.topic]:
                del _working[order.topic]
            if stay:
                _idle.setdefault(order.topic, []).append(processes)
        if stay:
            timer = threading.Timer(IDLE_SECONDS, _close_idle, (order.topic, processes))
            timer.daemon = True
            timer.start()
        else:
            processes.__exit__()


def _close_idle(topic: str, processes: Processes) -> None:
    with _lock:
        if processes not in _idle.get(topic, ()):
            return
        _idle[topic].remove(processes)
        if not _idle[topic]:
            del _idle[topic]
    processes.__exit__()


def _make_processes(order: Order) -> Processes:
    threads = order.threads
    if threads is None and not any(name in os.environ for name in _THREADS):
        threads = max(1, CPU_COUNT // order.slots)
    environment = dict.fromkeys(_THREADS, str(threads)) if threads is not None else {}
    if order.slots > 1:  # several share a GPU's memory only if none takes all of it
        environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    folder = order.folder if Path(order.folder).is_dir() else None
    return Processes(1, environment=environment, folder=folder)


@contextlib.contextmanager
def _watching(worker: Worker, processes: Processes, stopped: threading.Event) -> Iterator[None]:
    """Stops the processes, within the block, when the engine no longer wants their task."""
    key, ended = worker.get_current_task(), threading.Event()

    def watch() -> None:
        while not ended.wait(WATCH_SECONDS):
            if not _is_wanted(worker, key):
                stopped.set()
                processes.put(Event("", "stop", {}))
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _is_wanted(worker: Worker, key: Any) -> bool:
    """Whether a client waits for a task that this worker executes.

    The scheduler takes the task back when the client cancels it or is gone.
    """
    state = worker.state.tasks.get(key)
    wanted = state is not None and state.state in ("executing", "long-running")
    return wanted and worker.status in (Status.running, Status.paused)
