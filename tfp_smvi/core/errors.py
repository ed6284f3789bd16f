"""The errors that a user can cause and mend."""

import contextlib
import re
from collections.abc import Iterator

__all__ = ["RUN_AGAIN", "SMVIError", "explain_write_errors", "plain_reason"]

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
        raise SMVIError(f"cannot write {what} ({plain_reason(error)}); {advice}") from error


def plain_reason(reason: object, width: int = 300) -> str:
    """Returns the line that says what is wrong, without Python's and TensorFlow's words and brackets around it.

        [Errno 28] No space left on device: 'file'
            ->  No space left on device
        {{function_node ...}} /full/file; No space left on device [Op:WriteFile] name:
            ->  /full/file; No space left on device
        Graph execution error: ... assertion failed: [images are too large:] [3] [[{{node ...}}]]
            ->  images are too large: 3

    Args:
        reason: an exception, of TensorFlow or any other, or its message.
        width: the most characters that are returned.
    """
    silent = type(reason).__name__ if isinstance(reason, Exception) else "no reason given"
    if isinstance(reason, OSError) and reason.strerror:
        reason = reason.strerror
    text, mark, _ = str(reason).partition("[[{{node")
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [silent]
    # The reason stands before the node that failed, with a trace before it.
    line = (lines[-1] if mark else lines[0]).removeprefix("assertion failed: ")
    line = re.sub(r"^\{\{function_node .*?\}\} ", "", line.partition(" [Op:")[0])
    if line.startswith("[") and line.endswith("]"):
        line = line[1:-1].replace("] [", " ")
    return line if len(line) <= width else line[: width - 3] + "..."
