"""Sending in the background, so that a tracker that is down or slow stops nothing."""

import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue

from tfp_smvi.core.errors import SMVIError, plain_reason

__all__ = ["Sender"]

# Between two attempts: after one that succeeded, and after one that failed.
PAUSE_SECONDS = 2.0
RETRY_SECONDS = 15.0
# How long the end of a command waits for what is left to be sent, and that of one that a signal
# stops: who sent it may not wait for long.
CLOSE_SECONDS, STOP_SECONDS = 120.0, 20.0


class Sender:
    """Calls a function in a thread of its own whenever there is something new to send.

    Of failures the first one alone is reported. What failed is tried again, when there is more to
    send or after a while, and at the end.

    Args:
        send: sends what is missing; its argument is whether this is the last time.
        title: the name of the tracker.
        place: the directory that keeps what is not sent.
        warn: is called in the thread of the caller of `report` and `close`, as is `note`.
        note: receives what is worth a line.
    """

    def __init__(
        self,
        send: Callable[[bool], None],
        title: str,
        place: str,
        warn: Callable[[str], None],
        note: Callable[[str], None],
    ) -> None:
        """Starts nothing yet."""
        self._send, self._title, self._place = send, title, place
        self._warn, self._note = warn, note
        self._messages: SimpleQueue[tuple[Callable[[str], None], str]] = SimpleQueue()
        self._noted: set[str] = set()
        self._has_warned, self._failed = False, False
        self._woken, self._closing = threading.Event(), threading.Event()
        # It does not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=f"{title} sender", daemon=True)

    def wake(self) -> None:
        """There is something to send."""
        self._woken.set()
        if self._thread.ident is None:
            self._thread.start()

    def note(self, message: str) -> None:
        """Keeps a line for the caller's thread, once."""
        if message not in self._noted:
            self._noted.add(message)
            self._messages.put((self._note, message))

    def report(self) -> None:
        """Passes on what the thread had to say, in the caller's thread."""
        for function, message in self._pending():
            function(message)

    def close(self, *, is_stopped: bool = False) -> None:
        """Sends for the last time, waits for it, and says what became of it."""
        self._closing.set()
        self.wake()
        self._thread.join(STOP_SECONDS if is_stopped else CLOSE_SECONDS)
        is_late = self._thread.is_alive()
        self.report()
        if is_late or self._failed:
            self._note(
                f"{self._title} lacks a part of {self._place}, which keeps it: the same command, "
                "or any other with the same tracker, sends it."
            )
        elif self._has_warned:
            self._note(f"{self._title} is back and has everything.")

    def _run(self) -> None:
        while True:
            self._woken.wait(RETRY_SECONDS if self._failed else None)
            self._woken.clear()
            is_last = self._closing.is_set()
            began = time.monotonic()
            try:
                self._send(is_last)
                self._failed = False
            except Exception as error:
                self._fail(error)
            if is_last:
                return
            took = time.monotonic() - began
            pause = RETRY_SECONDS if self._failed else max(PAUSE_SECONDS, 5.0 * took)
            self._closing.wait(pause)

    def _fail(self, error: Exception) -> None:
        self._failed = True
        if self._has_warned:
            return
        self._has_warned = True
        if isinstance(error, SMVIError):
            line = f"{self._title} gets nothing: {error}"
        else:
            line = (
                f"Sending to {self._title} failed ({_root_reason(error)}); the work goes on, and "
                "the rest is sent when that works again, or at the end."
            )
        self._messages.put((self._warn, line))

    def _pending(self) -> Iterator[tuple[Callable[[str], None], str]]:
        while True:
            try:
                yield self._messages.get_nowait()
            except Empty:
                return


def _root_reason(error: BaseException) -> str:
    """The reason behind a chain of exceptions: "Connection refused"."""
    cause = error
    while (before := cause.__cause__ or cause.__context__) is not None:
        cause = before
        if isinstance(cause, OSError) and cause.strerror:
            break
    # One without words of its own says less than the first.
    reason = cause if str(cause) else error
    return plain_reason(reason if isinstance(reason, Exception) else str(reason)).removesuffix(".")
