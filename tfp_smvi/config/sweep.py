"""A grid of runs, and what is done with each."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from tfp_smvi.config.base import Settings, option, require, require_whole
from tfp_smvi.config.classify import ClassifyConfig
from tfp_smvi.config.evaluate import EvaluateConfig
from tfp_smvi.config.run import RunConfig
from tfp_smvi.core.errors import SMVIError, brief
from tfp_smvi.core.records import JSONObject

__all__ = ["SweepConfig"]


@dataclass(frozen=True)
class SweepConfig(Settings):
    """A grid of runs over lam, or a target gap, and seed; all other settings are the same.

    The lam and the seed of `train` are not used: the grid gives them.
    """

    train: RunConfig = RunConfig()
    evaluate: EvaluateConfig = EvaluateConfig(split="both")
    classify: ClassifyConfig | None = ClassifyConfig()
    classify_every: int | None = option(
        None,
        "Classify also after every N-th epoch, and keep its checkpoint.",
    )
    lams: tuple[float, ...] = option(
        (0.0, 0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 10.0), "Weights of the score-matching divergence."
    )
    seeds: tuple[int, ...] = option(
        (0,), "Seeds of the training; each lam is trained with each seed."
    )
    target_gaps: tuple[float, ...] | None = option(
        None,
        "In place of --lams: gaps log p(x) - ELBO that lam follows, in nats.",
        later=True,
    )

    def _check(self) -> None:
        if self.target_gaps is not None:
            free = self.lams in ((), type(self).__dataclass_fields__["lams"].default)
            require("target_gaps", self.target_gaps, free, "either it or {lams}")
        lams = () if self.target_gaps is not None else self.lams
        object.__setattr__(self, "lams", tuple(lam + 0.0 for lam in lams))  # -0 is 0
        for name, values in ((self.level_field, self.levels), ("seeds", self.seeds)):
            ok = len(values) >= 1 and len({*values}) == len(values)
            require(name, values, ok, "one or more different numbers")
        for level in self.levels:
            self.run(level, self.seeds[0]).train.require_stopping_metric()
        for seed in self.seeds:
            self.run(self.levels[0], seed)
        if self.classify_every is not None:
            require_whole("classify_every", self.classify_every, least=1)

    @property
    def level_field(self) -> str:
        """The field of the grid beside `seeds`: "lams" or "target_gaps"."""
        return "lams" if self.target_gaps is None else "target_gaps"

    @property
    def levels(self) -> tuple[float, ...]:
        """The lams or the target gaps of the grid."""
        return self.lams if self.target_gaps is None else self.target_gaps

    def with_grid(self, levels: Iterable[float], seeds: Iterable[int]) -> Self:
        """The same settings with another grid of the same kind."""
        grid = {self.level_field: tuple(levels), "seeds": tuple(seeds)}
        return dataclasses.replace(self, **grid)  # type: ignore[arg-type]

    def run(self, level: float, seed: int) -> RunConfig:
        """The configuration of one run, at a lam or a target gap of the grid."""
        lam, gap = (level, None) if self.target_gaps is None else (0.0, level)
        train = dataclasses.replace(self.train.train, lam=lam, target_gap=gap, seed=seed)
        return dataclasses.replace(self.train, train=train)

    @property
    def epochs_to_classify(self) -> tuple[int, ...]:
        """The epochs before the last that are classified."""
        every = self.classify_every
        if every is None or self.classify is None:
            return ()
        return tuple(range(every, self.train.train.epochs, every))

    @property
    def stages(self) -> tuple[str, ...]:
        """What is done with each run, in this order."""
        return ("train", "evaluate", *(("classify",) if self.classify else ()))

    def settings(self) -> JSONObject:
        """Returns what all runs share, as JSON values: the "config" of a sweep.json."""
        settings = self.to_json()
        del settings["lams"], settings["seeds"]
        settings.pop("target_gaps", None)
        del settings["train"]["train"]["lam"], settings["train"]["train"]["seed"]
        return settings

    @classmethod
    def from_summary(cls, values: Mapping[str, object]) -> Self:
        """Builds the configuration of a sweep.json, or of a file with parts of one.

        Raises:
            SMVIError: a value is not allowed, or something in "config" is unknown.
        """
        field_names = (
            "format",
            "command",
            "earlier_commands",
            "config",
            "lams",
            "target_gaps",
            "seeds",
            "environment",
            "runs",
        )
        for name in values:
            if name not in field_names:
                raise SMVIError(
                    f"unknown field {brief(name)}", remedy=f"give one of: {', '.join(field_names)}"
                )
        names = ("lams", "target_gaps", "seeds")
        grid = {name: values[name] for name in names if name in values}
        config = values.get("config", {})
        if not isinstance(config, Mapping):
            raise SMVIError(f"config = {brief(config)} is not allowed", remedy="give a JSON object")
        return cls.from_json({**config, **grid})
