"""Reading a trained run back."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tfp_smvi.config import RunConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import Dataset, load_dataset
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.checkpoint import Checkpoint, list_steps, read_checkpoint, restore_checkpoint
from tfp_smvi.runs.directory import RunDirectory, read_run

__all__ = ["LoadedRun", "load_data_of", "load_run"]


class LoadedRun(NamedTuple):
    """A run as one of its checkpoints has it.

    Attributes:
        config: the configuration, complete.
        model: the model, with its weights.
        step: the training steps taken.
        history: the record of each finished epoch, as in metrics.jsonl.
        data_fingerprint: the fingerprint of the data that it was trained on.
        real_valued: whether those are any real numbers and not intensities in [0, 1]; None where an
            older version of this program trained it, which did not say.
    """

    config: RunConfig
    model: VAE
    step: int
    history: list[dict[str, Any]]
    data_fingerprint: str
    real_valued: bool | None


def load_run(
    path: Path | str, epoch: int | None = None, *, warn: Callable[[str], None] | None = None
) -> LoadedRun:
    """Loads the trained model of a run directory, in float32.

    Args:
        path: the run directory.
        epoch: the finished epoch, counted from 1, whose checkpoint to load; None for the newest
            checkpoint.
        warn: is called with one line for each newer checkpoint that is damaged; None for a
            UserWarning.

    Raises:
        SMVIError: there is no run, no checkpoint yet, none of that epoch, or none that can be read.
    """
    warn = warn or (lambda message: warnings.warn(message, stacklevel=4))
    run = RunDirectory(Path(path))
    config, details = read_run(run.path)
    checkpoint = restore_checkpoint(run.checkpoints, warn)
    if checkpoint is None:
        raise SMVIError(f"{path} has no checkpoint yet; train it with tfp-smvi train.")
    if epoch is not None:
        checkpoint = _of_epoch(run, checkpoint, epoch)
    model = VAE(config.model, tuple(details["data"]["image_shape"]), config.train.seed)
    for name, variable in model.named_variables.items():
        variable.assign(checkpoint.arrays[name])
    data, history = details["data"], checkpoint.info["history"]
    return LoadedRun(
        config, model, checkpoint.step, history, data["fingerprint"], data.get("real_valued")
    )


def load_data_of(
    run: LoadedRun,
    data_dir: Path | None = None,
    *,
    dataset: Dataset | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Dataset:
    """Loads the data that a run was trained on.

    Args:
        run: the run.
        data_dir: where prepared data sets live; None for the default.
        dataset: the data themselves, which are then checked only: for data that are known by no
            name.
        progress: is called with one line where there is slow work to do.

    Raises:
        SMVIError: the data are not there, or are not those that the model was trained on.
    """
    name = run.config.data.dataset
    if dataset is None:
        dataset = _load_by_name(run, data_dir, progress)
    if dataset.fingerprint != run.data_fingerprint:
        raise SMVIError(
            f"the data {name} are not those that the model was trained on: fingerprint "
            f"{dataset.fingerprint[:12]}, and {run.data_fingerprint[:12]} in the run; give those data, with "
            "--data-dir if they are elsewhere, or train on these."
        )
    return dataset


def _load_by_name(
    run: LoadedRun, data_dir: Path | None, progress: Callable[[str], None]
) -> Dataset:
    name = run.config.data.dataset
    try:
        return load_dataset(name, data_dir, progress=progress)
    except SMVIError as error:
        if run.config.data.is_file and not Path(name).exists():
            raise SMVIError(
                f'the run was trained on {name}, which is not there any more; put it there again, or correct "dataset" '
                "in the run's config.json: the content is checked."
            ) from error
        raise


def _of_epoch(run: RunDirectory, newest: Checkpoint, epoch: int) -> Checkpoint:
    """Reads the checkpoint at the end of an epoch."""
    steps = {record["epoch"]: record["step"] for record in newest.info["history"]}
    there = set(list_steps(run.checkpoints))
    saved = [number for number, step in steps.items() if step in there]
    if epoch not in saved:
        raise SMVIError(
            f"{run.path} has no checkpoint of epoch {epoch}, only of {', '.join(map(str, saved)) or 'none'}; "
            "to keep more of them train with --keep-every."
        )
    return newest if steps[epoch] == newest.step else read_checkpoint(run.checkpoints, steps[epoch])
