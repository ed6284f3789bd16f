"""A run's directory: one run, one process, one configuration.

config.json      the configuration, the data's fingerprint, versions and machine
data.json        the names of the entries of x and how they were standardized, if they were
metrics.jsonl    one line per epoch
tensorboard/     the same as curves, with reconstructions, samples and settings
checkpoints/     see `checkpoint`
tracking.json    which runs of trackers it is; see `tfp_smvi.tracking`
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tfp_smvi.config import RunConfig
from tfp_smvi.core.errors import NotFoundError, SMVIError
from tfp_smvi.runs.checkpoint import list_checkpoints, list_steps
from tfp_smvi.runs.constraints import weight_name
from tfp_smvi.runs.records import RunRecord
from tfp_smvi.storage.atomic import sweep_partials, write_json
from tfp_smvi.storage.json_files import read_json
from tfp_smvi.storage.locks import hold_folder

__all__ = ["TRACKING", "RunDirectory", "read_run", "run_directory_name"]

# What was found about a run, and belongs to its weights.
_RESULTS = ("evaluation.*", "classification*.json", "convergence.*", "gallery.npz")
_CONFIG = "config.json"
# A run that starts over is another run of a tracker.
TRACKING = "tracking.json"


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
    def data(self) -> Path:
        """The file that says more about the data; see `tfp_smvi.runs.data_file`."""
        return self.path / "data.json"

    @property
    def metrics(self) -> Path:
        """The file with a line per epoch."""
        return self.path / "metrics.jsonl"

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        path: Path,
        record: RunRecord,
        *,
        fresh: bool,
        warn: Callable[[str], None],
        steps_per_epoch: int | None = None,
    ) -> Iterator["RunDirectory"]:
        """Opens a run directory for this process alone, and makes it if it does not exist.

        Args:
            path: the directory.
            record: the run, its configuration complete.
            fresh: whether to delete an existing run.
            warn: is called with one line if the run continues in another environment.
            steps_per_epoch: of the training; it shows whether the run has had more epochs than the
                configuration asks for.

        Yields:
            The open directory; its lock ends with the process.

        Raises:
            SMVIError: another process runs there, the directory holds another configuration, other
                data, a longer training or a link in place of a folder, or it cannot be written.
        """
        # The working directory may change while the run is open.
        run = cls(path.absolute())
        busy = SMVIError(
            f"{path} is in use by another process", remedy="wait for it or choose another {run_dir}"
        )
        with hold_folder(path, busy=busy, remedy="choose another {run_dir}"):
            run._require_no_links()
            if fresh:
                run._clear()
            lines: list[str] = []
            if (path / _CONFIG).exists():
                stored = read_run(run.path)
                run._check(record, stored, lines.append)
                run._check_length(record.config.train.epochs, steps_per_epoch)
                record = dataclasses.replace(record, warnings=stored.warnings)
            elif list_checkpoints(run.checkpoints):
                raise SMVIError(
                    f"{path} holds checkpoints but no config.json",
                    remedy="choose another {run_dir}, or delete them with {fresh}",
                )
            sweep_partials(path)
            run.checkpoints.mkdir(exist_ok=True)
            write_json(path / _CONFIG, record)
            for line in lines:
                run.add_warning(line)
                warn(line)
            yield run

    def add_warning(self, line: str) -> None:
        """Adds a line to the warnings of config.json, each of which is there once."""
        record = read_run(self.path)
        lines = tuple(dict.fromkeys((*record.warnings, line)))
        if lines != record.warnings:
            write_json(self.path / _CONFIG, dataclasses.replace(record, warnings=lines))

    def set_stopped(self, line: str) -> None:
        """Records in config.json why early stopping has ended the training."""
        write_json(self.path / _CONFIG, dataclasses.replace(read_run(self.path), stopped=line))

    def _require_no_links(self) -> None:
        """Refuses folders that are links, since files are written and deleted in them."""
        for folder in (self.checkpoints, *self._event_folders):
            if folder.is_symlink():
                raise SMVIError(
                    f"{folder} is a link, which may lead anywhere",
                    remedy="delete it; {run_dir} itself may be a link",
                )

    @property
    def _event_folders(self) -> tuple[Path, ...]:
        return (self.tensorboard, *(self.tensorboard / name for name in ("train", "test")))

    def _clear(self) -> None:
        """Deletes a run and its results; config.json goes last, so that a kill leaves a run."""
        files = "events.out.tfevents.*"
        events = [path for folder in self._event_folders for path in folder.glob(files)]
        results = [path for pattern in _RESULTS for path in self.path.glob(pattern)]
        for path in (
            *results,
            *list_checkpoints(self.checkpoints),
            *events,
            self.metrics,
            self.data,
            self.path / TRACKING,
            self.path / _CONFIG,
        ):
            path.unlink(missing_ok=True)

    def _check(self, given: RunRecord, stored: RunRecord, warn: Callable[[str], None]) -> None:
        """Compares the existing run with the requested one."""
        differences = stored.differences(given)
        if differences:
            raise SMVIError(
                f"{self.path} holds a run with another configuration ({'; '.join(differences)})",
                remedy="choose another {run_dir}, or delete that run with {fresh}",
            )
        if (stored.versions, stored.machine) != (given.versions, given.machine):
            warn(
                f"{self.path} was started with other versions, threads or another machine "
                "(see config.json): the run continues, but not bit for bit as it would have there."
            )
        if stored.code and given.code and (line := stored.code.change(given.code)):
            warn(line)

    def _check_length(self, epochs: int, steps_per_epoch: int | None) -> None:
        """Refuses to end a training at an epoch that it has passed already."""
        step = next(iter(list_steps(self.checkpoints)), 0)
        if steps_per_epoch is not None and step > epochs * steps_per_epoch:
            least = math.ceil(step / steps_per_epoch)
            raise SMVIError(
                f"is fewer than {self.path} has been trained for",
                field="epochs",
                value=epochs,
                remedy=f"give at least {least}, or start over with {{fresh}}",
            )


def read_run(path: Path) -> RunRecord:
    """Reads the config.json of the run in a directory.

    Raises:
        SMVIError: there is no run, or its config.json is damaged.
    """
    file = path / _CONFIG
    try:
        return RunRecord.from_json(read_json(file))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"{path} is not a run directory: it has no config.json",
            remedy="make one with tfp-smvi train",
        ) from error
    except (OSError, ValueError, SMVIError) as error:
        raise SMVIError(
            f"{file} cannot be read ({_reason(error)})",
            remedy="restore it, or start over with tfp-smvi train --fresh",
        ) from error


def _reason(error: Exception) -> str:
    """An error as words in parentheses."""
    return str(error).removesuffix(".")


def run_directory_name(config: RunConfig) -> str:
    """Returns the default name of a run: "mnist-lam0.5-seed0", "mnist-flow-lam0-seed0"."""
    dataset = config.data.dataset
    name = Path(dataset).stem if config.data.is_file else dataset.replace("/", "-")
    model, freeze, divergence = config.model, config.train.freeze, config.train.divergence
    kinds = [
        model.posterior if model.posterior != "diagonal" else None,
        model.architecture if model.architecture != "dense" else None,
        model.model and model.model.replace(":", "."),
        freeze and f"frozen-{freeze}",
        divergence if divergence != "fisher" else None,
    ]
    name = "-".join([name, *filter(None, kinds)])
    return f"{name}-{weight_name(config.train)}-seed{config.train.seed}"
