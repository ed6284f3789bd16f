"""The folder of versions that TF Serving watches: names, numbers, and folders that appear whole or not at all.

<output>/.lock                                 held by the one process that exports there
<output>/<name>/<version>/                     a published version, an integer; never touched again
<output>/<name>/.<version>.<random>.partial/   one that is being written; TF Serving looks at
integers alone
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import filelock

from tfp_smvi.core.errors import SMVIError

__all__ = ["check_model_name", "check_version", "publish"]

# Longer ones leave too little room in the 255 bytes of a file name.
MAX_NAME_LENGTH = 200
# TF Serving counts in 64 bits.
MAX_VERSION = 2**63 - 1

# Writes a version into the folder given; its number is the other argument.
Writer = Callable[[Path, int], None]


def check_model_name(name: str) -> str:
    """Returns a model's name if it is one.

    Raises:
        SMVIError: it holds other characters, among them those that lead to another folder.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or len(name) > MAX_NAME_LENGTH:
        raise SMVIError(
            f"model_name = {name!r} is not allowed; give letters, digits, '_', '.' and '-', at most "
            f"{MAX_NAME_LENGTH}, with a letter or a digit first."
        )
    return name


def check_version(text: str) -> int:
    """Returns a version's number if the text is one.

    Raises:
        SMVIError: it is not a positive integer, has leading zeros or does not fit into 64 bits.
    """
    if not re.fullmatch(r"[1-9][0-9]{0,18}", text) or int(text) > MAX_VERSION:
        raise SMVIError(
            f"version = {text!r} is not allowed; give a whole number from 1 to {MAX_VERSION} without leading zeros."
        )
    return int(text)


def publish(
    output: Path,
    writers: Mapping[str, Writer],
    version: int | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> dict[str, Path]:
    """Writes a version of one or more models, the same number for all, and publishes none before all are written.

    A version is a folder that is renamed when all in it is on the disk. Only one process exports
    into an output folder at a time; others wait. What a killed export left there is deleted first.

    Args:
        output: the folder of the models, made where there is none.
        writers: writes a version of each model, by the model's name; what it raises is passed on.
        version: the number; the one after the highest that any of the models has unless given.
        note: receives a line when another export has to be waited for.

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
        stack.enter_context(_lock(output, note))
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
def _lock(output: Path, note: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of an output folder, which the operating system lets go when the process ends in any way."""
    output.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(output / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        note(f"Another export into {output} is at work; waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _clear_litter(output: Path) -> None:
    """Deletes what killed exports left; under the lock no other process can still be at it."""
    for folder in output.iterdir():
        if folder.is_dir() and not folder.is_symlink():
            for partial in folder.glob(".*.partial"):
                if (
                    re.fullmatch(r"\.[0-9]+\.[0-9a-f]+\.partial", partial.name)
                    and not partial.is_symlink()
                ):
                    shutil.rmtree(partial)


def _versions(folder: Path) -> set[int]:
    """The numbers in a model's folder, as TF Serving reads them: 007 is 7."""
    if folder.is_symlink():
        raise SMVIError(
            f"{folder} is a link, which may lead anywhere; choose another --model-name or --output."
        )
    if not os.path.lexists(folder):
        return set()
    names = (path.name for path in folder.iterdir())
    return {int(name) for name in names if name.isascii() and name.isdecimal()}


def _require_free(folder: Path, versions: set[int], number: int) -> None:
    if number in versions:
        raise SMVIError(
            f"{folder / str(number)} exists, and a published version is never touched; leave --version away for "
            "the next free one."
        )
    if number > MAX_VERSION:
        raise SMVIError(
            f"{folder} has the highest version that there can be; give a lower one with --version."
        )


@contextlib.contextmanager
def _partial(folder: Path, number: int) -> Iterator[Path]:
    """Makes the folder to write into; unless renamed by then, it is deleted at the end."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        _sync_folder(folder.parent)
    partial = folder / f".{number}.{secrets.token_hex(4)}.partial"
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rename(partial: Path, name: str) -> Path:
    """Publishes a folder, unless one with files in it has that name: then the system refuses."""
    published = partial.rename(partial.with_name(name))
    _sync_folder(published.parent)
    return published


def _sync(folder: Path) -> None:
    """Waits until the disk has a folder with all in it."""
    for path in (*folder.rglob("*"), folder):
        _sync_folder(path)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
