"""The memory that a call takes, and that a process keeps."""

import ctypes
import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path

__all__ = ["kept_megabytes", "peak_memory"]


def peak_memory(call: Callable[[], object]) -> int:
    """Returns the largest number of bytes that Python and NumPy hold at once in a call.

    It is the smaller of two measurements. Python's table of interned strings doubles when it is
    full, by 7.7 MB at 175,000 strings, which TensorFlow and what else the tests load come close to.
    That can fall into one of the two calls and not into both.
    """
    peaks = []
    for _ in range(2):
        tracemalloc.start()
        try:
            call()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    return min(peaks)


def kept_megabytes() -> float:
    """Returns the memory that this process uses, files that it maps apart.

    What was freed goes back to the system first. Without that, the free memory of a process that
    has run many tests changes by tens of megabytes from one call to the next.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon:"))
    return int(line.split()[1]) / 1024
