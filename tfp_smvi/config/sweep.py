"""A grid of runs, and what is done with each."""

import dataclasses
from collections.abc import Mapping
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
    """A grid of runs over lam and seed; all other settings are the same.

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

    def _check(self) -> None:
        object.__setattr__(self, "lams", tuple(lam + 0.0 for lam in self.lams))  # -0 is 0
        for name, values in (("lams", self.lams), ("seeds", self.seeds)):
            ok = len(values) >= 1 and len({*values}) == len(values)
            require(name, values, ok, "one or more different numbers")
        for lam in self.lams:
            self.run(lam, self.seeds[0])
        for seed in self.seeds:
            self.run(self.lams[0], seed)
        if self.classify_every is not None:
            require_whole("classify_every", self.classify_every, least=1)

    def run(self, lam: float, seed: int) -> RunConfig:
        """The configuration of one run."""
        train = dataclasses.replace(self.train.train, lam=lam, seed=seed)
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
        del settings["train"]["train"]["lam"], settings["train"]["train"]["seed"]
        return settings

    @classmethod
    def from_summary(cls, values: Mapping[str, object]) -> Self:
        """Builds the configuration of a sweep.json, or of a file with parts of one.

        Raises:
            SMVIError: a value is not allowed, or something in "config" is unknown.
        """
        known = (
            "format",
            "command",
            "earlier_commands",
            "config",
            "lams",
            "seeds",
            "environment",
            "runs",
        )
        for name in values:
            if name not in known:
                raise SMVIError(
                    f"unknown field {brief(name)}", remedy=f"give one of: {', '.join(known)}"
                )
        grid = {name: values[name] for name in ("lams", "seeds") if name in values}
        config = values.get("config", {})
        if not isinstance(config, Mapping):
            raise SMVIError(f"config = {brief(config)} is not allowed", remedy="give a JSON object")
        return cls.from_json({**config, **grid})
