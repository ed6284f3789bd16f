"""scikit-learn's handwritten digits: 8 x 8 pixels, small enough for a first try and for tests."""

import importlib.util
from pathlib import Path

import numpy as np

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data.dataset import Dataset, Progress, check_contents
from tfp_smvi.data.splits import ArraySplit, content_fingerprint

__all__ = ["load_digits"]

# 20 % for the test. The copy that scikit-learn ships is the UCI set's test part, in its order: its
# last digits were written by other people than the first, like those of MNIST.
NUM_TRAIN = 1437

FINGERPRINT = "752bbed954b8ffecb6f7bec9a31be4a3fd2254cad1e3e5b7433cc25079e5685c"
REMEDY = "install another version of scikit-learn"


def load_digits(data_dir: Path, progress: Progress) -> Dataset:
    """Loads scikit-learn's digits, 1437 to train and 360 to test: float32 [n, 8, 8, 1].

    Args:
        data_dir: not used, the data ship with scikit-learn.
        progress: not used, loading takes milliseconds.

    Raises:
        SMVIError: the installed scikit-learn ships other contents.
    """
    del data_dir, progress
    values = np.loadtxt(_find_file(), np.float32, delimiter=",")
    # The grey levels are 0 to 16, so that this division is exact.
    pixels = values[:, :-1].reshape(-1, 8, 8, 1) / 16
    labels = values[:, -1].astype(np.int64)
    train = ArraySplit(pixels[:NUM_TRAIN], labels[:NUM_TRAIN])
    test = ArraySplit(pixels[NUM_TRAIN:], labels[NUM_TRAIN:])
    dataset = Dataset("digits", train, test, 10, content_fingerprint(train, test))
    return check_contents(dataset, FINGERPRINT, REMEDY)


def _find_file() -> Path:
    """The file of scikit-learn, which takes a second to import."""
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return path
    raise SMVIError("scikit-learn has no file of the digits", remedy=REMEDY)
