"""Paths as users write them: with "~", relative, or not possible at all."""

import os
from pathlib import Path

from tfp_smvi.core.errors import SMVIError, plain_reason

__all__ = ["absolute", "expand_home", "require_utf_8"]


def expand_home(path: str | Path, field: str) -> Path:
    """Returns a path with the home directory in place of a leading "~" or "~name".

    Args:
        path: the path.
        field: the argument that it was given for.

    Raises:
        SMVIError: there is no such home directory, or no file can have this name.
    """
    text = os.fspath(path)
    try:
        os.fsencode(text)
        if "\0" in text:
            raise ValueError("it holds a null character")
        return Path(text).expanduser()
    except RuntimeError as error:
        user = text.partition("/")[0]
        whose = "this user" if user == "~" else user[1:]
        raise SMVIError(
            f"cannot be found: {whose} has no home directory",
            field=field,
            value=text,
            remedy=f"give a path that does not begin with {user}",
        ) from error
    except ValueError as error:
        raise SMVIError(
            f"is not a path ({plain_reason(error)})",
            field=field,
            value=text,
            remedy="give the path of a file",
        ) from error


def absolute(path: str | Path, field: str) -> Path:
    """Returns a path from the root, without "~" and links.

    Raises:
        SMVIError: as `expand_home`, or the working directory no longer exists.
    """
    expanded = expand_home(path, field)
    try:
        return Path(
            os.path.realpath(expanded)
        )  # Path.resolve raises RuntimeError at links in a ring
    except OSError as error:
        raise SMVIError(
            f"cannot be found ({plain_reason(error)})",
            field=field,
            value=os.fspath(path),
            remedy="run in a folder that exists, or give a path from the root",
        ) from error


def require_utf_8(path: Path, field: str) -> None:
    """Raises an SMVIError if the name is not UTF-8: TensorFlow takes no SavedModel there."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise SMVIError(
            "is not UTF-8, and TensorFlow keeps models only under such names",
            field=field,
            value=str(path),
            remedy="choose another {" + field + "}",
        ) from error
