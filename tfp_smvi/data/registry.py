"""The data sets by name, and how they are found and loaded."""

import difflib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tfp_smvi.config import DataConfig
from tfp_smvi.core.errors import NotFoundError, SMVIError
from tfp_smvi.core.paths import expand_home
from tfp_smvi.data.dataset import Dataset, Progress, default_likelihood
from tfp_smvi.data.digits import load_digits
from tfp_smvi.data.file_data import load_files
from tfp_smvi.data.mnist import load_mnist
from tfp_smvi.data.tfds_sets import load_tfds, tfds_names

__all__ = ["DATASETS", "DatasetEntry", "default_data_dir", "is_prepared", "load_dataset"]


@dataclass(frozen=True)
class DatasetEntry:
    """What is known about a data set without loading it.

    Attributes:
        loader: loads the set, given the data directory and a receiver of progress lines.
        description: one line.
        image_shape: (height, width, channels).
        num_train: the number of examples to train on.
        num_test: the number of examples to evaluate on.
        num_classes: the number of classes that occur.
        licence: the licence of the examples, or what is known about it.
        source: "packaged" (in this package), "scikit-learn" (in that package) or "download".
    """

    loader: Callable[[Path, Progress], Dataset]
    description: str
    image_shape: tuple[int, int, int]
    num_train: int
    num_test: int
    num_classes: int
    licence: str
    source: str = "download"

    @property
    def default_likelihood(self) -> str:
        """The likelihood of a model of this set, unless another is chosen."""
        return default_likelihood("intensities", self.image_shape)

    @property
    def needs_preparation(self) -> bool:
        """Whether the first use puts files into the data directory."""
        return self.source != "scikit-learn"

    @property
    def needs_download(self) -> bool:
        """Whether the first use needs a network."""
        return self.source == "download"


DATASETS: dict[str, DatasetEntry] = {
    "mnist": DatasetEntry(
        load_mnist, "handwritten digits", (28, 28, 1), 60000, 10000, 10, "CC BY-SA 3.0", "packaged"
    ),
    "digits": DatasetEntry(
        load_digits,
        "small handwritten digits",
        (8, 8, 1),
        1437,
        360,
        10,
        "CC BY 4.0",
        "scikit-learn",
    ),
    "fashion_mnist": DatasetEntry(
        partial(load_tfds, "fashion_mnist"),
        "articles of clothing",
        (28, 28, 1),
        60000,
        10000,
        10,
        "MIT",
    ),
    "kmnist": DatasetEntry(
        partial(load_tfds, "kmnist"),
        "cursive Japanese",
        (28, 28, 1),
        60000,
        10000,
        10,
        "CC BY-SA 4.0",
    ),
    "emnist/letters": DatasetEntry(
        partial(load_tfds, "emnist/letters"),
        "handwritten letters",
        (28, 28, 1),
        88800,
        14800,
        26,  # TensorFlow Datasets declares 37
        "not stated",
    ),
    "emnist/balanced": DatasetEntry(
        partial(load_tfds, "emnist/balanced"),
        "letters and digits",
        (28, 28, 1),
        112800,
        18800,
        47,
        "not stated",
    ),
    "omniglot": DatasetEntry(
        partial(load_tfds, "omniglot"),
        "characters of 50 scripts",
        (105, 105, 3),
        19280,
        13180,
        1623,
        "MIT",
    ),
    "cifar10": DatasetEntry(
        partial(load_tfds, "cifar10"),
        "photographs of things",
        (32, 32, 3),
        50000,
        10000,
        10,
        "not stated",
    ),
    "svhn_cropped": DatasetEntry(
        partial(load_tfds, "svhn_cropped"),
        "house numbers",
        (32, 32, 3),
        73257,
        26032,
        10,
        "non-commercial",
    ),
}


def load_dataset(
    name: str | Path | DataConfig,
    data_dir: str | Path | None = None,
    *,
    progress: Progress = lambda line: None,
) -> Dataset:
    """Loads a data set by name, preparing it at its first use.

    Args:
        name: a key of DATASETS, any image set of TensorFlow Datasets ("emnist/digits"), or the path
            of a file, .npz, .npy, .csv or .parquet; a DataConfig, which says more about files.
        data_dir: where prepared data are kept; None for default_data_dir().
        progress: receives a line for a person before slow work, such as a download.

    Raises:
        SMVIError: there is no such set, or it cannot be prepared or read.
    """
    config = name if isinstance(name, DataConfig) else DataConfig(os.fspath(name))
    name = config.dataset
    if config.is_file:
        dataset = Dataset(config.dataset, **load_files(config)._asdict(), config=config)
        for note in dataset.notes:
            progress(note)
        return dataset
    if name in DATASETS:
        entry = DATASETS[name]
        directory = _directory(data_dir) if entry.needs_preparation else Path()
        return entry.loader(directory, progress)
    set_names = tfds_names()
    # Other forms of a name stand for remote namespaces, paths and old versions.
    if re.fullmatch(r"\w+(/[\w.\-]+)?", name) and name.split("/", maxsplit=1)[0] in set_names:
        return load_tfds(name, _directory(data_dir), progress)
    close = difflib.get_close_matches(name.lower(), {*DATASETS, *set_names})
    hint = f" (did you mean {' or '.join(close)}?)" if close else ""
    raise NotFoundError(
        f"there is no data set {name!r}{hint}",
        remedy="run `tfp-smvi datasets` for a list, or give the path of a file",
    )


def default_data_dir() -> Path:
    """Where prepared data are kept: TFP_SMVI_DATA_DIR, or else TensorFlow Datasets' folder.

    Raises:
        SMVIError: neither is set, and this user has no home directory.
    """
    configured = os.environ.get("TFP_SMVI_DATA_DIR") or os.environ.get("TFDS_DATA_DIR")
    if configured:
        return expand_home(configured, "data_dir")
    try:
        return expand_home("~/tensorflow_datasets", "data_dir")
    except SMVIError as error:
        raise SMVIError(
            "has no default, because this user has no home directory",
            field="data_dir",
            remedy="give {data_dir}, or set TFP_SMVI_DATA_DIR",
        ) from error


def is_prepared(name: str, data_dir: str | Path | None = None) -> bool:
    """Whether a set of DATASETS loads without download or preparation; needs no TensorFlow."""
    if not DATASETS[name].needs_preparation:
        return True
    # <data_dir>/<name>/<version>/: the version starts with a digit, an unfinished one with
    # "incomplete".
    return any(_directory(data_dir).glob(f"{name}/[0-9]*/dataset_info.json"))


def _directory(data_dir: str | Path | None) -> Path:
    return default_data_dir() if data_dir is None else expand_home(data_dir, "data_dir")
