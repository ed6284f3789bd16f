"""What the end of each epoch needs of the test data: their batches, and the log with pictures."""

from collections.abc import Sequence

from tfp_smvi.config import RunConfig
from tfp_smvi.data import Dataset, eval_batches
from tfp_smvi.data.batches import EvalBatches
from tfp_smvi.data.test_batches import TEST_SEED
from tfp_smvi.models.protocol import TrainableModel
from tfp_smvi.runs.directory import RunDirectory
from tfp_smvi.runs.given_units import in_given_units
from tfp_smvi.runs.log import MetricsLog
from tfp_smvi.runs.records import EpochRecord

__all__ = ["open_log", "test_batches"]

TEST_BATCH = 1000
NUM_RECONSTRUCTIONS = 32


def test_batches(dataset: Dataset, config: RunConfig, size: int = TEST_BATCH) -> EvalBatches:
    """The test data in batches, always with the same bits."""
    binarize = config.model.likelihood == "bernoulli"
    return eval_batches(dataset.test, batch_size=size, seed=TEST_SEED, binarize=binarize)


def open_log(
    run: RunDirectory,
    config: RunConfig,
    history: Sequence[EpochRecord],
    model: TrainableModel,
    dataset: Dataset,
) -> MetricsLog:
    """Opens the log of a run at the epochs of its last checkpoint."""
    images = next(iter(test_batches(dataset, config, NUM_RECONSTRUCTIONS)))[1].numpy()
    scale = dataset.standardization
    images = images if scale is None else scale.undo(images)
    return MetricsLog(run, config, history, in_given_units(model, scale), images)
