"""A file of features that is written in pieces and survives a stop at any moment.

The folder `<file>.partial` beside the file holds what is done:

    settings.json         everything that the features depend on
    piece-<number>.npz    the features of PIECE_SIZE examples in a row, and the errors of the rest
    finished.json         the report: all pieces are done, and the file is written next

The last piece stays in memory until the file is written, unless something goes wrong before.

The file appears whole or not at all. Then the folder is deleted.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import RUN_AGAIN, SMVIError, explain_write_errors
from tfp_smvi.features.formats import Column, FeatureTable, require_suffix, write_table
from tfp_smvi.features.pieces import Piece, parse_errors, read_piece
from tfp_smvi.features.results import FeaturesReport
from tfp_smvi.features.settings import Settings, differences, flat
from tfp_smvi.storage.arrays import write_arrays
from tfp_smvi.storage.atomic import sweep_partials, write_atomically, write_json
from tfp_smvi.storage.json_files import read_json
from tfp_smvi.storage.locks import hold_folder

__all__ = ["PIECE_SIZE", "FeatureFile"]

# The number of examples in a piece: the work that a kill may cost, and the memory that is needed.
PIECE_SIZE = 8192
_SETTINGS, _FINISHED = "settings.json", "finished.json"
_ADVICE = f"what is done is kept: {RUN_AGAIN}"

Value = TypeVar("Value")
# Returns the ids of examples by their indices.
Ids = Callable[[npt.NDArray[np.int64]], npt.NDArray[Any]]


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
        self._last: dict[int, dict[str, npt.NDArray[Any]]] = {}
        self._beginning: Future[None] | None = None

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
        held = hold_folder(self.folder, busy=busy, remedy=_ADVICE, place=place)
        with held, ThreadPoolExecutor(1) as pool:
            with self._writing():
                report = self._begin(settings, fresh, pool)
            try:
                yield report
            except BaseException:
                for number, arrays in self._last.items():
                    self._write(number, arrays)
                raise

    def _begin(
        self, settings: Settings, fresh: bool, pool: ThreadPoolExecutor
    ) -> FeaturesReport | None:
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
        if report is not None and self.path.exists():
            return report
        # No piece is written before, and examples are encoded meanwhile.
        self._beginning = pool.submit(write_json, self.folder / _SETTINGS, settings)
        return None

    def begun(self) -> dict[str, str | int] | None:
        """The settings that the pieces are made with, by section and name; None if there are none.

        Raises:
            SMVIError: they cannot be read.
        """
        self._await_settings()
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
        """Returns the numbers of the pieces that are not on the disk."""
        return [number for number in range(self.num_pieces) if not self._piece(number).exists()]

    def span(self, number: int) -> tuple[int, int]:
        """Returns the first index of a piece, and the one after its last."""
        return number * PIECE_SIZE, min((number + 1) * PIECE_SIZE, self.num_images)

    def save(self, number: int, piece: Piece, *, last: bool = False) -> None:
        """Saves a piece; the last one that is missing need not be on the disk before the file."""
        if last and self._joined is None:
            self._last = {number: piece.arrays()}
        else:
            self._write(number, piece.arrays())

    def _write(self, number: int, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        if self._joined is not None:  # others may have begun again meanwhile
            self.join(self._joined)
        with self._writing():
            self._await_settings()
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
            self._await_settings()
            self._write_errors(ids)
            with ThreadPoolExecutor(1) as pool:  # a disk takes milliseconds to keep what it gets
                future = pool.submit(write_json, self.folder / _FINISHED, report)

                def write(file: BinaryIO) -> None:
                    write_table(file, self.path.suffix, table)
                    future.result()  # before the file has its name

                write_atomically(self.path, write)
            self._last = {}
            self.remove_folder()

    def remove_folder(self) -> None:
        """Deletes the folder; the report last, as without it the file would look unfinished."""
        for path in self.folder.glob("piece-*.npz"):
            path.unlink()
        shutil.rmtree(self.folder)

    def errors(self) -> Iterator[tuple[int, str]]:
        """Yields the examples without features and the reasons, in order."""
        for number in range(self.num_pieces):
            yield from parse_errors(self._load(number, "errors"), self._piece(number))

    def _load(self, number: int, name: str) -> npt.NDArray[Any]:
        """Returns an array of a piece.

        Raises:
            SMVIError: it cannot be read.
        """
        last = self._last.get(number)
        return read_piece(self._piece(number), name) if last is None else last[name]

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

    def _await_settings(self) -> None:
        """Waits until the settings are written; raises an OSError if they cannot be."""
        if self._beginning is not None:
            self._beginning.result()

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
