"""How a training begins: with the model of its configuration, and with weights of another run."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfp_smvi.config import RunConfig
from tfp_smvi.core.errors import SMVIError, name_fields
from tfp_smvi.core.records import encode
from tfp_smvi.core.runtime import environment
from tfp_smvi.data import Dataset
from tfp_smvi.data.standardization import Standardization
from tfp_smvi.models.protocol import TrainableModel
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.checkpoint import list_checkpoints
from tfp_smvi.runs.directory import RunDirectory, read_run
from tfp_smvi.runs.loading import LoadedRun, load_run
from tfp_smvi.runs.models import given_model, make_model, weights_digest
from tfp_smvi.runs.records import DataRecord, RunRecord, SourceRecord
from tfp_smvi.training.devices import Devices
from tfp_smvi.training.reporter import TrainingReporter

__all__ = ["Start", "begin"]

# The settings that the other network alone depends on.
_OF_ENCODER = {"posterior", "flow_layers", "flow_transform", "missing"}
_OF_DECODER = {"likelihood", "num_categories"}
# How far the means of an entry may be apart in standard deviations, or the logarithms of these,
# without a doubt: more than between two random parts of 800 examples of the same data, where 4
# standard errors of the difference of two means are 0.2.
APART = 0.2


class Start(NamedTuple):
    """What a training begins with.

    Attributes:
        model: the model, with the weights of its initialization or of another run.
        record: the run as config.json describes it.
    """

    model: TrainableModel
    record: RunRecord


def begin(
    config: RunConfig,
    dataset: Dataset,
    run_dir: Path,
    model: TrainableModel | None,
    reporter: TrainingReporter,
    *,
    fresh: bool,
    devices: Devices,
) -> Start:
    """Makes the model and describes the run.

    Args:
        config: the configuration, complete.
        dataset: the data.
        run_dir: the run directory.
        model: a model that was made in Python; None for that of the configuration.
        reporter: receives notes and warnings.
        fresh: whether an existing run in run_dir will be deleted.
        devices: where the model is; of several processes the chief alone reads weights, which it
            hands to the others later.

    Raises:
        SMVIError: the model cannot be made, or the weights to start from do not fit.
    """
    shape = tuple(dataset.image_shape)
    if model is None:
        with devices.scope():
            made = make_model(config, shape, run_dir, reporter.note)
    else:
        made = given_model(model, config)
    source = None
    if isinstance(made.model, VAE):
        made.model.frozen = config.train.freeze
    scale = dataset.standardization
    if isinstance(made.model, VAE) and devices.is_chief:
        source = _start_from_source(made.model, config, run_dir, reporter, scale, fresh=fresh)
    host = environment()
    data = DataRecord(dataset.fingerprint, shape, dataset.kind, scale is not None)
    record = RunRecord(config, data, host.versions, host.machine, code=made.code, source=source)
    return Start(made.model, record)


def _start_from_source(
    model: VAE,
    config: RunConfig,
    run_dir: Path,
    reporter: TrainingReporter,
    scale: Standardization | None,
    *,
    fresh: bool,
) -> SourceRecord | None:
    """Gives a model the weights of the run `init_from`, or those of one network that is frozen.

    A training that has a checkpoint needs that run no more.

    Args:
        model: the model, which the weights are assigned to.
        config: the configuration, complete.
        run_dir: the run directory.
        reporter: receives notes and warnings.
        scale: how the data are standardized; None if they are not.
        fresh: whether an existing run in run_dir will be deleted.

    Returns:
        The source; None if the configuration names none.

    Raises:
        SMVIError: it cannot be loaded, it does not fit, or it has changed since this run began.
    """
    if config.train.init_from is None:
        return None
    path, old_record = Path(config.train.init_from), None
    if path == run_dir.resolve():
        raise _misfit(config, "is the directory of this run", "give another run")
    if not fresh and (run_dir / "config.json").exists():
        old_record = read_run(run_dir).source
        if old_record is not None and list_checkpoints(RunDirectory(run_dir).checkpoints):
            return old_record
    _require_trained(path, config)

    def warn(line: str) -> None:
        reporter.warn(f"{path}: {name_fields(line)}")

    source = load_run(path, note=reporter.note, warn=warn)
    _assign(model, source, config, standardized=scale is not None)
    if model.frozen and scale is not None and source.standardization is not None:
        for doubt in _doubts_of_units(source.standardization, scale):
            warn(doubt)
    record = SourceRecord(str(path), source.step, weights_digest(source.model.named_variables))
    if old_record is not None and old_record.weights != record.weights:
        problem = "has been trained further since this run began"
        raise _misfit(config, problem, "start over with {fresh}")
    return record


def _require_trained(path: Path, config: RunConfig) -> None:
    """Raises SMVIError, one of the setting, unless there is a run with a checkpoint."""
    if not (path / "config.json").exists():
        raise _misfit(config, "holds no run: it has no config.json", "give a run directory")
    if not list_checkpoints(RunDirectory(path).checkpoints):
        raise _misfit(config, "has no checkpoint yet", "train it first, or give another run")


def _assign(model: VAE, source: LoadedRun, config: RunConfig, *, standardized: bool) -> None:
    """Assigns the weights that are taken; the other ones stay as they are."""
    taken = {
        name: variable
        for name, variable in model.named_variables.items()
        if model.frozen is None or name.startswith("decoder/") == (model.frozen == "decoder")
    }
    problems = _differences(source, model, config)
    if model.frozen and (source.standardization is not None) != standardized:
        here, there = ("", "not ") if standardized else ("not ", "")
        problems.append(f"x is {there}standardized there and {here}standardized here")
    given = source.model.named_variables
    problems = problems or [
        f"{name} has the shape {list(given[name].shape)} there and {list(variable.shape)} here"
        if name in given
        else f"{name} does not exist there"
        for name, variable in taken.items()
        if name not in given or given[name].shape != variable.shape
    ]
    if problems:
        problem = f"does not fit ({'; '.join(problems[:3])})"
        raise _misfit(config, problem, "give its settings, or another run")
    for name, variable in taken.items():
        variable.assign(given[name])


def _doubts_of_units(there: Standardization, here: Standardization) -> Iterator[str]:
    """A doubt about the entry whose standardization differs most, if it differs much."""
    shift = np.abs(there.mean - here.mean) / here.stddev
    scaling = np.abs(np.log(there.stddev / here.stddev))
    apart = np.maximum(shift, scaling).reshape(-1)
    entry = int(apart.argmax())
    if apart[entry] > APART:
        means = [f"{scale.mean.reshape(-1)[entry]:.6g}" for scale in (there, here)]
        stddevs = [f"{scale.stddev.reshape(-1)[entry]:.6g}" for scale in (there, here)]
        yield (
            f"the frozen network is in units of its own data. Entry {entry} has a mean of "
            f"{means[0]} and a standard deviation of {stddevs[0]} there, and {means[1]} and "
            f"{stddevs[1]} here."
        )


def _differences(source: LoadedRun, model: VAE, config: RunConfig) -> list[str]:
    """One line for each setting of the networks that differs."""
    if not isinstance(source.model, VAE):
        return ["its model was given in Python"]
    free = {"decoder": _OF_ENCODER, "encoder": _OF_DECODER}.get(model.frozen or "", set())
    lines = [
        f"{field.name}: {encode(there)} there, {encode(here)} here"
        for field in dataclasses.fields(config.model)
        if field.name not in free
        and (there := getattr(source.config.model, field.name))
        != (here := getattr(config.model, field.name))
    ]
    inputs = [m.likelihood.encoder_input for m in (source.model, model)]
    if model.frozen == "encoder" and inputs[0] is not inputs[1]:
        lines.append(
            f"likelihood: {source.config.model.likelihood} there, {config.model.likelihood} here, "
            "and the encoder sees counts by their logarithm"
        )
    shapes = source.model.image_shape, model.image_shape
    if shapes[0] != shapes[1]:
        lines.append(f"shape of x: {list(shapes[0])} there, {list(shapes[1])} here")
    return lines


def _misfit(config: RunConfig, problem: str, remedy: str) -> SMVIError:
    return SMVIError(problem, field="init_from", value=config.train.init_from, remedy=remedy)
