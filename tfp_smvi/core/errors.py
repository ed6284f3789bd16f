"""The errors that a user can cause and fix."""

import contextlib
import re
from collections.abc import Callable, Iterator

from tfp_smvi.core.text import printable

__all__ = [
    "RUN_AGAIN",
    "NotFoundError",
    "SMVIError",
    "brief",
    "explain_write_errors",
    "name_fields",
    "plain_reason",
    "shorten_words",
]

# The remedy if nothing that was written before is lost.
RUN_AGAIN = "make room or give write permission, and run the same command again"

_NOT_GIVEN = object()
_PLACEHOLDER = re.compile(r"\{([a-z][a-z_]*)\}")


class SMVIError(Exception):
    """A failure that the user can fix, in one line: what was given, what is allowed, what to do.

        <field> = <value> <problem>; <remedy>.        SMVIError("is not allowed", field="lam",
                                                          value=nan, remedy="give a real number")
        <field> <problem>; <remedy>.                  without a value
        <problem>; <remedy>.                          without a field

    The library names fields and arguments as Python does. Whoever shows the error to a user may
    give them other names: the command line renders `lam_warmup_steps` as `--lam-warmup-steps`.

    Args:
        problem: what is wrong. With a field it is the predicate of a sentence about it.
        field: the argument or setting at fault, as it is called in Python.
        value: what was given for it.
        remedy: what to do, an imperative clause. "{run_dir}" in it names another field.
    """

    # AutoGraph passes it on as it is, instead of replacing it by an error of many lines.
    ag_pass_through = True

    def __init__(
        self,
        problem: str,
        *,
        field: str | None = None,
        value: object = _NOT_GIVEN,
        remedy: str | None = None,
    ) -> None:
        """Renders the message with the names that Python uses."""
        self.problem, self.field, self.remedy = problem, field, remedy
        self.value = None if value is _NOT_GIVEN else value
        self._has_value = value is not _NOT_GIVEN
        super().__init__(self.render())

    def render(self, name: Callable[[str], str] = str) -> str:
        """Returns the message.

        Args:
            name: the name to show for a field.
        """
        parts = [name(self.field)] if self.field else []
        if self._has_value:
            parts.append(f"= {_shown(self.value)}")
        sentence = " ".join([*parts, self.problem])
        if self.remedy:
            sentence = f"{sentence}; {name_fields(self.remedy, name)}"
        sentence = printable(sentence)
        # A log or a list of commands on lines of its own stays as it is.
        return sentence if sentence.endswith(".") or "\n" in sentence else f"{sentence}."


class NotFoundError(SMVIError):
    """What the user names does not exist: a file, a run, a sweep, an export or a data set."""


def name_fields(text: str, name: Callable[[str], str] = str) -> str:
    """Replaces each "{field}" in a text by the name to show for that field."""
    return _PLACEHOLDER.sub(lambda match: name(match[1]), text)


def _shown(value: object) -> str:
    """Formats a value as a user types it: a tuple has the form of the command line."""
    return ",".join(map(brief, value)) if isinstance(value, tuple) else brief(value)


def brief(value: object, width: int = 200) -> str:
    """Returns the repr of a value that may be of any size, cut to a width."""
    try:
        text = repr(value)
    except ValueError:  # Python converts no number of more than 4300 digits
        return f"{type(value).__name__} with too many digits to print"
    return text if len(text) <= width else f"{text[: width - 3]}..."


def shorten_words(text: str, width: int = 200) -> str:
    """Cuts the words of a message that are longer than anything that a user means."""
    return re.sub(rf"\S{{{width + 1},}}", lambda match: f"{match[0][: width - 3]}...", text)


@contextlib.contextmanager
def explain_write_errors(what: str, remedy: str) -> Iterator[None]:
    """Turns the operating system's refusal to write into one clear line.

    Args:
        what: what is written, or "to" and where: the words after "cannot write".
        remedy: what is kept and what to do, as in `SMVIError`.

    Raises:
        SMVIError: an OSError was raised.
    """
    try:
        yield
    except OSError as error:
        raise SMVIError(f"cannot write {what} ({plain_reason(error)})", remedy=remedy) from error


def plain_reason(reason: object, width: int = 300) -> str:
    """Returns the line that says what is wrong, without what Python and TensorFlow put around it.

        [Errno 28] No space left on device: 'file'
            ->  No space left on device
        {{function_node ...}} /full/file; No space left on device [Op:WriteFile] name:
            ->  /full/file; No space left on device
        Graph execution error: ... assertion failed: [images are too large:] [3] [[{{node ...}}]]
            ->  images are too large: 3

    Args:
        reason: an exception, of TensorFlow or any other, or its message.
        width: the largest number of characters to return.
    """
    silent = type(reason).__name__ if isinstance(reason, Exception) else "no reason given"
    if isinstance(reason, OSError) and reason.strerror:
        reason = reason.strerror
    elif (
        isinstance(reason, Exception)
        and str(reason)
        in (
            str(reason.args),  # of more than one, such as a message and a place in a text
            *map(repr, reason.args[:1]),  # of a KeyError
        )
    ):
        reason = reason.args[0]
    text, mark, _ = str(reason).partition("[[{{node")
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [silent]
    # The reason is the line before the node that failed, after a trace.
    line = (lines[-1] if mark else lines[0]).removeprefix("assertion failed: ")
    line = re.sub(r"^\{\{function_node .*?\}\} ", "", line.partition(" [Op:")[0])
    if line.startswith("[") and line.endswith("]"):
        line = line[1:-1].replace("] [", " ")
    line = printable(line)
    return line if len(line) <= width else line[: width - 3] + "..."
