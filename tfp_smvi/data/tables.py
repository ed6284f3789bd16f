"""A user's own table, .csv or .parquet: one example a row, one entry or the class a column."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import SMVIError, brief, plain_reason
from tfp_smvi.core.files import open_regular
from tfp_smvi.data.assembly import Given
from tfp_smvi.data.rows import FileRows, rows_at_a_time

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["read_table"]

# The column of the classes, unless another is named.
LABEL = "label"


class _Table(NamedTuple):
    """A table that is read in pieces.

    Attributes:
        names: its columns.
        pieces: its record batches, in order.
    """

    names: list[str]
    pieces: Iterator["pa.RecordBatch"]


def read_table(path: Path, label_column: str | None) -> Given:
    """Reads a table into a temporary file, piece by piece: a larger one than the memory, too.

    Empty cells and nulls are missing values.

    Args:
        path: the file, whose name ends in .csv or .parquet.
        label_column: the column of the classes, whole numbers or texts; None for "label" if there
            is one.

    Raises:
        SMVIError: the file is no table of numbers, or has no such column; or the temporary file
            cannot be written.
    """
    import pyarrow as pa

    try:
        with open_regular(path) as file, _open(path, file, label_column) as table:
            label = _find_label(table.names, label_column)
            names = tuple(name for name in table.names if name != label)
            _check_names(names)
            return _spool(path, table, names, label)
    except pa.ArrowException as error:
        raise SMVIError(
            f"cannot be read as {path.suffix} ({plain_reason(error)})",
            remedy="give one number a cell, or nothing for a missing value, and true and false as "
            "1 and 0",
        ) from error


@contextlib.contextmanager
def _open(path: Path, file: BinaryIO, label_column: str | None) -> Iterator[_Table]:
    if path.suffix == ".parquet":
        from pyarrow import parquet

        with parquet.ParquetFile(file, pre_buffer=False) as source:
            names = source.schema_arrow.names
            yield _Table(names, source.iter_batches(rows_at_a_time([len(names)])))
        return
    import pyarrow as pa
    from pyarrow import csv

    with csv.open_csv(file) as reader:
        names = reader.schema.names
    label = LABEL if label_column is None else label_column
    # What the first rows look like may not be what the others are.
    types = {name: pa.string() if name == label else pa.float64() for name in names}
    options = csv.ConvertOptions(column_types=types, strings_can_be_null=True)
    with open_regular(path) as again, csv.open_csv(again, convert_options=options) as reader:
        yield _Table(names, iter(reader))


def _find_label(names: Sequence[str], label_column: str | None) -> str | None:
    if label_column is None:
        return LABEL if LABEL in names else None
    if label_column not in names:
        raise SMVIError(
            "is not a column of the table",
            field="label_column",
            value=label_column,
            remedy=f"give one of: {brief(', '.join(names))}",
        )
    return label_column


def _check_names(names: Sequence[str]) -> None:
    problem = None
    if not names:
        problem = "has no column of values"
    elif "" in names:
        problem = f"column {names.index('') + 1} has no name"
    elif len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        problem = f"has two columns {twice!r}"
    elif all(map(_is_number, names)) and len(names) > 1 and any("." in name for name in names):
        problem = f"its first line has numbers in place of names: {brief(', '.join(names), 60)}"
    if problem:
        raise SMVIError(
            problem, remedy="write a column for each entry, without an index, and their names first"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _spool(path: Path, table: _Table, names: tuple[str, ...], label: str | None) -> Given:
    labels: list[npt.NDArray[Any]] = []
    num_rows = 0
    try:
        # It has no name, and is gone with the last of its readers.
        with tempfile.TemporaryFile() as spool:
            for piece in table.pieces:
                values = np.stack([_numbers(piece.column(name), name) for name in names], axis=1)
                spool.write(np.ascontiguousarray(values).data)
                num_rows += len(values)
                if label is not None:
                    labels.append(_classes(piece.column(label), label))
            spool.flush()
            shape, dtype = (num_rows, len(names)), np.dtype(np.float64)
            rows = FileRows(spool, path, 0, shape, dtype)
    except OSError as error:
        raise SMVIError(
            f"cannot be copied to {tempfile.gettempdir()} ({plain_reason(error)})",
            remedy="make room, or give another folder with TMPDIR",
        ) from error
    if num_rows == 0:
        raise SMVIError("has no rows", remedy="give at least one example")
    return Given("x", rows, np.concatenate(labels) if labels else None, names)


def _numbers(column: "pa.Array", name: str) -> npt.NDArray[np.float64]:
    import pyarrow as pa

    types = pa.types
    kind = column.type
    if types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif not (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)):
        raise SMVIError(
            f"column {name!r} is of type {kind}",
            remedy="leave it out, or name the column of the classes with {label_column}",
        )
    values: npt.NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(
        zero_copy_only=False
    )
    return values


def _classes(column: "pa.Array", name: str) -> npt.NDArray[Any]:
    """Whole numbers as int64, and anything else as texts."""
    import pyarrow as pa

    if column.null_count:
        raise SMVIError(
            f"column {name!r} has no class in {column.null_count} rows",
            remedy="leave these rows out",
        )
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    if pa.types.is_floating(column.type):
        raise SMVIError(
            f"column {name!r} is of type {column.type}",
            remedy="give whole numbers or texts as classes",
        )
    return column.cast(pa.string()).to_numpy(zero_copy_only=False).astype(str)
