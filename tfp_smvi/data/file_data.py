"""A user's own data, from one file or two."""

from collections.abc import Mapping
from pathlib import Path

from tfp_smvi.config import DataConfig
from tfp_smvi.core.errors import NotFoundError, SMVIError
from tfp_smvi.data.array_data import read_array_file
from tfp_smvi.data.assembly import Contents, Given, assemble, split_at_random
from tfp_smvi.data.tables import read_table

__all__ = ["load_files"]


def load_files(config: DataConfig) -> Contents:
    """Loads data from a file with training and test data, a file that is split, or two files.

    Raises:
        SMVIError: a file is missing or damaged, or does not fit the configuration.
    """
    path = Path(config.dataset)
    given = _read(path, config)
    try:
        if config.test_dataset is not None:
            test_path = Path(config.test_dataset)
            others = _only(_read(test_path, config), config)._replace(name=test_path.name)
            return assemble(config, _only(given, config)._replace(name=path.name), others)
        if config.test_fraction is not None:
            return assemble(config, *split_at_random(_only(given, config), config))
        if "x" in given:
            raise SMVIError(
                "has no test data", remedy="give {test_fraction}, such as 0.2, or {test_dataset}"
            )
        return assemble(config, given["x_train"], given["x_test"])
    except SMVIError as error:
        raise _in_file(path, error) from error


def _read(path: Path, config: DataConfig) -> Mapping[str, Given]:
    if not path.is_file():
        reason = "no such file"
        if path.exists():
            reason = "is a folder" if path.is_dir() else "is not a regular file"
        raise NotFoundError(f"{path}: {reason}", remedy="give the path of a file")
    try:
        if path.suffix in (".csv", ".parquet"):
            return {"x": read_table(path, config.label_column)}
        if config.label_column is not None:
            raise SMVIError(
                f"is for tables, .csv and .parquet, and not for {path.name}",
                field="label_column",
                value=config.label_column,
                remedy="leave it out",
            )
        return read_array_file(path)
    except SMVIError as error:
        raise _in_file(path, error) from error


def _only(given: Mapping[str, Given], config: DataConfig) -> Given:
    """The examples of a file that must not be split already."""
    if "x" not in given:
        field = "test_dataset" if config.test_dataset is not None else "test_fraction"
        raise SMVIError(
            "is not allowed: a file has x_train and x_test already",
            field=field,
            value=getattr(config, field),
            remedy="leave it out, or write the values as one array x",
        )
    return given["x"]


def _in_file(path: Path, error: SMVIError) -> SMVIError:
    """The error with the name of the file, unless it is one of a setting or has a name."""
    if error.field is not None or error.problem.startswith("/"):
        return error
    return SMVIError(f"{path}: {error.problem}", remedy=error.remedy)
