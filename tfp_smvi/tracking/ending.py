"""How a block that is tracked has ended."""

import contextlib
from collections.abc import Callable, Iterator

from tfp_smvi.tracking.base import Status

__all__ = ["ending"]


@contextlib.contextmanager
def ending(end: Callable[[Status], None], stop: type[Exception]) -> Iterator[None]:
    """Calls `end` with how the block ended, and raises its exception again.

    Args:
        end: is called once.
        stop: the exception of work that was stopped, like a KeyboardInterrupt; all else is a
            failure.
    """
    try:
        yield
    except (stop, KeyboardInterrupt):
        end("stopped")
        raise
    except BaseException:
        end("failed")
        raise
    end("finished")
