"""Programs of this folder in a fresh process that knows TensorFlow and not this package."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

__all__ = ["last_line", "run_standalone", "started_early"]

# Processes that wait for their arguments, by the name of the program.
_waiting: dict[str, "subprocess.Popen[str]"] = {}


@contextlib.contextmanager
def started_early(program: ModuleType) -> Iterator[None]:
    """Starts a program before `run_standalone` asks for it, so that it loads TensorFlow meanwhile.

    Without arguments it waits for a JSON list of them at stdin. If nobody has asked for it by the
    end of the context, it is killed.
    """
    with subprocess.Popen(
        _command(program),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=_environment(),
    ) as process:
        _waiting[program.__name__] = process
        try:
            yield
        finally:
            if _waiting.pop(program.__name__, None) is not None:
                process.kill()


def run_standalone(program: ModuleType, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs the file of a module as a program, on the CPU, to its end.

    Args:
        program: the module, which imports nothing of this package.
        arguments: what its command line receives.

    Returns:
        Its exit code, or minus the signal that killed it, with stdout and stderr.
    """
    process = _waiting.pop(program.__name__, None)
    if process is not None:
        out, err = process.communicate(json.dumps(arguments))
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)
    return subprocess.run(
        [*_command(program), *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=_environment(),
    )


def _command(program: ModuleType) -> list[str]:
    # -P: do not import from the folder of the program, which holds modules of this package.
    return [sys.executable, "-P", str(program.__file__)]


def _environment() -> dict[str, str]:
    # The CPU answers: the kernels of a GPU differ, and its memory may be in use.
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


def last_line(process: "subprocess.CompletedProcess[str]", task: str) -> str:
    """Returns one line on why a program failed: its last one, or how it ended.

    Args:
        process: the program, which has failed.
        task: what it was to do, such as "loaded it".
    """
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        return f"the process that {task} was killed by {name}"
    lines = [*process.stderr.splitlines(), *process.stdout.splitlines()]
    return lines[-1] if lines else f"the process that {task} ended with {process.returncode}"
