"""The process that runs a task: `python -m tfp_smvi.engines.worker TASK`.

TASK is the JSON of a `Task`. Events are written to stdout, a JSON object a line:

    {"event": KIND, ...}                        emitted by the task's function
    {"event": "failed", "error": "one line"}    the function raised an error
    {"event": "done"}                           a reusable task has ended

After a reusable task the process stays, with what it has loaded, and reads the next one from stdin,
a line of JSON.

The process ends in order, with exit code 143, at SIGTERM and when its stdin is closed. The stdin is
also closed when the process at the other end dies in any way.
"""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from types import FrameType

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.engines.base import Task

__all__ = ["DONE", "STOPPED", "main"]

STOPPED = 128 + signal.SIGTERM
DONE = "done"


def main() -> None:
    """Runs the task that the command line holds, and others if it is reusable."""
    # Ctrl-C and the end of a terminal reach all of its processes; the leading one handles them and
    # stops the others.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    signal.signal(signal.SIGTERM, _end_at_once)
    context = _WorkerContext()
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_stdin, args=(context, lines), daemon=True).start()
    task = Task.from_json(json.loads(sys.argv[1]))
    _run(task, context)
    while task.reusable:
        context.emit(DONE)
        task = Task.from_json(json.loads(lines.get()))
        _run(task, context)


def _run(task: Task, context: "_WorkerContext") -> None:
    try:
        task.run(context)
    except SMVIError as error:
        context.emit("failed", error=str(error))
    except Exception as error:  # the other tasks continue after any error
        traceback.print_exc()
        first = (str(error).splitlines() or [""])[0]
        log = task.log_path.name if task.log_path else "its log"
        context.emit("failed", error=f"{type(error).__name__}: {first} (see {log})")


class _WorkerContext:
    """A `tfp_smvi.engines.base.Context` that writes events to what was stdout."""

    def __init__(self) -> None:
        """Keeps stdout for the events, and leads to stderr what libraries print."""
        self._channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.handles_signals = threading.Event()

    def emit(self, kind: str, **values: object) -> None:
        try:
            self._channel.write(json.dumps({"event": kind, **values}) + "\n")
            self._channel.flush()
        except OSError:
            pass  # nobody listens any more, and `_read_stdin` ends this process in order

    @contextlib.contextmanager
    def handling_signals(self) -> Iterator[None]:
        self.handles_signals.set()
        try:
            yield
        finally:
            self.handles_signals.clear()


def _end_at_once(number: int, frame: FrameType | None) -> None:
    # All files are written atomically. An exception could be lost on its way through a library.
    os._exit(STOPPED)


def _read_stdin(context: _WorkerContext, lines: queue.SimpleQueue[bytes]) -> None:
    """Puts the lines of stdin into a queue; sends SIGTERM to this process when it is closed."""
    with os.fdopen(0, "rb", closefd=False) as stdin:
        for line in stdin:
            lines.put(line)
    # A function that handles signals saves at the first one and ends at once at a second, which
    # must not come before its own handler is in place.
    while context.handles_signals.is_set() and signal.getsignal(signal.SIGTERM) is _end_at_once:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
