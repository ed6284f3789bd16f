"""Reading a trained run back."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tfp_smvi.config import CONSTRAINTS, Kind, RunConfig
from tfp_smvi.core.errors import SMVIError, name_fields
from tfp_smvi.core.runtime import require_float32
from tfp_smvi.core.warnings import warn as show_warning
from tfp_smvi.data import Dataset, load_dataset
from tfp_smvi.data.standardization import Standardization
from tfp_smvi.models.protocol import TrainableModel
from tfp_smvi.runs.checkpoint import (
    Checkpoint,
    list_steps,
    read_checkpoint,
    require_run,
    restore_checkpoint,
)
from tfp_smvi.runs.data_file import read_data_file
from tfp_smvi.runs.directory import RunDirectory, read_run
from tfp_smvi.runs.models import RunModel, given_model, make_model
from tfp_smvi.runs.records import EpochRecord, RunRecord
from tfp_smvi.runs.tables import Row, history_rows
from tfp_smvi.runs.warnings import final_warnings, training_warnings

__all__ = ["OF_TRAINING", "LoadedRun", "load_data_of", "load_run"]

# How the names of arrays begin that a checkpoint holds for the training alone.
OF_TRAINING = ("optimizer/", "learner/", "weight/")


class LoadedRun(NamedTuple):
    """A run at one of its checkpoints.

    Attributes:
        config: the configuration, complete.
        model: the model, with its weights: a `tfp_smvi.VAE`, or the one that was given.
        step: the training steps taken.
        history: the finished epochs, as in metrics.jsonl.
        data_fingerprint: the fingerprint of the data that it was trained on.
        kind: what their values are; None if a version of this program trained it that did not
            record this.
        names: the names of the entries of vectors, or None.
        standardization: how the data were standardized, or None if they were not.
        warnings: a line for each newer checkpoint that is damaged, for what the training met, such
            as doubts about its data, and for what it lacks; settings are named in braces, for
            `name_fields`.
        image_shape: the shape of one x.
    """

    config: RunConfig
    model: TrainableModel
    step: int
    history: tuple[EpochRecord, ...]
    data_fingerprint: str
    kind: Kind | None
    names: tuple[str, ...] | None = None
    standardization: Standardization | None = None
    warnings: tuple[str, ...] = ()
    image_shape: tuple[int, ...] = ()

    def __repr__(self) -> str:
        """Such as "LoadedRun(mnist, lam 0.5, 15 epochs, test ELBO -99.37; VAE(...))"."""
        train = self.config.train
        aims = {name: getattr(train, name) for name in CONSTRAINTS}
        given = {name: value for name, value in aims.items() if value is not None}
        aim = ", ".join(
            f"{name} {value:g}" for name, value in (given or {"lam": train.lam}).items()
        )
        parts = [self.config.data.dataset, aim, f"{len(self.history)} epochs"]
        if self.history:
            parts.append(f"test ELBO {self.history[-1].test.elbo:.2f}")
        warned = f"; {len(self.warnings)} warnings" if self.warnings else ""
        return f"LoadedRun({', '.join(parts)}; {self.model!r}{warned})"

    def rows(self) -> list[Row]:
        """A row for each epoch, for `pandas.DataFrame(run.rows())`: epoch, ..., test_elbo, ..."""
        return history_rows(self.history)

    @property
    def latent_dim(self) -> int:
        """The size of z, of a model that was given in Python, too."""
        return int(self.model.prior.event_shape[-1])

    @property
    def real_valued(self) -> bool | None:
        """Whether values may be outside [0, 1]; None if a run does not record it."""
        return None if self.kind is None else self.kind != "intensities"


def load_run(
    path: Path | str,
    epoch: int | None = None,
    *,
    model: TrainableModel | None = None,
    note: Callable[[str], None] = lambda line: None,
    warn: Callable[[str], None] | None = None,
) -> LoadedRun:
    """Loads the trained model of a run directory, in float32.

    If the run's model is made by a function of a user's, its module is imported and runs.

    Args:
        path: the run directory.
        epoch: the finished epoch, counted from 1, whose checkpoint to load; None for the newest
            checkpoint.
        model: for a run of `fit(..., model=...)`: such a model, which gets the weights.
        note: receives one line on the code that is imported, before it is.
        warn: is called with each of the run's `warnings`; None for a UserWarning.

    Raises:
        SMVIError: there is no run, no checkpoint yet, none of that epoch, none that can be read, or
            it is not of the run that config.json describes; its model cannot be made; or this is
            inside a graph.
    """
    require_float32()
    lines: list[str] = []

    def add(line: str) -> None:
        lines.append(line)
        if warn is None:
            show_warning([name_fields(line)])
        else:
            warn(line)

    run = RunDirectory(Path(path))
    record = _read_record(run, path)
    checkpoint = restore_checkpoint(run.checkpoints, add)
    if checkpoint is None:
        raise SMVIError(f"{path} has no checkpoint yet", remedy="train it with tfp-smvi train")
    if epoch is not None:
        checkpoint = _of_epoch(run, checkpoint, epoch)
    # On the way, lam is expected to grow.
    lacks = () if epoch is not None else _lacks(record.config, checkpoint)
    for line in (*record.warnings, *lacks):
        if line not in lines:
            add(line)
    config, data = record.config, record.data
    made = _model_of(record, run.path, model, note)
    if record.code and made.code and (change := record.code.change(made.code)):
        add(change)
    _assign(made.model, checkpoint, record, run.path)
    names, scale = read_data_file(run.data, data.image_shape, data.standardized)
    return LoadedRun(
        config=config,
        model=made.model,
        step=checkpoint.step,
        history=checkpoint.state.history,
        data_fingerprint=data.fingerprint,
        kind=data.kind,
        names=names,
        standardization=scale,
        warnings=tuple(lines),
        image_shape=data.image_shape,
    )


def _read_record(run: RunDirectory, path: Path | str) -> RunRecord:
    """Reads config.json, which names the likelihood that the data were given."""
    record = read_run(run.path)
    if record.config.model.likelihood is None:
        raise SMVIError(
            f"config.json of {path} names no likelihood", remedy="restore it, or train again"
        )
    return record


def _lacks(config: RunConfig, checkpoint: Checkpoint) -> tuple[str, ...]:
    """What a training lacks that ends at a checkpoint."""
    history = checkpoint.state.history
    if not history:
        return training_warnings(config, checkpoint.step)
    return final_warnings(config, history[-1], checkpoint.step)


def _model_of(
    record: RunRecord, run_dir: Path, model: TrainableModel | None, note: Callable[[str], None]
) -> RunModel:
    """The model that a run was trained with, whatever its weights are."""
    if model is not None:
        return given_model(model, record.config)
    if record.code is not None and record.config.model.model is None:
        raise SMVIError(
            f"{run_dir} was trained on a model that was given in Python, {record.code.name}",
            remedy="give such a model in Python: load_run(run_dir, model=...)",
        )
    return make_model(record.config, record.data.image_shape, run_dir, note)


def _assign(
    model: TrainableModel, checkpoint: Checkpoint, record: RunRecord, run_dir: Path
) -> None:
    """Sets a model's weights; the optimizer's state and the weights without averaging stay out."""
    arrays = {name: a for name, a in checkpoint.arrays.items() if not name.startswith(OF_TRAINING)}
    variables = model.named_variables
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    require_run(checkpoint._replace(arrays=arrays), record, shapes, run_dir)
    for name, variable in variables.items():
        variable.assign(arrays[name])


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
        data_dir: folder of prepared data sets; None for the default.
        dataset: the data themselves, which are then only checked: for data without a known name.
        progress: is called with one line before slow work.

    Raises:
        SMVIError: the data are missing, or are not those that the model was trained on.
    """
    name = run.config.data.dataset
    if dataset is None:
        dataset = _load_by_name(run, data_dir, progress)
    if (dataset.standardization is None) != (run.standardization is None):
        standardized = "not " if dataset.standardization is None else ""
        raise SMVIError(
            f"the data {name} are {standardized}standardized, other than those that the model was "
            "trained on",
            remedy="load them as for the training",
        )
    if dataset.fingerprint != run.data_fingerprint:
        raise SMVIError(
            f"the data {name} are not those that the model was trained on: their fingerprint is "
            f"{dataset.fingerprint[:12]}, and {run.data_fingerprint[:12]} in the run",
            remedy="give those data, with {data_dir} if they are elsewhere, or train on these",
        )
    return dataset


def _load_by_name(
    run: LoadedRun, data_dir: Path | None, progress: Callable[[str], None]
) -> Dataset:
    name = run.config.data.dataset
    config = run.config.data
    try:
        dataset = load_dataset(config, data_dir, progress=progress)
        if config.is_file and run.kind not in (None, dataset.kind):
            # Version 0.1 took integers [n, d] for grey levels, and whole floats for real values.
            with contextlib.suppress(SMVIError):
                dataset = load_dataset(dataclasses.replace(config, kind=run.kind), data_dir)
        return dataset
    except SMVIError as error:
        if run.config.data.is_file and not Path(name).exists():
            raise SMVIError(
                f"the run was trained on {name}, which no longer exists",
                remedy='restore it, or correct "dataset" in the run\'s config.json: the content is '
                "checked",
            ) from error
        raise


def _of_epoch(run: RunDirectory, newest: Checkpoint, epoch: int) -> Checkpoint:
    """Reads the checkpoint at the end of an epoch."""
    steps = {record.epoch: record.step for record in newest.state.history}
    saved_steps = set(list_steps(run.checkpoints))
    saved = [number for number, step in steps.items() if step in saved_steps]
    if epoch not in saved:
        raise SMVIError(
            f"has no checkpoint in {run.path}, which has those of: "
            f"{', '.join(map(str, saved)) or 'none'}",
            field="epoch",
            value=epoch,
            remedy="give one of these; training with {keep_every} keeps more",
        )
    return newest if steps[epoch] == newest.step else read_checkpoint(run.checkpoints, steps[epoch])
