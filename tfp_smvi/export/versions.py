"""The folder of versions that TF Serving watches: names, numbers, and atomic publication.

<output>/.lock                                 held by the one process that exports there
<output>/<name>/<version>/                     a published version; never changed again
<output>/<name>/.<version>.<random>.partial/   one that is being written; TF Serving only reads
                                               folders whose name is an integer
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tfp_smvi.core.errors import RUN_AGAIN, SMVIError
from tfp_smvi.storage.atomic import sync_folder
from tfp_smvi.storage.locks import hold_folder

__all__ = ["NOT_PUBLISHED", "check_model_name", "check_version", "publish"]

# The remedy if the folder cannot be written.
NOT_PUBLISHED = f"nothing was published: {RUN_AGAIN}"

# Longer ones leave too little room in the 255 bytes of a file name.
MAX_NAME_LENGTH = 200
# TF Serving counts in 64 bits.
MAX_VERSION = 2**63 - 1

# Writes a version to a folder, from the folder and the number of the version.
Writer = Callable[[Path, int], None]


def check_model_name(name: str) -> str:
    """Returns the name of a model if it is allowed.

    Raises:
        SMVIError: it has other characters, such as those that lead to another folder.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or len(name) > MAX_NAME_LENGTH:
        raise SMVIError(
            "is not allowed",
            field="model_name",
            value=name,
            remedy=f"give letters, digits, '_', '.' and '-', at most {MAX_NAME_LENGTH}, with a "
            "letter or a digit first",
        )
    return name


def check_version(text: str) -> int:
    """Returns the number of a version from a text.

    Raises:
        SMVIError: it is not a positive integer, has leading zeros or does not fit in 64 bits.
    """
    if not re.fullmatch(r"[1-9][0-9]{0,18}", text) or int(text) > MAX_VERSION:
        raise SMVIError(
            "is not allowed",
            field="version",
            value=text,
            remedy=f"give a whole number from 1 to {MAX_VERSION} without leading zeros",
        )
    return int(text)


def publish(
    output: Path,
    writers: Mapping[str, Writer],
    version: int | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> dict[str, Path]:
    """Writes one version of several models, and publishes it when all models are written.

    A version is a folder that is renamed when its contents are on the disk. Only one process
    exports to an output folder at a time; others wait. Remains of killed exports are deleted first.

    Args:
        output: the folder of the models, made if it does not exist.
        writers: writes a version of each model, by the model's name; its errors are passed on.
        version: the number; None for the one after the highest of all these models.
        note: receives a line if another export has to finish first.

    Returns:
        The folder of the new version, by the model's name.

    Raises:
        SMVIError: a name or the version is not allowed, a name leads elsewhere, or the version
            exists.
        OSError: the folder cannot be written.
    """
    folders = {name: output / check_model_name(name) for name in writers}
    if version is not None:
        version = check_version(str(version))
    with contextlib.ExitStack() as stack:
        stack.enter_context(_exclusively(output, note))
        _clear_litter(output)
        versions = {name: _versions(folder) for name, folder in folders.items()}
        number = (
            max(max(there, default=0) for there in versions.values()) + 1
            if version is None
            else version
        )
        partials = {}
        for name, folder in folders.items():
            _require_free(folder, versions[name], number)
            partials[name] = stack.enter_context(_partial(folder, number))
            writers[name](partials[name], number)
            _sync(partials[name])
        return {name: _rename(partial, str(number)) for name, partial in partials.items()}


@contextlib.contextmanager
def _exclusively(output: Path, note: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of an output folder; waits, with a note, while another process holds it."""
    busy = SMVIError("is in use", field="output", value=str(output))
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold_folder(output, busy=busy, remedy=NOT_PUBLISHED))
        except SMVIError as error:
            if error is not busy:
                raise
            note(f"Another export to {output} is running; waiting for it.")
            stack.enter_context(hold_folder(output, remedy=NOT_PUBLISHED))
        yield


def _clear_litter(output: Path) -> None:
    """Deletes the remains of killed exports; the lock excludes exports that still run."""
    for folder in output.iterdir():
        if folder.is_dir() and not folder.is_symlink():
            for partial in folder.glob(".*.partial"):
                if (
                    re.fullmatch(r"\.[0-9]+\.[0-9a-f]+\.partial", partial.name)
                    and not partial.is_symlink()
                ):
                    shutil.rmtree(partial)


def _versions(folder: Path) -> set[int]:
    """The version numbers of a model, as TF Serving reads them: 007 is 7."""
    if folder.is_symlink():
        raise SMVIError(
            f"{folder} is a link, which may lead anywhere",
            remedy="choose another {model_name} or {output}",
        )
    if not os.path.lexists(folder):
        return set()
    names = (path.name for path in folder.iterdir())
    return {int(name) for name in names if name.isascii() and name.isdecimal()}


def _require_free(folder: Path, versions: set[int], number: int) -> None:
    if number in versions:
        raise SMVIError(
            f"exists already in {folder}, and a published version is never changed",
            field="version",
            value=number,
            remedy="leave {version} out for the next free one",
        )
    if number > MAX_VERSION:
        raise SMVIError(
            f"{folder} has the highest possible version already", remedy="give a lower {version}"
        )


@contextlib.contextmanager
def _partial(folder: Path, number: int) -> Iterator[Path]:
    """Makes the folder to write to, which is deleted at the end unless it was renamed."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        sync_folder(folder.parent)
    partial = folder / f".{number}.{secrets.token_hex(4)}.partial"
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rename(partial: Path, name: str) -> Path:
    """Publishes a folder; the system refuses if one with files in it has that name."""
    published = partial.rename(partial.with_name(name))
    sync_folder(published.parent)
    return published


def _sync(folder: Path) -> None:
    """Waits until a folder and its contents are on the disk."""
    for path in (*folder.rglob("*"), folder):
        sync_folder(path)
