"""Programs of this folder in a fresh process that knows TensorFlow and not this package."""

import os
import signal
import subprocess
import sys
from types import ModuleType

__all__ = ["last_line", "run_standalone"]


def run_standalone(program: ModuleType, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs the file of a module as a program, on the CPU, to its end.

    Args:
        program: the module, which imports nothing of this package.
        arguments: what its command line receives.

    Returns:
        Its exit code, or minus the signal that killed it, with stdout and stderr.
    """
    # The CPU answers: the kernels of a GPU differ, and its memory may be in use.
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run(
        # -P: do not import from the folder of the program, which holds modules of this package.
        [sys.executable, "-P", str(program.__file__), *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=environment,
    )


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
