"""MNIST, the default: its original files, which ship with the package, as TFDS prepares them."""

from pathlib import Path

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data.dataset import Dataset, Progress, check_contents
from tfp_smvi.data.tfds_sets import load_tfds

__all__ = ["load_mnist"]

PACKAGED_DIR = Path(__file__).parent / "mnist"
FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)

# Of the pixels and labels in the order of TensorFlow Datasets' mnist 3.0.1.
FINGERPRINT = "1bfbfef01f58e2c117e6f19cb62c856db816b5226d04f3db3f7adf30605ac933"


def load_mnist(data_dir: Path, progress: Progress) -> Dataset:
    """Loads MNIST, 60000 to train and 10000 to test: uint8 [n, 28, 28, 1]; needs no network.

    Args:
        data_dir: where TensorFlow Datasets keeps prepared data.
        progress: receives a line before the data are prepared, which takes some 15 s, once.

    Raises:
        SMVIError: a packaged or prepared file is missing or damaged, or data_dir cannot be written.
    """
    missing = [name for name in FILES if not (PACKAGED_DIR / name).is_file()]
    if missing:
        raise SMVIError(
            f"the packaged file {PACKAGED_DIR / missing[0]} is missing",
            remedy="install tfp-smvi again",
        )
    dataset = load_tfds("mnist", data_dir, progress, packaged_dir=PACKAGED_DIR)
    return check_contents(dataset, FINGERPRINT, f"delete {data_dir / 'mnist'} and run again")
