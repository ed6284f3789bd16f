"""The data that a model is trained on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tfp_smvi.config.base import Settings, option, require
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.paths import absolute

__all__ = ["FILE_SUFFIXES", "DataConfig", "Kind"]

# What values are: in [0, 1], any real numbers, or whole numbers of at least 0.
Kind = Literal["intensities", "real", "counts"]

FILE_SUFFIXES = (".npz", ".npy", ".csv", ".parquet")
_FILES = f"{', '.join(FILE_SUFFIXES[:-1])} or {FILE_SUFFIXES[-1]}"


@dataclass(frozen=True)
class DataConfig(Settings):
    """What the model is trained on.

    The paths of files are made absolute, so that a run finds its data from any folder.
    """

    dataset: str = option(
        "mnist", f"mnist, digits, another TFDS image set, or the path of a file: {_FILES}."
    )
    test_dataset: str | None = option(
        None, "File of the test data; then all others train.", later=True
    )
    test_fraction: float | None = option(
        None, "Fraction of the file's examples to test on, drawn at random.", later=True
    )
    split_seed: int = option(0, "Seed of this draw.", later=True)
    label_column: str | None = option(
        None, 'Column of the classes in a table.  [default: "label" if there is one]', later=True
    )
    kind: Kind | None = option(
        None,
        "What the values are; counts are whole numbers.  [default: from the data]",
        later=True,
    )
    standardize: bool = option(
        False,
        "Scale each entry to mean 0 and standard deviation 1 over the training data.",
        later=True,
    )

    def _check(self) -> None:
        given = bool(self.dataset.strip())
        require("dataset", self.dataset, given, f"the name of a data set or of a {_FILES} file")
        if self.test_dataset is not None:
            ok = _is_file(self.test_dataset)
            require("test_dataset", self.test_dataset, ok, f"the path of a {_FILES} file")
        if self.test_fraction is not None:
            ok = 0.0 < self.test_fraction < 1.0
            require("test_fraction", self.test_fraction, ok, "a number between 0 and 1")
        # Of NumPy's generator whose numbers stay the same in all versions.
        ok = 0 <= self.split_seed < 2**32
        require("split_seed", self.split_seed, ok, f"a whole number from 0 to {2**32 - 1}")
        self._check_combination()
        for name in ("dataset", "test_dataset"):
            path = getattr(self, name)
            if path is not None and _is_file(path):
                object.__setattr__(self, name, str(absolute(path, name)))

    def _check_combination(self) -> None:
        if None not in (self.test_dataset, self.test_fraction):
            raise SMVIError(
                "is not allowed beside a file of test data",
                field="test_fraction",
                value=self.test_fraction,
                remedy="leave out this or {test_dataset}",
            )
        for name in ("test_dataset", "test_fraction", "label_column", "kind", "standardize"):
            value = getattr(self, name)
            if value not in (None, False) and not self.is_file:
                raise SMVIError(
                    f"is for files, and {self.dataset} has its own",
                    field=name,
                    value=value,
                    remedy="leave it out, or give a file as {dataset}",
                )

    @property
    def is_file(self) -> bool:
        """Whether the data are a file of the user's."""
        return _is_file(self.dataset)


def _is_file(name: str) -> bool:
    return Path(name).suffix in FILE_SUFFIXES
