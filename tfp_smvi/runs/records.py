"""What a run logs and records: an epoch, and the run as config.json describes it."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

from tfp_smvi.config import Kind, RunConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.files import read_regular
from tfp_smvi.core.records import JSONObject, Record, encode
from tfp_smvi.core.runtime import Machine
from tfp_smvi.objectives.constraints import ConstrainedQuantity, Outcome
from tfp_smvi.storage.json_files import parse_json

__all__ = [
    "TEST_METRICS",
    "TRAIN_METRICS",
    "CodeRecord",
    "ConstraintRecord",
    "DataRecord",
    "EpochRecord",
    "Metrics",
    "RunRecord",
    "SourceRecord",
    "TrainMetrics",
    "TrainingState",
    "read_history",
]

# Of a metrics.jsonl, in bytes: a million epochs.
_MAX_HISTORY = 1_000_000_000


@dataclass(frozen=True)
class Metrics(Record):
    """Means over examples, in nats; NaN for what was not computed.

    Attributes:
        objective: ELBO - lam * divergence, with the lam that a warm-up has reached.
        elbo: the evidence lower bound.
        reconstruction: E_q[log p(x|z)].
        kl: KL(q(z|x), p(z)).
        divergence: D_SM(q(z|x), p(z|x)), squared nats per squared unit of z; not computed on
            training data at lam = 0.
    """

    objective: float
    elbo: float
    reconstruction: float
    kl: float
    divergence: float


@dataclass(frozen=True)
class TrainMetrics(Metrics):
    """The same on training data, and the global norm of the gradient.

    Attributes:
        gradient_norm: before clipping, the mean over steps.
    """

    gradient_norm: float = math.nan


TEST_METRICS = tuple(metric.name for metric in fields(Metrics))
TRAIN_METRICS = tuple(metric.name for metric in fields(TrainMetrics))


@dataclass(frozen=True)
class ConstraintRecord(Record):
    """What lam followed at the end of an epoch, on examples held out of the training.

    Attributes:
        quantity: what is bounded.
        asked: its bound.
        measured: its value, by the averaged weights.
        error: log(measured / asked); for an ELBO asked - measured. At most 0 where the bound is
            kept.
        outcome: how the training ends if it ends here.
    """

    quantity: ConstrainedQuantity
    asked: float
    measured: float
    error: float
    outcome: Outcome


@dataclass(frozen=True)
class EpochRecord(Record):
    """One finished epoch, a line of metrics.jsonl.

    Attributes:
        epoch: its number, counted from 1.
        step: the training steps taken by its end.
        train: means over its steps, while the weights changed.
        test: means over the test data, with the weights at its end.
        seconds: how long it took, including its test.
        lam: the weight of the divergence at its end, which the objective of its test has; None in
            logs of version 0.1, whose tests have the full lam.
        learning_rate: Adam's at its end; None in logs of version 0.1.
        constraint: what lam follows; None for a fixed lam.
        active_units: the latents whose posterior mean varies over the first 1,000 test examples;
            None for a single one, or in logs of version 0.1, as the next.
        reconstruction_change: by how many nats the latents of another one change log p(x|z).
    """

    epoch: int
    step: int
    train: TrainMetrics
    test: Metrics
    seconds: float
    lam: float | None = None
    learning_rate: float | None = None
    constraint: ConstraintRecord | None = None
    active_units: int | None = None
    reconstruction_change: float | None = None

    @property
    def epoch_steps(self) -> int:
        """The training steps of an epoch."""
        return self.step // self.epoch

    def to_json(self) -> JSONObject:
        """Returns the fields as JSON values, without what a log of version 0.1 does not have."""
        later = ("lam", "learning_rate", "constraint", "active_units", "reconstruction_change")
        values = super().to_json()
        return {name: v for name, v in values.items() if name not in later or v is not None}


@dataclass(frozen=True)
class DataRecord(Record):
    """The data that a run was trained on.

    Attributes:
        fingerprint: a hash of their content.
        image_shape: the shape of one x.
        kind: what the values are; None in files of versions before 0.1, which do not record it.
        standardized: whether they were standardized; data.json says how.
    """

    fingerprint: str
    image_shape: tuple[int, ...]
    kind: Kind | None = None
    standardized: bool = False

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """Builds a record; version 0.1 wrote whether values are real in place of their kind."""
        if isinstance(values, Mapping) and isinstance(values.get("real_valued"), bool):
            values = {"kind": "real" if values["real_valued"] else "intensities", **values}
        return super().from_json(values)

    def differences(
        self, other: "DataRecord", places: tuple[str, str] = ("here", "given")
    ) -> list[str]:
        """Returns one line per field that differs; one that is not recorded does not differ.

        Args:
            other: the other data.
            places: where these data and the others are, as the lines say it.
        """
        return [
            f"data.{name}: {encode(here)} {places[0]}, {encode(given)} {places[1]}"
            for name in ("fingerprint", "image_shape", "kind", "standardized")
            if (here := getattr(self, name)) != (given := getattr(other, name)) and here is not None
        ]


@dataclass(frozen=True)
class CodeRecord(Record):
    """The user's code that a model is made with.

    Attributes:
        name: "package.module:function", or the class of a model that was given in Python.
        file: its source file; None if it has none.
        sha256: of that file, in hex.
    """

    name: str
    file: str | None = None
    sha256: str | None = None

    def change(self, now: "CodeRecord") -> str | None:
        """Returns one line on how the code differs from what a run was trained with, or None."""
        if self.sha256 == now.sha256:
            return None
        return (
            f"{now.name} is not the code that the run was trained with: SHA-256 of "
            f"{now.file} is {str(now.sha256)[:12]}, and was {str(self.sha256)[:12]} of {self.file}."
        )


@dataclass(frozen=True)
class SourceRecord(Record):
    """The run that another one has its first weights from.

    Attributes:
        path: its directory, which may be gone.
        step: the training steps that the weights had had.
        weights: their SHA-256, in hex.
    """

    path: str
    step: int
    weights: str


@dataclass(frozen=True)
class RunRecord(Record):
    """A run as its config.json describes it: everything needed to repeat it.

    Attributes:
        config: the configuration, complete.
        data: the data.
        versions: the versions of Python and of the packages that matter, by name.
        machine: the machine and its threads; None in files that do not record it.
        warnings: what the training met, such as a damaged checkpoint, in the order of time.
        code: the user's code that the model is made with; None for none.
        source: the run that the first weights are from; None for none.
        stopped: why early stopping has ended the training; None if it has not.
    """

    config: RunConfig
    data: DataRecord
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Machine | None = None
    warnings: tuple[str, ...] = ()
    code: CodeRecord | None = None
    source: SourceRecord | None = None
    stopped: str | None = None

    def to_json(self) -> JSONObject:
        """Returns the fields as JSON values, without an empty `stopped`."""
        return {n: v for n, v in super().to_json().items() if v is not None or n != "stopped"}

    def differences(
        self, other: "RunRecord", places: tuple[str, str] = ("here", "given")
    ) -> list[str]:
        """Returns one line per setting or property of the data that makes it another run.

        What decides when the training ends does not: no step depends on how many follow it. The
        settings of files of data do not either: what they give is compared.

        Args:
            other: the other run.
            places: where this run and the other are recorded, as the lines say it.
        """
        config = self.config.with_length_of(other.config)
        if config.data.is_file and other.config.data.is_file:
            config = dataclasses.replace(config, data=other.config.data)
        lines = config.differences(other.config, places)
        names = [record.code.name if record.code else None for record in (self, other)]
        if names[0] != names[1] and config.model.model == other.config.model.model:
            lines.append(f"model: {encode(names[0])} {places[0]}, {encode(names[1])} {places[1]}")
        return lines + self.data.differences(other.data, places)


@dataclass(frozen=True)
class TrainingState(Record):
    """What a restart of a training needs beside the arrays; it is part of a checkpoint.

    Attributes:
        history: the finished epochs.
        sums: TRAIN_METRICS summed over the steps of the current epoch.
        seconds: spent on the current epoch.
        run: the run that the arrays are of; None in files of version 0.1.
    """

    history: tuple[EpochRecord, ...]
    sums: tuple[float, ...]
    seconds: float
    run: RunRecord | None = None


def read_history(path: Path) -> tuple[EpochRecord, ...]:
    """Reads the finished epochs from a metrics.jsonl.

    Args:
        path: the file; without it there are no epochs. A torn last line, which a kill leaves, is
            ignored: the resumed training writes that epoch again.

    Raises:
        SMVIError: it cannot be read.
    """
    try:
        lines = read_regular(path, _MAX_HISTORY).decode().splitlines(keepends=True)
        return tuple(
            EpochRecord.from_json(parse_json(line)) for line in lines if line.endswith("\n")
        )
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, SMVIError) as error:
        raise SMVIError(
            f"{path} cannot be read ({error})",
            remedy="run the training again, which restores it from the checkpoints",
        ) from error
