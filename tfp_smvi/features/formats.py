"""The formats of a file of features, .npz, .npy and .parquet, written in chunks."""

import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import SMVIError

__all__ = ["Column", "FeatureTable", "require_suffix", "write_table"]

Column = Literal["ids", "mean", "stddev"]
_COLUMNS: tuple[Column, ...] = ("ids", "mean", "stddev")


class FeatureTable(NamedTuple):
    """The contents of a file of features.

    Attributes:
        columns: returns the chunks of a column.
        num_rows: the number of rows.
        latent_dim: the size of mean and stddev.
        id_dtype: the dtype of the ids.
    """

    columns: Callable[[Column], Iterable[npt.NDArray[Any]]]
    num_rows: int
    latent_dim: int
    id_dtype: np.dtype[Any]

    def layout(self, name: Column) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Returns the dtype and the shape of a column."""
        if name == "ids":
            return self.id_dtype, (self.num_rows,)
        return np.dtype(np.float32), (self.num_rows, self.latent_dim)


def require_suffix(path: Path) -> None:
    """Raises an SMVIError unless a file of features may have this name."""
    if path.suffix not in _WRITERS:
        raise SMVIError(
            "is not allowed",
            field="output",
            value=str(path),
            remedy=f"give a file in {', '.join(_WRITERS)}",
        )


def write_table(file: BinaryIO, suffix: str, table: FeatureTable) -> None:
    """Writes a table to a binary file in the format that belongs to a suffix.

    Raises:
        OSError: it cannot be written.
    """
    _WRITERS[suffix](file, table)


def _write_column(file: Any, table: FeatureTable, name: Column) -> None:
    """Writes a column as a .npy file."""
    dtype, shape = table.layout(name)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for chunk in table.columns(name):
        file.write(np.ascontiguousarray(chunk, dtype).data)


def _write_npy(file: BinaryIO, table: FeatureTable) -> None:
    """Writes the means alone."""
    _write_column(file, table, "mean")


def _write_npz(file: BinaryIO, table: FeatureTable) -> None:
    """Writes ids, mean and stddev, uncompressed."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in _COLUMNS:
            # A ZipInfo has a fixed time, so that the same features give the same file.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                _write_column(member, table, name)


def _write_parquet(file: BinaryIO, table: FeatureTable) -> None:
    """Writes ids, mean and stddev, the latter as lists of a fixed size; a chunk is a row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    vector = pa.list_(pa.float32(), table.latent_dim)
    id_type = pa.int64() if table.id_dtype.kind == "i" else pa.string()
    schema = pa.schema([("ids", id_type), ("mean", vector), ("stddev", vector)])
    with pq.ParquetWriter(file, schema) as writer:
        for ids, *vectors in zip(*map(table.columns, _COLUMNS), strict=True):
            arrays = [
                pa.FixedSizeListArray.from_arrays(v.reshape(-1), table.latent_dim) for v in vectors
            ]
            writer.write_batch(pa.record_batch([pa.array(ids, id_type), *arrays], schema=schema))


_WRITERS: Mapping[str, Callable[[BinaryIO, FeatureTable], None]] = {
    ".npz": _write_npz,
    ".npy": _write_npy,
    ".parquet": _write_parquet,
}
