"""Engines run the same tasks to the same end, in this process and in others."""

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.signals import is_running
from tfp_smvi.engines.base import Context, Event, Task, run_all
from tfp_smvi.engines.local import ThisProcess
from tfp_smvi.engines.processes import Processes, describe_exit

pytestmark = pytest.mark.usefixtures("new_processes")


def write(context: Context, path: str, text: str) -> None:
    """Writes a file: the function of a task."""
    context.emit("begin", stage=text)
    Path(path).write_text(text)


def write_process(context: Context, path: str, text: str) -> None:
    """Writes the number of its process."""
    Path(path).write_text(str(os.getpid()))


def fail(context: Context, path: str, text: str) -> None:
    """Fails with an error of the user's."""
    raise SMVIError("is not allowed", field="text", value=text, remedy="give another")


def crash(context: Context, path: str, text: str) -> None:
    """Fails with a defect."""
    raise ZeroDivisionError("a defect\nwith a second line")


def be_in_a_terminal_that_closes(context: Context, path: str, text: str) -> None:
    """Receives what a terminal sends to all of its processes."""
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGHUP)
    write(context, path, text)


def task(function: Callable[..., object], folder: Path, text: str) -> Task:
    """A task of a function of this file, which another process imports by its path."""
    arguments = {"path": str(folder / text), "text": text}
    return Task(text, f"test_engines:{function.__name__}", arguments, str(folder / "task.log"))


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """This file as a module, here and in the processes that are started."""
    folder = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(folder)
    # The tests' helpers, too.
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{Path(__file__).parents[2]}")


def events_of(engine: Any, tasks: list[Task]) -> list[tuple[str, str, dict[str, Any]]]:
    events: list[Event] = []
    run_all(engine, tasks, events.append)
    return sorted((event.task, event.kind, dict(event.values)) for event in events)


def test_a_task_survives_json(tmp_path: Path) -> None:
    one = task(write, tmp_path, "one")
    assert Task.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_both_engines_do_the_same_and_say_the_same(tmp_path: Path) -> None:
    found = []
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        tasks = [task(write, folder, text) for text in ("one", "two", "three")]
        if name == "here":
            found.append(events_of(ThisProcess(), tasks))
        else:
            with Processes(2) as engine:
                found.append(events_of(engine, tasks))
        assert {path.name for path in folder.iterdir()} - {"task.log"} == {"one", "two", "three"}
    assert found[0] == found[1]
    assert ("one", "begin", {"stage": "one"}) in found[0]
    assert ("one", "exit", {"code": 0}) in found[0]


def test_signals_of_the_terminal_are_left_to_the_leading_process(tmp_path: Path) -> None:
    """Which stops the others in order; they must not end before."""
    with Processes(1) as engine:
        events = events_of(engine, [task(be_in_a_terminal_that_closes, tmp_path, "one")])
    assert ("one", "exit", {"code": 0}) in events
    assert (tmp_path / "one").exists()


def test_a_process_stays_for_the_next_reusable_task(tmp_path: Path) -> None:
    """One that has died meanwhile is replaced, and all end with the engine."""

    def run(name: str, *, reusable: bool) -> int:
        one = dataclasses.replace(task(write_process, tmp_path, name), reusable=reusable)
        assert events_of(engine, [one]) == [(name, "exit", {"code": 0})]
        return int((tmp_path / name).read_text())

    with Processes(1) as engine:
        first, second = run("one", reusable=True), run("two", reusable=True)
        assert run("three", reusable=False) != first
        os.kill(second, signal.SIGKILL)
        end = time.monotonic() + 10.0
        while is_running(second) and time.monotonic() < end:
            time.sleep(0.01)
        last = run("four", reusable=True)
    assert (first == second, last != second, is_running(last)) == (True, True, False)


def test_a_log_that_is_a_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "task.log").symlink_to("precious")
    with Processes(1) as engine:
        events_of(engine, [task(write, tmp_path, "one")])
    assert (tmp_path / "precious").read_text() == "precious"


def test_an_error_of_a_task_is_raised_here_and_an_event_there(tmp_path: Path) -> None:
    with pytest.raises(SMVIError) as caught:
        events_of(ThisProcess(), [task(fail, tmp_path, "one")])
    assert caught.value.field == "text"
    with Processes(1) as engine:
        events = events_of(engine, [task(fail, tmp_path, "one"), task(crash, tmp_path, "two")])
    failures = {name: values for name, kind, values in events if kind == "failed"}
    assert failures["one"] == {"error": str(caught.value)}
    assert failures["two"]["error"] == "ZeroDivisionError: a defect (see task.log)"
    assert "Traceback" in (tmp_path / "task.log").read_text()


def test_a_task_runs_in_another_thread_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a signal that waits for the end of a task: Python answers it in the main thread."""
    seen = []
    monkeypatch.setattr(
        Path, "write_text", lambda path, text: seen.append(threading.current_thread())
    )
    events_of(ThisProcess(), [task(write, tmp_path, "one")])
    assert seen[0] is not threading.main_thread()


@pytest.mark.parametrize(
    ("code", "words"),
    [(-9, "SIGKILL"), (-11, "SIGSEGV"), (143, "stopped by SIGTERM"), (3, "exit code 3")],
)
def test_an_exit_without_a_reason_is_described(code: int, words: str) -> None:
    assert words in describe_exit(code, "task.log")
