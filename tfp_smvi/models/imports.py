"""Functions of a user's, imported by their names; never from a run directory.

A run directory may come from somebody else. What it names is looked up on the Python path and in
the current folder, where only this user puts modules, and a folder in the run directory is no place
to look.
"""

import contextlib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfp_smvi.core.errors import SMVIError, plain_reason

__all__ = [
    "RAISED",
    "RESULTS",
    "UserFunction",
    "import_function",
    "reason_of",
    "sha256_of",
]

# What a user's code raises; that of sys.exit is no Exception.
RAISED = (Exception, SystemExit)

# Of the functions that make the networks of a run.
NETWORKS = "(image_shape, config) -> encoder, decoder"


class _Closed(NamedTuple):
    """A folder that nothing is imported from: what it is, and what to do about a module in it."""

    name: str
    remedy: str


RUN = _Closed("run directory", "move the module out of it, after a look at what it does")
RESULTS = _Closed("folder of the results", "give another {output}")


class UserFunction(NamedTuple):
    """A function of a user's.

    Attributes:
        name: "package.module:function".
        function: the function.
        file: the source file that defines it; None if it has none.
        sha256: of that file, in hex; None if there is none.
        run_dir: the run directory that nothing is imported from; None for no such folder.
        signature: what it takes and returns, for messages.
    """

    name: str
    function: Callable[..., Any]
    file: str | None
    sha256: str | None
    run_dir: Path | None
    signature: str = NETWORKS

    def __call__(self, *arguments: Any) -> Any:
        """Calls it; it may import modules beside its own.

        Raises:
            SMVIError: it raised an error.
        """
        try:
            with _search_path(self.run_dir):
                return self.function(*arguments)
        except RAISED as error:
            raise SMVIError(
                f"raises {reason_of(error, self.file)}",
                field="model",
                value=self.name,
                remedy=f"mend the function {self.signature}",
            ) from error


def import_function(
    name: str,
    run_dir: Path | None = None,
    note: Callable[[str], None] = lambda line: None,
    signature: str = NETWORKS,
    closed: _Closed = RUN,
) -> UserFunction:
    """Imports a function, which runs the code of its module.

    Args:
        name: "package.module:function". The module is looked up on the Python path, and then in the
            current folder.
        run_dir: a run directory; nothing is imported from it.
        note: receives one line on what is imported, before it is.
        signature: what the function takes and returns, for messages.
        closed: what run_dir is, for messages.

    Raises:
        SMVIError: there is no such module or function, the module raises an error, or it is in the
            run directory.
    """
    module_name, _, attribute = name.partition(":")
    module = _import(name, module_name, run_dir, note, closed)
    function = getattr(module, attribute, None)
    if not callable(function):
        problem = "is not a function" if function is not None else "does not exist"
        raise SMVIError(
            f"{problem}: {attribute} in {_place(module) or module_name}",
            field="model",
            value=name,
            remedy=f"give a function {signature}",
        )
    file = _source(function) or _place(module)
    return UserFunction(name, function, file, sha256_of(file), run_dir, signature)


def sha256_of(file: str | None) -> str | None:
    """The SHA-256 of a source file, in hex; None if there is none to read."""
    with contextlib.suppress(OSError):
        return None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return None


def reason_of(error: BaseException, file: str | None) -> str:
    """The kind and the reason of an error, and the line of a file that it came through."""
    kind, place = type(error).__name__, ""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            place = f", line {trace.tb_lineno} of {Path(file).name}"
        trace = trace.tb_next
    return f"{kind}{place} ({_reason(error)})"


def _reason(error: BaseException) -> str:
    """The line that says what is wrong; Keras puts the layer before it, and escape codes around."""
    first, *others = [line for line in str(error).splitlines() if line.strip()] or [""]
    if others and first.startswith("Exception encountered when calling"):
        return re.sub(r"\x1b\[\d*m", "", others[0]).strip().removesuffix(".")
    return plain_reason(error).removesuffix(".")


def _import(
    name: str,
    module_name: str,
    run_dir: Path | None,
    note: Callable[[str], None],
    closed: _Closed,
) -> Any:
    """Imports a module, its packages first, after a look at where each of them is."""
    parts = module_name.split(".")
    with _search_path(run_dir) as hidden:
        for number in range(1, len(parts) + 1):
            part = ".".join(parts[:number])
            place = _find(name, part, run_dir, hidden, closed)
            if number == 1:
                note(f"Model: imports {name} ({place})")
            try:
                module = importlib.import_module(part)
            except RAISED as error:
                raise SMVIError(
                    f"cannot be imported: {reason_of(error, place)}",
                    field="model",
                    value=name,
                    remedy="mend the module",
                ) from error
    return module


def _find(
    name: str, module_name: str, run_dir: Path | None, hidden: Sequence[str], closed: _Closed
) -> str:
    """Returns where a module is; its packages are imported already."""
    loaded = sys.modules.get(module_name)
    try:
        spec = importlib.util.find_spec(module_name) if loaded is None else loaded.__spec__
    except (ImportError, ValueError):
        spec = None
    is_hidden = False
    if spec is None and "." not in module_name:
        spec = importlib.machinery.PathFinder.find_spec(module_name, hidden)
        is_hidden = spec is not None
    if spec is None:
        raise SMVIError(
            f"cannot be imported: there is no module {module_name} on the Python path or in "
            f"{Path.cwd()}",
            field="model",
            value=name,
            remedy="run in the folder of the module, or set PYTHONPATH to it",
        )
    places = [spec.origin, *(spec.submodule_search_locations or [])]
    inside = any(place is not None and _is_inside(place, run_dir) for place in places)
    if is_hidden or inside:
        raise SMVIError(
            f"is in the {closed.name} {run_dir}, from which nothing is imported",
            field="model",
            value=name,
            remedy=closed.remedy,
        )
    return str(spec.origin if spec.origin is not None else places[-1])


@contextlib.contextmanager
def _search_path(run_dir: Path | None) -> Iterator[list[str]]:
    """The Python path without folders of the run directory, and the current folder at its end.

    Yields:
        The folders that were left out.
    """
    before = sys.path
    # At the end, where a file random.py hides no module of Python's.
    folders = [*before, str(Path.cwd())]
    sys.path = [folder for folder in folders if not _is_inside(folder, run_dir)]
    importlib.invalidate_caches()
    try:
        yield [folder for folder in folders if folder not in sys.path]
    finally:
        sys.path = before


def _is_inside(place: str, folder: Path | None) -> bool:
    """Whether a path is a folder, or in it, whatever links lead there."""
    if folder is None:
        return False
    return Path(os.path.realpath(place)).is_relative_to(os.path.realpath(folder))


def _source(function: Any) -> str | None:
    with contextlib.suppress(TypeError, OSError):
        return inspect.getsourcefile(inspect.unwrap(function))
    return None


def _place(module: Any) -> str | None:
    return getattr(module, "__file__", None)
