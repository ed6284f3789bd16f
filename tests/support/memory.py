"""The memory that a call takes."""

import tracemalloc
from collections.abc import Callable

__all__ = ["peak_memory"]


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
