"""An export for other runtimes: its signatures as ONNX or TFLite files beside the SavedModel.

TF Serving reads saved_model.pb, variables/, assets/ and assets.extra/ of a version, nothing else.
"""

import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tfp_smvi.config import FormatName
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.extras import of_extra
from tfp_smvi.core.records import Record
from tfp_smvi.export import standalone_convert
from tfp_smvi.export.standalone import last_line, run_standalone

__all__ = ["FormatSpec", "add_formats", "check_formats", "require_runtimes"]

# The packages of the extra "onnx" that write such files, and those that run them.
_WRITERS = {"onnx": ("tf2onnx", "onnx")}
_READERS = {"onnx": ("onnxruntime",)}


@dataclass(frozen=True)
class FormatSpec(Record):
    """What an export has in one format for another runtime.

    Attributes:
        files: the file of each signature, from the folder of the version.
        left_out: why a signature has no file, by its name.
    """

    files: Mapping[str, str]
    left_out: Mapping[str, str]


def check_formats(formats: Sequence[str], *, verify: bool) -> tuple[str, ...]:
    """Returns the formats, each once, if they can be written here.

    Args:
        formats: names of formats.
        verify: whether the files are run, too.

    Raises:
        SMVIError: a format is not allowed, or a package is not installed.
    """
    for name in formats:
        if name not in get_args(FormatName):
            raise SMVIError(
                "is not allowed",
                field="formats",
                value=name,
                remedy=f"give one of {', '.join(get_args(FormatName))}",
            )
        _require(_WRITERS.get(name, ()))
        _require(_READERS.get(name, ()) if verify else ())
    return tuple(dict.fromkeys(formats))


def require_runtimes(folder: Path) -> None:
    """Returns if everything is installed that runs the files of a version.

    Raises:
        SMVIError: a package is not installed.
    """
    for name, packages in _READERS.items():
        if (folder / name).is_dir():
            _require(packages)


def _require(packages: Iterable[str]) -> None:
    with of_extra("onnx"):
        for package in packages:
            if importlib.util.find_spec(package) is None:
                raise ModuleNotFoundError(name=package)


def add_formats(folder: Path, formats: Sequence[str]) -> dict[str, FormatSpec]:
    """Writes the signatures of a SavedModel in other formats, beside it.

    Args:
        folder: the folder of the SavedModel.
        formats: the formats.

    Returns:
        The files by format.

    Raises:
        SMVIError: not a single signature can be written in a format, or the converter fails.
    """
    if not formats:
        return {}
    process = run_standalone(standalone_convert, str(folder), *formats)
    if process.returncode != 0:
        raise SMVIError(
            f"cannot write {' and '.join(formats)} ({last_line(process, 'wrote them')})",
            remedy="nothing was published; leave {formats} out, or check the versions of "
            "TensorFlow and tf2onnx",
        )
    left_out = json.loads(process.stdout.splitlines()[-1])
    return {name: _describe(folder, name, left_out[name]) for name in formats}


def _describe(folder: Path, name: str, left_out: dict[str, str]) -> FormatSpec:
    """Describes the files of one format, of which there must be one."""
    files = {path.stem: f"{name}/{path.name}" for path in sorted((folder / name).iterdir())}
    if not files:
        reasons = "; ".join(dict.fromkeys(left_out.values()))
        raise SMVIError(
            f"no signature of this model can be written as {name} ({reasons})",
            remedy="nothing was published; leave this one of {formats} out",
        )
    return FormatSpec(files, left_out)
