"""One run of a sweep as sweep.json has it."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

from tfp_smvi.classification.results import Classification
from tfp_smvi.config import SweepConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.records import JSONObject, Record
from tfp_smvi.evaluation.results import Evaluation
from tfp_smvi.runs.records import EpochRecord

__all__ = ["Entry", "Status", "format_lam", "run_name"]

Status = Literal["pending", "running", "done", "failed"]


@dataclass(frozen=True)
class Entry(Record):
    """A run of a sweep and its results so far.

    Attributes:
        lam: the weight of the divergence, which may be infinite; None if it follows a target.
        seed: the seed of the training.
        run_dir: the run directory, in the sweep directory.
        status: whether all stages are done.
        error: why the run failed, in one line.
        seconds: how long each stage took.
        history: the epochs of the training.
        warnings: those of the training; evaluation and classification have their own.
        lam_reached: the weight of the divergence at the end of the training so far; None before it.
        evaluation: None until the run is evaluated.
        classification: that of the last epoch; None until the run is classified.
        classification_by_epoch: those of earlier epochs.
        target_gap: the gap that lam follows, in nats; None for a fixed lam.
    """

    lam: float | None
    seed: int
    run_dir: str
    status: Status = "pending"
    error: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    history: tuple[EpochRecord, ...] = ()
    warnings: tuple[str, ...] = ()
    lam_reached: float | None = None
    evaluation: Evaluation | None = None
    classification: Classification | None = None
    classification_by_epoch: Mapping[int, Classification] = field(default_factory=dict)
    target_gap: float | None = None

    def to_json(self) -> JSONObject:
        """Returns the fields as JSON values, without a target that there is not."""
        values = super().to_json()
        if self.target_gap is None:
            del values["target_gap"]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """Builds an entry from its JSON object.

        Raises:
            SMVIError: a field is missing or has another type.
        """
        entry = super().from_json(values)
        if math.isnan(entry.level):
            raise SMVIError("is not a number", field="lam")
        by_epoch = {report.epoch: report for report in entry.classification_by_epoch.values()}
        return dataclasses.replace(entry, classification_by_epoch=by_epoch)

    @property
    def level(self) -> float:
        """Its place in the grid beside the seed: the lam or the target gap."""
        level = self.lam if self.target_gap is None else self.target_gap
        return math.nan if level is None else level

    @property
    def label(self) -> str:
        """Such as "lam 0.5, seed 0" or "gap 3, seed 0"."""
        name = "lam" if self.target_gap is None else "gap"
        return f"{name} {format_lam(self.level)}, seed {self.seed}"

    @property
    def done(self) -> bool:
        """Whether all stages are done."""
        return self.status == "done"

    @property
    def classifications(self) -> dict[int, Classification]:
        """All classifications by epoch, in ascending order."""
        final = self.classification
        by_epoch = {**self.classification_by_epoch, **({final.epoch: final} if final else {})}
        return dict(sorted(by_epoch.items()))

    @property
    def all_warnings(self) -> tuple[str, ...]:
        """The warnings of all stages, each once."""
        sources = (self, self.evaluation, self.classification)
        return tuple(
            dict.fromkeys(line for source in sources if source for line in source.warnings)
        )

    def is_in(self, config: SweepConfig) -> bool:
        """Whether the run is in a configuration's grid."""
        same = (self.target_gap is None) == (config.target_gaps is None)
        return same and self.level in config.levels and self.seed in config.seeds

    def changed(self, **fields: object) -> Self:
        """The entry with other values of some fields."""
        return dataclasses.replace(self, **fields)  # type: ignore[arg-type]


def run_name(level: float, seed: int, kind: str = "lam") -> str:
    """The run directory of a lam and a seed, such as "lam0.5-seed0"; no two lams share one.

    That of a target gap is of the kind "gap".
    """
    return f"{kind}{repr(level).removesuffix('.0')}-seed{seed}"


def format_lam(lam: float) -> str:
    """Such as "0.001", "-1" or "inf"."""
    return f"{lam:g}"
