"""Reading a trained run back."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

from tfp_smvi.checkpoint import restore_checkpoint
from tfp_smvi.config import RunConfig
from tfp_smvi.errors import SMVIError
from tfp_smvi.model import VAE
from tfp_smvi.run_directory import RunDirectory, read_run

__all__ = ["LoadedRun", "load_run"]


class LoadedRun(NamedTuple):
    """A run as its newest checkpoint has it.

    Attributes:
        config: the configuration, complete.
        model: the model, with its weights.
        step: the training steps taken.
        history: the record of each finished epoch, as in metrics.jsonl.
        data_fingerprint: the fingerprint of the data that it was trained on.
    """

    config: RunConfig
    model: VAE
    step: int
    history: list[dict[str, Any]]
    data_fingerprint: str


def load_run(path: Path | str) -> LoadedRun:
    """Loads the trained model of a run directory, in float32.

    Raises:
        SMVIError: there is no run, no checkpoint yet, or none that can be read.
    """
    run = RunDirectory(Path(path))
    config, details = read_run(run.path)
    checkpoint = restore_checkpoint(run.checkpoints, lambda message: warnings.warn(message, stacklevel=2))
    if checkpoint is None:
        raise SMVIError(f"{path} has no checkpoint yet; train it with tfp-smvi train.")
    model = VAE(config.model, tuple(details["data"]["image_shape"]), config.train.seed)
    for name, variable in model.named_variables.items():
        variable.assign(checkpoint.arrays[name])
    fingerprint = details["data"]["fingerprint"]
    return LoadedRun(config, model, checkpoint.step, checkpoint.info["history"], fingerprint)
