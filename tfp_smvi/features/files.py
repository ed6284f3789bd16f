"""A file of features that is written in pieces and survives a stop at any moment.

The folder `<file>.partial` beside the file holds what is done:

    settings.json         everything that the features depend on
    piece-<number>.npz    the features of PIECE_SIZE examples in a row, and the errors of the rest
    finished.json         the report: all pieces are done, and the file is written next

The file appears whole or not at all. Then the folder is deleted.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import RUN_AGAIN, SMVIError, explain_write_errors
from tfp_smvi.features.formats import Column, FeatureTable, require_suffix, write_table
from tfp_smvi.features.results import FeaturesReport
from tfp_smvi.features.settings import Settings, differences, flat
from tfp_smvi.serving.encoders import Features
from tfp_smvi.storage.arrays import DamagedFileError, read_arrays, write_arrays
from tfp_smvi.storage.atomic import sweep_partials, write_atomically, write_json
from tfp_smvi.storage.json_files import parse_json, read_json
from tfp_smvi.storage.locks import hold_folder

__all__ = ["PIECE_SIZE", "FeatureFile", "Piece"]

# The number of examples in a piece: the work that a kill may cost, and the memory that is needed.
PIECE_SIZE = 8192
_SETTINGS, _FINISHED = "settings.json", "finished.json"
# The arrays of a piece: the kind of their dtype, and the number of axes.
_ARRAYS = {"indices": ("i", 1), "mean": ("f", 2), "stddev": ("f", 2), "errors": ("u", 1)}
_ADVICE = f"what is done is kept: {RUN_AGAIN}"

Value = TypeVar("Value")
# Returns the ids of examples by their indices.
Ids = Callable[[npt.NDArray[np.int64]], npt.NDArray[Any]]


class Piece(NamedTuple):
    """The features of some examples.

    Attributes:
        indices: int64 [n], the examples that have features.
        features: their features.
        errors: why the others have none, by index.
    """

    indices: npt.NDArray[np.int64]
    features: Features
    errors: dict[int, str]


class FeatureFile:
    """A file of features that is being written in pieces.

    Args:
        path: the file, .npz, .npy or .parquet.
        num_images: the number of examples, with features or without.
    """

    def __init__(self, path: Path, num_images: int) -> None:
        """Touches no file."""
        require_suffix(path)
        self.path, self.num_images = path, num_images
        self.folder = path.with_name(path.name + ".partial")
        self.errors_path = path.with_name(path.name + ".errors.jsonl")
        self.num_pieces = -(-num_images // PIECE_SIZE)
        self._joined: Settings | None = None

    @contextlib.contextmanager
    def open(self, settings: Settings, *, fresh: bool) -> Iterator[FeaturesReport | None]:
        """Opens the file for this process alone, and continues what is done already.

        Args:
            settings: everything that the features depend on.
            fresh: deletes an existing file and its pieces first.

        Yields:
            The report if only the last step of `finish` is missing, and None otherwise.

        Raises:
            SMVIError: the file exists, it was begun with other settings, or another process writes
                it.
        """
        busy = SMVIError(
            "is being written by another process",
            field="output",
            value=str(self.path),
            remedy="wait for it, or choose another {output}",
        )
        place = self.path.parent
        if self.folder.is_symlink():
            raise SMVIError(
                f"cannot be written beside {self.folder}, a link that may lead anywhere",
                field="output",
                value=str(self.path),
                remedy="delete the link, or choose another {output}",
            )
        with hold_folder(self.folder, busy=busy, remedy=_ADVICE, place=place):
            with self._writing():
                report = self._begin(settings, fresh)
            yield report

    def _begin(self, settings: Settings, fresh: bool) -> FeaturesReport | None:
        if fresh:
            self.path.unlink(missing_ok=True)
            self.errors_path.unlink(missing_ok=True)
            self._clear()
        report = self._read(_FINISHED, FeaturesReport.from_json)
        if self.path.exists() and report is None:
            if not (self.folder / _SETTINGS).exists():
                shutil.rmtree(self.folder)  # it was made for the lock only
            raise SMVIError(
                "exists already",
                field="output",
                value=str(self.path),
                remedy="choose another {output}, or give {fresh} to replace it",
            )
        sweep_partials(self.folder)
        sweep_partials(self.path.parent, f"{self.path.name}.*")
        self._require_same(settings)
        write_json(self.folder / _SETTINGS, settings)
        return report if self.path.exists() else None

    def begun(self) -> dict[str, str | int] | None:
        """The settings that the pieces are made with, by section and name; None if there are none.

        Raises:
            SMVIError: they cannot be read.
        """
        return self._read(_SETTINGS, flat)

    def join(self, settings: Settings) -> None:
        """Lets this process save pieces while another one has the file open.

        Args:
            settings: everything that this process's features depend on.

        Raises:
            SMVIError: the file is not open, or the other process's features depend on others. So
                does `save` from now on.
        """
        self._joined = settings
        begun, given = self.begun(), flat(settings)
        if begun is None:
            raise SMVIError(
                f"{self.folder} holds no work",
                remedy="give a folder that all processes of the engine share",
            )
        if different := differences(begun, given):
            raise SMVIError(
                f"{self.folder} was begun with other examples or another model than this process "
                f"of the engine finds ({different})",
                remedy="let the same paths lead to the same files for all of them",
            )

    def missing(self) -> list[int]:
        """Returns the numbers of the pieces that are not done."""
        return [number for number in range(self.num_pieces) if not self._piece(number).exists()]

    def span(self, number: int) -> tuple[int, int]:
        """Returns the first index of a piece, and the one after its last."""
        return number * PIECE_SIZE, min((number + 1) * PIECE_SIZE, self.num_images)

    def save(self, number: int, piece: Piece) -> None:
        """Saves a piece."""
        errors = json.dumps([[index, reason] for index, reason in sorted(piece.errors.items())])
        arrays = {
            "indices": piece.indices,
            **piece.features._asdict(),
            "errors": np.frombuffer(errors.encode(), np.uint8),
        }
        if self._joined is not None:  # others may have begun anew meanwhile
            self.join(self._joined)
        with self._writing():
            write_arrays(self._piece(number), arrays)

    def finish(
        self, ids: Ids, id_dtype: np.dtype[Any], latent_dim: int, report: FeaturesReport
    ) -> None:
        """Writes the file and the list of errors from all pieces, and deletes the folder.

        Args:
            ids: returns the ids of examples by their indices.
            id_dtype: the dtype of the ids.
            latent_dim: the size of mean and stddev.
            report: what `open` yields if a kill comes before the folder is deleted.
        """

        def columns(name: Column) -> Iterator[npt.NDArray[Any]]:
            for number in range(self.num_pieces):
                values = self._load(number, "indices" if name == "ids" else name)
                yield ids(values) if name == "ids" else values

        num_rows = sum(len(self._load(number, "indices")) for number in range(self.num_pieces))
        table = FeatureTable(columns, num_rows, latent_dim, id_dtype)
        with self._writing():
            self._write_errors(ids)
            write_json(self.folder / _FINISHED, report)
            write_atomically(self.path, lambda file: write_table(file, self.path.suffix, table))
            self.remove_folder()

    def remove_folder(self) -> None:
        """Deletes the folder; the report last, as without it the file would look unfinished."""
        for path in self.folder.glob("piece-*.npz"):
            path.unlink()
        shutil.rmtree(self.folder)

    def errors(self) -> Iterator[tuple[int, str]]:
        """Yields the examples without features and the reasons, in order."""
        for number in range(self.num_pieces):
            try:
                errors = parse_json(self._load(number, "errors").tobytes())
                yield from [(int(index), str(reason)) for index, reason in errors]
            except (ValueError, TypeError) as error:
                raise self._damaged(self._piece(number), error) from error

    def _load(self, number: int, name: str) -> npt.NDArray[Any]:
        """Reads an array of a piece.

        Raises:
            SMVIError: it cannot be read.
        """
        path = self._piece(number)
        try:
            array = read_arrays(path, [name])[name]
            if (array.dtype.kind, array.ndim) != _ARRAYS[name]:
                raise DamagedFileError(f"{name} is {array.dtype} of shape {array.shape}")
            return array
        except (OSError, DamagedFileError) as error:
            raise self._damaged(path, error) from error

    @staticmethod
    def _damaged(path: Path, reason: Exception) -> SMVIError:
        remedy = "delete it and run the same command again"
        return SMVIError(f"{path} cannot be read ({reason})", remedy=remedy)

    def _write_errors(self, ids: Ids) -> None:
        """Writes a line of JSON for each example without features; no file if there are none."""

        def write(file: BinaryIO) -> None:
            for index, reason in self.errors():
                (name,) = ids(np.array([index])).tolist()
                file.write(json.dumps({"id": name, "error": reason}).encode() + b"\n")

        if next(self.errors(), None) is None:
            self.errors_path.unlink(missing_ok=True)
        else:
            write_atomically(self.errors_path, write)

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return explain_write_errors(f"to {self.path.parent}", _ADVICE)

    def _require_same(self, settings: Settings) -> None:
        """Raises an SMVIError if the pieces were made with other settings."""
        begun = self.begun()
        if begun is None:
            self._clear()
            return
        if different := differences(begun, flat(settings)):
            raise SMVIError(
                f"was begun with other settings ({different})",
                field="output",
                value=str(self.path),
                remedy="give the same settings, choose another {output}, or start over with "
                "{fresh}",
            )

    def _read(self, name: str, parse: Callable[[Any], Value]) -> Value | None:
        """Reads a JSON file of the folder; None if there is no such file."""
        path = self.folder / name
        try:
            return parse(read_json(path))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, AttributeError, SMVIError) as error:
            raise SMVIError(
                f"{path} cannot be read ({error})", remedy="start over with {fresh}"
            ) from error

    def _clear(self) -> None:
        """Deletes all pieces and the report; the settings last."""
        for path in (
            *self.folder.glob("piece-*.npz"),
            self.folder / _FINISHED,
            self.folder / _SETTINGS,
        ):
            path.unlink(missing_ok=True)

    def _piece(self, number: int) -> Path:
        return self.folder / f"piece-{number:07d}.npz"
