"""Runs commands in processes that are forked with TensorFlow loaded.

Loading it takes a processor 4 seconds, which each process of its own spends again. Python's fork
server loads it once and never runs it: a process in which TensorFlow has run has threads, and its
children deadlock.
"""

import contextlib
import functools
import importlib.metadata
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

__all__ = [
    "CONTEXT",
    "ForkedProcess",
    "fork_children",
    "run_forked",
    "run_program",
    "start_forked",
    "start_server",
]

ROOT = Path(__file__).parents[2]
CONTEXT = multiprocessing.get_context("forkserver")
# What the commands import; the server ignores a module that does not exist.
CONTEXT.set_forkserver_preload(
    [
        *("tensorflow", "tensorflow_probability", "keras", "sklearn.svm", "tensorboard.summary"),
        *("tfp_smvi_cli.main", "tfp_smvi.training.loop", "tfp_smvi.evaluation.pipeline"),
        *("tfp_smvi.classification.measuring", "tfp_smvi.export.exporter"),
        "tests.support.frozen",
    ]
)
_SECONDS = 240.0


class ForkedProcess:
    """A process that calls a function, with the methods of subprocess.Popen that the tests use."""

    def __init__(
        self,
        function: Callable[..., object],
        *arguments: Any,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Starts it.

        Args:
            function: the function, which goes through pickle as its arguments do.
            arguments: its arguments.
            cwd: the working directory, this process's by default.
            env: the environment, this process's by default.
        """
        start_server()
        self._place = tempfile.TemporaryDirectory()
        self.files = tuple(Path(self._place.name) / name for name in ("stdout", "stderr"))
        for file in self.files:
            file.touch()
        place = (str(cwd or Path.cwd()), dict(os.environ if env is None else env), self.files)
        self._process = CONTEXT.Process(target=_call, args=(place, function, arguments))
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the signal that killed it; None while it runs."""
        return self._process.exitcode

    @property
    def pid(self) -> int:
        """Its process ID."""
        assert self._process.pid is not None
        return self._process.pid

    def kill(self) -> None:
        """Sends SIGKILL."""
        self._process.kill()

    def communicate(self, timeout: float = _SECONDS) -> tuple[str, str]:
        """Waits for the end and returns stdout and stderr. A process that is late is killed."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self.kill()
            self._process.join()
            raise subprocess.TimeoutExpired("a forked process", timeout)
        out, err = (file.read_text(encoding="utf-8") for file in self.files)
        self._place.cleanup()
        return out, err

    def wait_for(self, text: str, stream: int) -> None:
        """Waits for a text, such as a line break, on stdout, 1, or stderr, 2, or for the end."""
        while self.returncode is None and text not in self.files[stream - 1].read_text():
            time.sleep(0.005)


def start_forked(
    *arguments: str, before: Callable[[], None] | None = None, **options: Any
) -> ForkedProcess:
    """Starts the command line; `before` is called first, and `options` are the process's."""
    return ForkedProcess(_command, arguments, before, **options)


def run_forked(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Runs the command line to its end, as start_forked does.

    Returns:
        The exit code, or minus the signal that killed it, with stdout and stderr.
    """
    return _end(start_forked(*arguments, **options), arguments)


def run_program(
    command: Sequence[str], *, env: Mapping[str, str], **options: Any
) -> "subprocess.CompletedProcess[str]":
    """Stands for subprocess.run with a Python program that does not know this package.

    Args:
        command: the interpreter, then the file of the program, or -m and the name of its module,
            then its arguments.
        env: the environment.
        options: what subprocess.run receives besides.
    """
    python, *words = command
    assert python == sys.executable
    return _end(ForkedProcess(_program, *(w for w in words if w != "-P"), env=env), command)


def fork_children() -> None:
    """Lets a forked command fork what it starts: the workers of a sweep, a check of an export.

    It is the `before` of start_forked: TensorFlow is loaded and has not run.
    """
    from tfp_smvi_cli import export

    from tfp_smvi.engines import processes
    from tfp_smvi.export import standalone

    export.started_early = contextlib.nullcontext  # type: ignore[assignment]
    processes.subprocess = SimpleNamespace(PIPE=subprocess.PIPE, Popen=_ForkedWorker)  # type: ignore[attr-defined]
    standalone.subprocess = SimpleNamespace(run=_spare_process())  # type: ignore[attr-defined]


class _ForkedWorker(subprocess.Popen[bytes]):
    """Popen of `engines.worker`, which forks this process in place of a new interpreter."""

    started: ClassVar[list["_ForkedWorker"]] = []

    def _execute_child(self, args: Any, *others: Any) -> None:
        # Those of CPython 3.11 to 3.14.
        env, (stdin, to_stdin, from_stdout, stdout, from_stderr, stderr) = others[5], others[9:15]
        self._child_created = False
        self.pid = os.fork()
        if self.pid == 0:
            for descriptor, number in ((stdin, 0), (stdout, 1), (stderr, 2)):
                os.dup2(descriptor, number)
            os.close(to_stdin)
            for other in _ForkedWorker.started:  # its stdin must have no other end than the sweep's
                if other.stdin is not None and not other.stdin.closed:
                    os.close(other.stdin.fileno())
            os.environ.update(env)
            _exit_after(lambda: _worker(args[-1]))
        self._child_created = True
        self._close_pipe_fds(stdin, to_stdin, from_stdout, stdout, from_stderr, stderr)
        _ForkedWorker.started.append(self)


def _spare_process() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Forks a process that never runs TensorFlow; the function returned has it fork programs."""
    place = Path(tempfile.mkdtemp())
    files = (place / "stdout", place / "stderr")
    orders, codes = (multiprocessing.Pipe(duplex=False) for _ in range(2))
    if os.fork() == 0:
        orders[1].close()
        try:
            while True:
                words, environment = orders[0].recv()
                child = os.fork()
                if child == 0:
                    call = (str(Path.cwd()), environment, files), _program, words
                    _exit_after(functools.partial(_call, *call))
                codes[1].send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        except EOFError:  # its parent has ended
            os._exit(0)
    orders[0].close()
    codes[1].close()

    def run(
        command: Sequence[str], env: Mapping[str, str], **options: Any
    ) -> "subprocess.CompletedProcess[str]":
        for file in files:
            file.write_bytes(b"")
        orders[1].send(([w for w in command[1:] if w != "-P"], dict(env)))
        code = codes[0].recv()
        out, err = (file.read_text(encoding="utf-8") for file in files)
        return subprocess.CompletedProcess(command, code, out, err)

    return run


def _worker(task: str) -> None:
    from tfp_smvi.engines.worker import main

    sys.argv = ["worker", task]
    main()


def _exit_after(function: Callable[[], object]) -> None:
    """Ends this process as Python does after the function."""
    code = 1
    try:
        function()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end(process: ForkedProcess, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    out, err = process.communicate()
    assert process.returncode is not None
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def start_server() -> None:
    """Starts the server, if it does not run, without a stderr: TensorFlow is not quiet there.

    It finds modules in its working directory, and elsewhere may be another package `tests`.
    """
    with contextlib.ExitStack() as stack:
        saved = os.dup(2)
        stack.callback(os.close, saved)
        stack.callback(os.dup2, saved, 2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, nowhere)
        os.dup2(nowhere, 2)
        stack.enter_context(contextlib.chdir(ROOT))
        forkserver.ensure_running()


def _call(
    place: tuple[str, dict[str, str], tuple[Path, Path]],
    function: Callable[..., object],
    arguments: tuple[Any, ...],
) -> None:
    """Calls the function in the forked process."""
    cwd, environment, files = place
    for number, file in enumerate(files, 1):
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    assert "tensorflow" in sys.modules, "the fork server has not loaded TensorFlow"
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    function(*arguments)


def _command(arguments: tuple[str, ...], before: Callable[[], None] | None) -> None:
    sys.argv = ["tfp-smvi", *arguments]
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="tfp-smvi")
    main = entry.load()
    if before is not None:
        before()
    main(list(arguments))


def _program(*words: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tfp_smvi"]:
        del sys.modules[name]
    if words[0] == "-m":
        sys.argv = [*words[1:]]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [*words]
        runpy.run_path(words[0], run_name="__main__")
