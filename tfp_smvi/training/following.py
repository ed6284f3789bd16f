"""A training on several devices: what all processes must agree on, and the part of the others."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from tfp_smvi.config import RunConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.runtime import environment
from tfp_smvi.core.signals import handle_stop_signals
from tfp_smvi.data import Dataset
from tfp_smvi.data.batches import explain_read_errors
from tfp_smvi.training.checks import FiniteCheck
from tfp_smvi.training.devices import Devices
from tfp_smvi.training.distributed import SeveralDevices, named_leaves
from tfp_smvi.training.results import FitResult, TrainingInterrupted
from tfp_smvi.training.start import Start
from tfp_smvi.training.steering import TrainingData
from tfp_smvi.training.trainer import Trainer

__all__ = ["agree_on_run", "follow", "share_state", "share_weight"]


def agree_on_run(
    devices: SeveralDevices, given: RunConfig, dataset: Dataset, complete: Callable[[], RunConfig]
) -> RunConfig:
    """Makes sure that all processes train the same.

    Args:
        devices: this process and the others.
        given: the configuration as the user gave it.
        dataset: the data.
        complete: returns the configuration with the plan of its run, which may depend on the run
            directory; the chief's is that of all processes.

    Raises:
        SMVIError: the batch cannot be divided, or a process has other settings, data or versions,
            which are named.
    """
    _require_agreement(devices, given, dataset)
    with devices.explaining_errors():
        text = json.dumps(complete().to_json()) if devices.is_chief else ""
        return RunConfig.from_json(json.loads(devices.text_of_chief(text)))


def follow(
    start: Start, dataset: Dataset, data: TrainingData, devices: SeveralDevices, run_dir: Path
) -> FitResult:
    """Takes the steps of the chief with it, from its checkpoint to the end of the training.

    Args:
        start: the model, made in the scope of the devices; its weights are those of the chief.
        dataset: the data.
        data: what the training takes of the training data.
        devices: this process and the others.
        run_dir: the run directory of the chief.

    Returns:
        The trained model, without a history.

    Raises:
        SMVIError: the objective is no longer finite, the data can no longer be read, or another
            process has ended.
        TrainingInterrupted: a process was asked to stop.
    """
    config = start.record.config
    train, steps_per_epoch = config.train, data.steps_per_epoch(config.train)
    check, signals = FiniteCheck(dataset.real_valued), list[int]()
    with (
        handle_stop_signals(signals.append, once=True),
        explain_read_errors(),
        devices.explaining_errors(),
    ):
        trainer = Trainer(start.model, train, steps_per_epoch, devices)
        share_state(trainer, devices)
        step, end = trainer.step, train.epochs * steps_per_epoch
        iterator = iter(data.batches(config, step))
        while step < end:
            count, signum = devices.agree(0, signals[-1] if signals else 0)
            if signum:
                devices.wait()
                raise TrainingInterrupted(signum, step)
            if not count:  # early stopping
                break
            check.steps(trainer.train(iterator, count), step, -1)
            step += count
            if step % steps_per_epoch == 0:
                share_weight(trainer, devices)
        devices.wait()
    return FitResult(start.model, (), run_dir)


def share_state(trainer: Trainer, devices: Devices) -> None:
    """Gives all processes the weights and the optimizer's state of the chief."""
    if devices.num_replicas == 1:
        return
    trainer.assign(devices.of_chief(trainer.arrays()))


def share_weight(trainer: Trainer, devices: Devices) -> None:
    """Gives all processes what the chief has measured for a multiplier, if there is one."""
    if devices.num_replicas == 1:
        return
    variables = trainer.weight.variables
    values = devices.of_chief({name: v.numpy() for name, v in variables.items()})
    for name, value in values.items():
        variables[name].assign(value)


def _require_agreement(devices: SeveralDevices, config: RunConfig, dataset: Dataset) -> None:
    size, number = config.train.batch_size, devices.num_replicas
    if size % number:
        fitting = [number * parts for parts in (size // number, size // number + 1) if parts]
        raise SMVIError(
            f"is not a multiple of the {number} devices that share it",
            field="batch_size",
            value=size,
            remedy=f"give {' or '.join(map(str, fitting))}",
        )
    versions = environment().versions
    devices.require_same(
        {
            "the data": dataset.fingerprint[:12],
            **named_leaves(dataclasses.asdict(config)),
            **{f"the version of {name}": version for name, version in versions.items()},
        }
    )
