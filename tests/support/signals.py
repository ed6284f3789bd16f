"""Signals at exact moments, in this process or in another one, by an audit hook."""

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import NamedTuple, NoReturn

import pytest

from tests.support import runs
from tests.support.forked import run_forked
from tfp_smvi.core.signals import STOP_SIGNALS

__all__ = [
    "Ended",
    "RunSignalled",
    "SignalAt",
    "audit",
    "default_signals",
    "killed_command",
    "raising_exit",
    "signalled_start",
]

# A process that signals itself while it loads. argv[1:5] are the audit event, a part of its first
# argument, the number of the event that sends the signal, and the signal. The rest are the
# command line's.
_SIGNALLED = """
import importlib.metadata, os, sys
event, part, count, number = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def hook(name, arguments):
    global count
    if name == event and part in str(arguments[0]):
        count -= 1
        if count == 0:
            os.kill(os.getpid(), number)

(script,) = importlib.metadata.entry_points(group="console_scripts", name="tfp-smvi")
main = script.load()
sys.addaudithook(hook)
main(sys.argv[5:])
"""


@dataclass
class _Target:
    """The event that sends a signal, and how many of its kind are still to come."""

    event: str
    part: str
    count: int
    number: int


class _Audit:
    """The audit hook of this process. Python cannot remove a hook, so its target changes."""

    def __init__(self) -> None:
        self.target: _Target | None = None

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        target = self.target
        if target is None or event != target.event or target.part not in str(arguments[0]):
            return
        target.count -= 1
        if target.count == 0:
            self.target = None
            os.kill(os.getpid(), target.number)


# tests/conftest.py installs it.
audit = _Audit()


class SignalAt:
    """Sends this process a signal at the count-th audit event whose first argument holds `part`."""

    def __call__(self, event: str, part: str, count: int, number: int) -> None:
        """Sets the event. The one before must have come."""
        assert audit.target is None, f"{audit.target} has not come"
        audit.target = _Target(event, part, count, number)

    def close(self) -> None:
        """Checks that the signal was sent."""
        target, audit.target = audit.target, None
        assert target is None, f"{target} has not come"


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class RunSignalled:
    """Runs the command line with a signal at an audit event; SIGKILL in another process."""

    def __init__(self, signal_at: SignalAt, capsys: pytest.CaptureFixture[str]) -> None:
        self._signal_at, self._capsys = signal_at, capsys

    def __call__(self, event: str, part: str, count: int, number: int, *arguments: str) -> Ended:
        """Runs it with the signal at the count-th event whose first argument holds `part`."""
        if number == signal.SIGKILL:
            process = killed_command(event, part, count, *arguments)
            return Ended(process.returncode, process.stdout, process.stderr)
        self._capsys.readouterr()
        self._signal_at(event, part, count, number)
        code = runs.call(*arguments)
        return Ended(code, *self._capsys.readouterr())


def default_signals() -> Iterator[None]:
    """Gives the stop signals Python's handlers, even if they were ignored at the start.

    A shell script starts `make test &` with SIGINT ignored, and so do some schedulers; nohup
    ignores SIGHUP. The processes that the tests start inherit the default.
    """
    defaults = (signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL)
    previous = [signal.signal(*pair) for pair in zip(STOP_SIGNALS, defaults, strict=True)]
    yield
    for number, handler in zip(STOP_SIGNALS, previous, strict=True):
        signal.signal(number, handler)


def refuse_signals() -> Iterator[None]:
    """Fails a test instead of ending pytest if a signal comes when no command handles it."""

    def refuse(number: int, frame: FrameType | None) -> NoReturn:
        raise AssertionError(f"{signal.Signals(number).name} came when no command handled it")

    previous = [signal.signal(number, refuse) for number in STOP_SIGNALS]
    yield
    for number, handler in zip(STOP_SIGNALS, previous, strict=True):
        signal.signal(number, handler)


def raising_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes os._exit raise SystemExit, so that a command that ends its process ends only itself."""

    def leave(code: int) -> NoReturn:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)


def killed_command(
    event: str, part: str, count: int, *arguments: str
) -> "subprocess.CompletedProcess[str]":
    """Runs the command line in another process that kills itself at an event as in SignalAt."""
    before = functools.partial(_kill_at, event, part, count)
    return run_forked(*arguments, before=before)


def _kill_at(event: str, part: str, count: int) -> None:
    audit.target = _Target(event, part, count, signal.SIGKILL)
    sys.addaudithook(audit)


def signalled_start(
    event: str, part: str, count: int, number: int, *arguments: str
) -> "subprocess.CompletedProcess[str]":
    """Starts the command line in another process with a signal at an event as in SignalAt.

    The event may be within the loading of TensorFlow.
    """
    line = [sys.executable, "-c", _SIGNALLED, event, part, str(count), str(int(number)), *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False)
