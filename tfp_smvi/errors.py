"""The errors that a user can cause and mend."""

import contextlib
from collections.abc import Iterator

__all__ = ["RUN_AGAIN", "SMVIError", "explain_write_errors"]

# What to do where nothing is lost that was written before.
RUN_AGAIN = "make room or give write permission, and run the same command again."


class SMVIError(Exception):
    """A failure with one clear line for the user: what was given, what is allowed and what to do.

    The command line prints the message without a traceback and exits with code 1.
    """


@contextlib.contextmanager
def explain_write_errors(what: str, advice: str) -> Iterator[None]:
    """Makes one clear line of the operating system's refusal to write.

    Args:
        what: what is written, or "to" and where, as it goes on after "cannot write".
        advice: what is kept and what to do, a sentence that begins small.

    Raises:
        SMVIError: an OSError came.
    """
    try:
        yield
    except OSError as error:
        reason = str(error.strerror or error).partition("\n")[0]
        raise SMVIError(f"cannot write {what} ({reason}); {advice}") from error
