"""Files of features that are written piece by piece, whatever happens meanwhile.

Beside the file lies a folder, `<file>.partial`, with what is done:

    settings.json         what the features are of
    piece-<number>.npz    the features of PIECE_SIZE images in turn, and why images among them have none
    finished.json         all pieces are there, and the file gets its name next

The file appears whole or not at all, and the folder goes when it is there.
"""

import contextlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import RUN_AGAIN, SMVIError, explain_write_errors
from tfp_smvi.serving.encoders import Features
from tfp_smvi.storage.atomic import sweep_partials, write_atomically, write_json
from tfp_smvi.storage.locks import hold_folder

__all__ = ["PIECE_SIZE", "FeatureFile", "Piece", "require_suffix"]

# Images in a piece: what a kill may cost, and what is held in memory.
PIECE_SIZE = 8192
_SETTINGS, _FINISHED = "settings.json", "finished.json"
_ADVICE = f"what is done is kept: {RUN_AGAIN}"


class Piece(NamedTuple):
    """The features of some images.

    Attributes:
        indices: int64 [n], the images that have features.
        features: their features.
        errors: why the others have none, by index.
    """

    indices: npt.NDArray[np.int64]
    features: Features
    errors: dict[int, str]


def require_suffix(path: Path) -> None:
    """Raises an SMVIError unless a file of features may have this name."""
    if path.suffix not in _WRITERS:
        raise SMVIError(
            f"{path} ends in {path.suffix or 'nothing'}; give a file in {', '.join(_WRITERS)}."
        )


class FeatureFile:
    """A file of features that is being written.

    Args:
        path: the file, .npz, .npy or .parquet.
        num_images: the number of images, with features or without.
    """

    def __init__(self, path: Path, num_images: int) -> None:
        """Touches no file."""
        require_suffix(path)
        self.path, self.num_images = path, num_images
        self.folder = path.with_name(path.name + ".partial")
        self.errors_path = path.with_name(path.name + ".errors.jsonl")
        self.num_pieces = -(-num_images // PIECE_SIZE)

    @contextlib.contextmanager
    def open(self, settings: Mapping[str, Any], *, fresh: bool) -> Iterator[dict[str, Any] | None]:
        """Opens the file for this process alone, and goes on with what is done already.

        Args:
            settings: JSON values, all that the features depend on.
            fresh: deletes the file that is there, and what is done of it.

        Yields:
            The report, where all is done but the last of `finish`, and None otherwise.

        Raises:
            SMVIError: the file is there, or was begun with other settings, or another process is at
                work on it.
        """
        busy = SMVIError(
            f"{self.path} is being written by another process",
            remedy="wait for it or choose another {output}",
        )
        place = self.path.parent
        with hold_folder(self.folder, busy=busy, remedy=_ADVICE, place=place):
            with self._writing():
                report = self._begin(settings, fresh)
            yield report

    def _begin(self, settings: Mapping[str, Any], fresh: bool) -> dict[str, Any] | None:
        if fresh:
            self.path.unlink(missing_ok=True)
            self.errors_path.unlink(missing_ok=True)
            self._clear()
        report = self._read_json(_FINISHED)
        if self.path.exists() and report is None:
            if not (self.folder / _SETTINGS).exists():
                shutil.rmtree(self.folder)  # it was made for the lock alone
            raise SMVIError(
                f"{self.path} is there already; choose another --output, or --fresh to replace it."
            )
        sweep_partials(self.folder)
        sweep_partials(self.path.parent, f"{self.path.name}.*")
        self._check(json.loads(json.dumps(settings)))
        write_json(self.folder / _SETTINGS, settings)
        return report if self.path.exists() else None

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
        with self._writing():
            write_atomically(
                self._piece(number), lambda file: np.savez(file, allow_pickle=False, **arrays)
            )

    def finish(
        self,
        ids: Callable[[npt.NDArray[np.int64]], npt.NDArray[Any]],
        id_dtype: np.dtype[Any],
        latent_dim: int,
        report: Mapping[str, Any],
    ) -> None:
        """Writes the file and the list of errors from all pieces, and deletes the folder.

        Args:
            ids: gives the ids of images by their indices.
            id_dtype: the dtype of the ids.
            latent_dim: the size of mean and stddev.
            report: JSON values that `open` gives if a kill comes before the folder is deleted.
        """
        total = sum(len(self.read(number, "indices")) for number in range(self.num_pieces))

        def columns(name: str) -> Iterator[npt.NDArray[Any]]:
            for number in range(self.num_pieces):
                values = self.read(number, "indices" if name == "ids" else name)
                yield ids(values) if name == "ids" else values

        table = _Table(columns, total, latent_dim, id_dtype)
        with self._writing():
            self._write_errors(ids)
            write_json(self.folder / _FINISHED, report)
            write_atomically(self.path, lambda file: _WRITERS[self.path.suffix](file, table))
            self.remove_folder()

    def remove_folder(self) -> None:
        """Deletes what is no longer needed; finished.json last, so that a kill cannot make it look unfinished."""
        for path in self.folder.glob("piece-*.npz"):
            path.unlink()
        shutil.rmtree(self.folder)

    def read(self, number: int, name: str) -> npt.NDArray[Any]:
        """Reads an array of a piece.

        Raises:
            SMVIError: it cannot be read.
        """
        path = self._piece(number)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as members:
                return members[name]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise SMVIError(
                f"{path} cannot be read ({error}); delete it and run the same command again."
            ) from error

    def errors(self) -> Iterator[tuple[int, str]]:
        """Yields the images that have no features, and why, in order."""
        for number in range(self.num_pieces):
            yield from json.loads(self.read(number, "errors").tobytes())

    def _write_errors(self, ids: Callable[[npt.NDArray[np.int64]], npt.NDArray[Any]]) -> None:
        """Writes a line of JSON for each image without features; no file where there are none."""

        def write(file: Any) -> None:
            for index, reason in self.errors():
                (name,) = ids(np.array([index])).tolist()
                file.write(json.dumps({"id": name, "error": reason}).encode() + b"\n")

        if next(self.errors(), None) is None:
            self.errors_path.unlink(missing_ok=True)
        else:
            write_atomically(self.errors_path, write)

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return explain_write_errors(f"to {self.path.parent}", _ADVICE)

    def _check(self, settings: Mapping[str, Any]) -> None:
        """Compares what was begun with what is asked for."""
        begun = self._read_json(_SETTINGS)
        if begun is None:
            self._clear()
            return
        old, new = _flat(begun), _flat(settings)
        differences = [
            f"{name}: {old.get(name)} there, {new.get(name)} given"
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        ]
        if differences:
            raise SMVIError(
                f"{self.path} was begun with other settings ({'; '.join(differences)}); give those to go on, choose "
                "another --output, or start over with --fresh."
            )

    def _read_json(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise SMVIError(f"{path} cannot be read ({error}); start over with --fresh.") from error
        return values

    def _clear(self) -> None:
        """Deletes all that is done; the settings last."""
        for path in (
            *self.folder.glob("piece-*.npz"),
            self.folder / _FINISHED,
            self.folder / _SETTINGS,
        ):
            path.unlink(missing_ok=True)

    def _piece(self, number: int) -> Path:
        return self.folder / f"piece-{number:07d}.npz"


class _Table(NamedTuple):
    """What a file of features holds: columns, in chunks."""

    columns: Callable[[str], Iterable[npt.NDArray[Any]]]
    num_rows: int
    latent_dim: int
    id_dtype: np.dtype[Any]

    def layout(self, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Returns the dtype and the shape of a column."""
        if name == "ids":
            return self.id_dtype, (self.num_rows,)
        return np.dtype(np.float32), (self.num_rows, self.latent_dim)


def _write_column(file: Any, table: _Table, name: str) -> None:
    """Writes a column as a .npy file."""
    dtype, shape = table.layout(name)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for chunk in table.columns(name):
        file.write(np.ascontiguousarray(chunk, dtype).tobytes())


def _write_npy(file: Any, table: _Table) -> None:
    """Writes the means alone."""
    _write_column(file, table, "mean")


def _write_npz(file: Any, table: _Table) -> None:
    """Writes ids, mean and stddev, uncompressed."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in ("ids", "mean", "stddev"):
            # A ZipInfo has a fixed time, so that the same features make the same file.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                _write_column(member, table, name)


def _write_parquet(file: Any, table: _Table) -> None:
    """Writes ids, mean and stddev, the latter as lists of a fixed size; a piece is a row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    vector = pa.list_(pa.float32(), table.latent_dim)
    id_type = pa.int64() if table.id_dtype.kind == "i" else pa.string()
    schema = pa.schema([("ids", id_type), ("mean", vector), ("stddev", vector)])
    with pq.ParquetWriter(file, schema) as writer:
        for ids, *vectors in zip(*map(table.columns, schema.names), strict=True):
            arrays = [
                pa.FixedSizeListArray.from_arrays(v.reshape(-1), table.latent_dim) for v in vectors
            ]
            writer.write_batch(pa.record_batch([pa.array(ids, id_type), *arrays], schema=schema))


_WRITERS: dict[str, Callable[[Any, _Table], None]] = {
    ".npz": _write_npz,
    ".npy": _write_npy,
    ".parquet": _write_parquet,
}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Names the values of nested objects: {"model.version": 1}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= (
            _flat(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else {prefix + name: value}
        )
    return flat
