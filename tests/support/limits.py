"""Limits of this process, in place of a full disk."""

import contextlib
import resource
from collections.abc import Iterator

__all__ = ["file_size_limit"]


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Lets no file grow beyond a number of bytes: a larger write fails with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
