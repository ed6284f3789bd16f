"""Trainings that several processes of this machine share, and what they report."""

import dataclasses
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.forked import ForkedProcess
from tests.support.ports import free_ports
from tests.support.runs import CONFIG
from tfp_smvi.config import RunConfig

__all__ = [
    "MIXED",
    "SHARED",
    "STEERED",
    "STEERED_FIRST",
    "STOPPED",
    "start_from",
    "start_processes",
    "train_mirrored",
]

# 25 steps of an epoch; gradients are clipped, and weights decay.
_SMALL = {"batch_size": 56, "epochs": 2, "clip_norm": 2.0, "lam_warmup_steps": 20}
SHARED = dataclasses.replace(
    CONFIG, train=dataclasses.replace(CONFIG.train, weight_decay=0.01, **_SMALL)
)
# lam follows a divergence that the chief measures. The warm-up is planned by the first epochs.
STEERED = dataclasses.replace(
    CONFIG,
    train=dataclasses.replace(
        CONFIG.train,
        lam=0.0,
        max_divergence=20.0,
        **_SMALL | {"epochs": 8, "lam_warmup_steps": None},
    ),
)
STEERED_FIRST = dataclasses.replace(STEERED, train=dataclasses.replace(STEERED.train, epochs=4))
# No epoch improves by 1000 nats: it ends after two of them.
STOPPED = dataclasses.replace(
    SHARED,
    train=dataclasses.replace(
        SHARED.train,
        lam=0.0,
        epochs=5,
        early_stopping="test.elbo",
        patience=1,
        min_delta=1000.0,
    ),
)
MIXED = dataclasses.replace(SHARED, train=dataclasses.replace(SHARED.train, seed=7))


def start_processes(number: int, folder: Path, cases: Sequence[str]) -> list[ForkedProcess]:
    """Starts processes that take the cases of `_CASES` one after the other, in a folder."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(number)]
    environments = (
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        for rank in range(number)
    )
    return [
        ForkedProcess(
            _share, folder, rank, cases, env=os.environ | {"TF_CONFIG": json.dumps(environment)}
        )
        for rank, environment in enumerate(environments)
    ]


def start_from(run_dir: Path) -> RunConfig:
    """SHARED with the weights of a run, of which the decoder stays."""
    train = dataclasses.replace(SHARED.train, init_from=str(run_dir), freeze="decoder")
    return dataclasses.replace(SHARED, train=train)


def train_mirrored(folder: Path, number: int) -> None:
    """Trains SHARED in this process on virtual devices."""
    import tensorflow as tf

    from tfp_smvi.training.distributed import connect_devices

    (cpu,) = tf.config.list_physical_devices("CPU")
    virtual = [tf.config.LogicalDeviceConfiguration()] * number
    tf.config.set_logical_device_configuration(cpu, virtual)
    _fit(SHARED, folder / "mirrored", connect_devices("all"))


def _share(folder: Path, rank: int, cases: Sequence[str]) -> None:
    from tfp_smvi.training.distributed import connect_devices

    devices = connect_devices()
    for case in cases:
        _CASES[case](folder / case, rank, devices)


def _fit(config: RunConfig, run_dir: Path, devices: Any) -> None:
    from tfp_smvi.core.errors import SMVIError
    from tfp_smvi.data import load_dataset
    from tfp_smvi.training.loop import fit

    try:
        fit(config, load_dataset("digits"), run_dir, devices=devices)
    except SMVIError as error:
        print(error)


def _shared(run_dir: Path, rank: int, devices: Any) -> None:
    _fit(SHARED, run_dir, devices)


def _resumed(run_dir: Path, rank: int, devices: Any) -> None:
    """Half of it, and the rest as another command would; the chief alone sees the run directory.

    The warm-up of the second half is that of the first, which the run directory holds.
    """
    run_dir = run_dir if devices.is_chief else run_dir / "elsewhere"
    _fit(STEERED_FIRST, run_dir, devices)
    _fit(STEERED, run_dir, devices)


def _started(run_dir: Path, rank: int, devices: Any) -> None:
    """From the weights of the first case."""
    _fit(start_from(run_dir.with_name("shared")), run_dir, devices)


def _mixed(run_dir: Path, rank: int, devices: Any) -> None:
    """Each process with settings of its own."""
    _fit(MIXED if rank else SHARED, run_dir, devices)


def _stopped(run_dir: Path, rank: int, devices: Any) -> None:
    """Early stopping ends it, and the same command trains no further."""
    _fit(STOPPED, run_dir, devices)
    _fit(STOPPED, run_dir, devices)


def _killed(run_dir: Path, rank: int, devices: Any) -> None:
    """The last process dies in the second epoch."""
    from tfp_smvi.training.trainer import Trainer

    if rank == devices.num_processes - 1:
        train = Trainer.train

        def dying(trainer: Trainer, *arguments: Any) -> Any:
            if trainer.step >= 25:  # the first epoch is saved
                os.kill(os.getpid(), signal.SIGKILL)
            return train(trainer, *arguments)

        Trainer.train = dying  # type: ignore[method-assign]
    _fit(SHARED, run_dir, devices)


_CASES: Mapping[str, Callable[[Path, int, Any], None]] = {
    "shared": _shared,
    "resumed": _resumed,
    "started": _started,
    "stopped": _stopped,
    "mixed": _mixed,
    "killed": _killed,
}
