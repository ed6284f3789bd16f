"""A run's directory: one run, one process, one configuration.

config.json      the configuration, the data's fingerprint, versions and machine
metrics.jsonl    one line per epoch
tensorboard/     the same as curves, with reconstructions and samples
checkpoints/     see `checkpoint`
"""

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfp_smvi.config import RunConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.runs.checkpoint import list_checkpoints, list_steps
from tfp_smvi.storage.atomic import sweep_partials, write_json
from tfp_smvi.storage.locks import hold_folder

__all__ = ["RunDirectory", "read_run", "run_directory_name", "with_epochs"]

_CONFIG = "config.json"


@dataclass(frozen=True)
class RunDirectory:
    """The paths of an open run directory."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """The folder of the event files."""
        return self.path / "tensorboard"

    @property
    def metrics(self) -> Path:
        """The file with a line per epoch."""
        return self.path / "metrics.jsonl"

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        path: Path,
        config: RunConfig,
        details: Mapping[str, Any],
        *,
        fresh: bool,
        warn: Callable[[str], None],
        steps_per_epoch: int | None = None,
    ) -> Iterator["RunDirectory"]:
        """Opens a run directory for this process alone, and makes it where there is none.

        Args:
            path: the directory.
            config: the configuration of the run, complete.
            details: JSON values to record beside it: "data" and the environment's.
            fresh: deletes the run that is there.
            warn: is called with one line where the run goes on in another environment.
            steps_per_epoch: of the training, which tells whether the run has had more epochs than
                are asked for.

        Yields:
            The open directory; its lock dies with the process.

        Raises:
            SMVIError: another process runs there, the directory holds another configuration, other
                data or a longer training, or it cannot be written.
        """
        run = cls(path)
        busy = SMVIError(
            f"{path} is in use by another process", remedy="wait for it or choose another {run_dir}"
        )
        with hold_folder(path, busy=busy, remedy="choose another {run_dir}"):
            if fresh:
                run._clear()
            if (path / _CONFIG).exists():
                run._check(config, details, warn)
                run._check_length(config.train.epochs, steps_per_epoch)
            elif list_checkpoints(run.checkpoints):
                raise SMVIError(
                    f"{path} holds checkpoints but no config.json; choose another --run-dir, or --fresh."
                )
            sweep_partials(path)
            run.checkpoints.mkdir(exist_ok=True)
            write_json(path / _CONFIG, {"config": config.to_json(), **details})
            yield run

    def _clear(self) -> None:
        """Deletes a run, and only a run: other files stay. config.json goes last, so that a kill leaves a run."""
        events = self.tensorboard.glob("events.out.tfevents.*")
        for path in (
            *list_checkpoints(self.checkpoints),
            *events,
            self.metrics,
            self.path / _CONFIG,
        ):
            path.unlink(missing_ok=True)

    def _check(
        self, config: RunConfig, details: Mapping[str, Any], warn: Callable[[str], None]
    ) -> None:
        """Compares a run that is there with the one that is asked for."""
        stored, recorded = read_run(self.path)
        stored = with_epochs(stored, config.train.epochs)
        if (
            stored.data.is_file and config.data.is_file
        ):  # it may have moved: the fingerprint says whether it is the same
            stored = dataclasses.replace(stored, data=config.data)
        differences = stored.differences(config)
        data, given = recorded.get("data", {}), details.get("data", {})
        if data != {name: given.get(name) for name in data}:
            differences.append(f"data: {data} here, {given} given")
        if differences:
            raise SMVIError(
                f"{self.path} holds a run with another configuration ({'; '.join(differences)}); "
                "choose another --run-dir, or delete that run with --fresh."
            )
        if {key: recorded.get(key) for key in ("versions", "machine")} != {
            key: details.get(key) for key in ("versions", "machine")
        }:
            warn(
                f"{self.path} was begun with other versions, threads or another machine "
                "(see config.json): the run goes on, but not bit for bit as it would have there."
            )

    def _check_length(self, epochs: int, steps_per_epoch: int | None) -> None:
        """Refuses to end a training where it has been already."""
        step = next(iter(list_steps(self.checkpoints)), 0)
        if steps_per_epoch is not None and step > epochs * steps_per_epoch:
            least = math.ceil(step / steps_per_epoch)
            raise SMVIError(
                f"epochs = {epochs} is fewer than {self.path} has been trained for; give at least {least}, or start "
                "over with --fresh."
            )


def with_epochs(config: RunConfig, epochs: int) -> RunConfig:
    """The same with another number of epochs, which makes no other run: no step depends on how many are to come."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=epochs))


def read_run(path: Path) -> tuple[RunConfig, dict[str, Any]]:
    """Reads the configuration of the run in a directory, and all that its config.json records beside it.

    Raises:
        SMVIError: there is no run, or its config.json is damaged.
    """
    file = path / _CONFIG
    try:
        recorded = json.loads(file.read_text(encoding="utf-8"))
        return RunConfig.from_json(recorded["config"]), recorded
    except FileNotFoundError as error:
        raise SMVIError(
            f"{path} is not a run directory: it has no config.json; make one with tfp-smvi train."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, SMVIError) as error:
        raise SMVIError(
            f"{file} cannot be read ({error}); restore it, or start over with tfp-smvi train --fresh."
        ) from error


def run_directory_name(config: RunConfig) -> str:
    """Returns the default name of a run, such as "mnist-lam0.5-seed0"."""
    dataset = config.data.dataset
    name = Path(dataset).stem if config.data.is_file else dataset.replace("/", "-")
    return f"{name}-lam{config.train.lam:g}-seed{config.train.seed}"
