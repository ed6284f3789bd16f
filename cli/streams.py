"""The standard streams, which the caller may have closed, or which may not print every text."""

import io
import os
import sys

__all__ = ["prepare_streams"]


def prepare_streams() -> None:
    """Makes the standard streams usable.

    In the place of a stream that the caller has closed comes the null device: otherwise the next
    file that is opened would have its number, and receive what libraries write to it. What goes to
    a closed stderr is lost; stdout still cannot be written, because results would be lost. Stdout
    escapes what its encoding does not have, such as a file's name that is not UTF-8, as stderr
    does.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        mode = "w" if descriptor else "r"
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            os.dup2(nowhere, descriptor)
            if nowhere != descriptor:
                os.close(nowhere)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
