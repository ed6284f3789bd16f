"""The data sets: loaded by name, read by random access, fed to training and evaluation.

Importing this package imports only NumPy; TensorFlow, TensorFlow Datasets and scikit-learn are
imported by the call that needs them.
"""

from tfp_smvi.data.batches import eval_batches, train_batches
from tfp_smvi.data.dataset import Dataset
from tfp_smvi.data.registry import (
    DATASETS,
    DatasetEntry,
    default_data_dir,
    is_prepared,
    load_dataset,
)
from tfp_smvi.data.splits import ArraySplit, Split

__all__ = [
    "DATASETS",
    "ArraySplit",
    "Dataset",
    "DatasetEntry",
    "Split",
    "default_data_dir",
    "eval_batches",
    "is_prepared",
    "load_dataset",
    "train_batches",
]
