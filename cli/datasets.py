"""`tfp-smvi datasets`: the data sets that are known by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.paths import expand_home
from tfp_smvi.core.records import Record
from tfp_smvi.data import DATASETS, default_data_dir, is_prepared

from .json_output import echo_json, json_option

__all__ = ["datasets"]

# When a set is ready that is not yet.
STATUS = {"packaged": "first use", "download": "download"}


@dataclass(frozen=True)
class _Row(Record):
    """A data set of the list; the fields are those of --json."""

    name: str
    description: str
    image_shape: tuple[int, ...]
    num_train: int
    num_test: int
    num_classes: int
    likelihood: str
    licence: str
    source: str
    needs_download: bool
    prepared: bool


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of prepared data.  [default: TFP_SMVI_DATA_DIR, or ~/tensorflow_datasets]",
)
@json_option("the list")
def datasets(data_dir: Path | None, as_json: bool) -> None:
    """List the data sets that are known by name.

    Any other image set of TensorFlow Datasets loads by its name, too. Your own data load from a
    .npz, .npy, .csv or .parquet file.
    """
    directory = _directory(data_dir)
    rows = [_describe(name, directory) for name in DATASETS]
    if as_json:
        echo_json([row.to_json() for row in rows], indent=2)
        return
    click.echo(_table(rows))
    where = directory or "no folder: this user has no home directory; set TFP_SMVI_DATA_DIR"
    click.echo(f"\nPrepared data are kept in {where}.")
    click.echo("Also: any image set of TensorFlow Datasets by its name, and your own data as")
    click.echo("PATH.npz with the arrays x_train and x_test (y_train and y_test for labels), or as")
    click.echo("PATH.npz, .npy, .csv or .parquet with --test-fraction or --test-dataset of train.")


def _directory(data_dir: Path | None) -> Path | None:
    """The folder of prepared data; None for a user without a home directory."""
    if data_dir is not None:
        return expand_home(data_dir, "data_dir")
    try:
        return default_data_dir()
    except SMVIError:
        return None


def _describe(name: str, directory: Path | None) -> _Row:
    entry = DATASETS[name]
    return _Row(
        name=name,
        description=entry.description,
        image_shape=entry.image_shape,
        num_train=entry.num_train,
        num_test=entry.num_test,
        num_classes=entry.num_classes,
        likelihood=entry.default_likelihood,
        licence=entry.licence,
        source=entry.source,
        needs_download=entry.needs_download,
        prepared=is_prepared(name, directory) if directory else not entry.needs_preparation,
    )


def _table(rows: Sequence[_Row]) -> str:
    """Aligns the rows in columns of at most 80 characters, the same on a terminal and in a pipe."""
    cells = [["NAME", "SHAPE", "TRAIN", "TEST", "LIKELIHOOD", "LICENCE", "READY"]]
    cells += [
        [
            row.name,
            "x".join(str(size) for size in row.image_shape),
            str(row.num_train),
            str(row.num_test),
            row.likelihood,
            row.licence,
            "yes" if row.prepared else STATUS[row.source],
        ]
        for row in rows
    ]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    ]
    return "\n".join(line.rstrip() for line in lines)
