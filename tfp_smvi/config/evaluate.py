"""What is estimated on a trained run, and how well."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from tfp_smvi.config.base import Settings, option, require, require_seed, require_whole

__all__ = [
    "BLOCK_SIZE",
    "AISConfig",
    "EvaluateConfig",
    "InitialName",
    "LeapfrogPrecision",
    "LocalFamily",
    "LocalObjectiveName",
    "ScheduleName",
    "SplitName",
]

# With 16 chains a matrix product has 800 rows: enough to keep a processor busy, and some megabytes
# of memory.
BLOCK_SIZE = 50

InitialName = Literal["posterior", "prior"]
LeapfrogPrecision = Literal["auto", "float32", "bfloat16"]
ScheduleName = Literal["sigmoid", "linear"]
SplitName = Literal["test", "train", "both"]
LocalFamily = Literal["diagonal", "full", "flow"]
LocalObjectiveName = Literal["elbo", "divergence"]


@dataclass(frozen=True)
class AISConfig(Settings):
    """The annealed chains and the pilot run that tunes their step sizes."""

    num_chains: int = option(16, "Annealed chains per example.")
    num_temperatures: int = option(
        48, "Temperatures between the initial distribution and the posterior."
    )
    num_leapfrog_steps: int = option(5, "Leapfrog steps at each temperature.")
    leapfrog_precision: LeapfrogPrecision = option(
        "auto",
        "The matrix products of the gradients that move chains; densities and weights are float32. "
        "auto is bfloat16 for a large dense decoder if the processor multiplies it, else float32.",
        later=True,
    )
    initial: InitialName = option(
        "posterior", "Where chains start: the encoder's q(z|x), or the prior p(z)."
    )
    initial_scale: float = option(
        1.0, "Factor on the width of the distribution where chains start.", later=True
    )
    schedule: ScheduleName = option("sigmoid", "How temperatures are spaced between 0 and 1.")
    num_segments: int = option(
        8, "Linear pieces of the path, each with its own step size; at most one per temperature."
    )
    num_pilot_chains: int = option(4, "Chains per example of the pilot run.")
    num_pilot_temperatures: int = option(32, "Temperatures of the pilot run.")
    target_acceptance_rate: float = option(
        0.65, "The acceptance rate that the pilot tunes step sizes to."
    )

    def _check(self) -> None:
        for name in (
            "num_chains",
            "num_temperatures",
            "num_leapfrog_steps",
            "num_segments",
            "num_pilot_chains",
        ):
            require_whole(name, getattr(self, name), least=1)
        require_whole("num_pilot_temperatures", self.num_pilot_temperatures, least=self.segments)
        scale_ok = math.isfinite(self.initial_scale) and self.initial_scale > 0.0
        require("initial_scale", self.initial_scale, scale_ok, "a positive number")
        rate_ok = 0.0 < self.target_acceptance_rate < 1.0
        require(
            "target_acceptance_rate",
            self.target_acceptance_rate,
            rate_ok,
            "a number between 0 and 1",
        )

    @property
    def segments(self) -> int:
        """The linear pieces of this path: a short one has fewer than `num_segments`."""
        return min(self.num_segments, self.num_temperatures)


@dataclass(frozen=True)
class EvaluateConfig(Settings):
    """What `evaluate` estimates, on which examples and how well.

    With an accuracy, the number of temperatures of `ais` is not used.
    """

    ais: AISConfig = AISConfig()
    split: SplitName = option("test", "The data to evaluate on.")
    num_examples: int | None = option(
        1000, "Examples of each split, from its start; all for the whole split."
    )
    num_elbo_samples: int = option(512, "Draws from q(z|x) per example for the ELBO.")
    num_divergence_samples: int = option(128, "Draws from q(z|x) per example for the divergences.")
    num_importance_samples: int = option(1000, "Draws from q(z|x) per example for the IWAE bound.")
    num_simulated: int = option(100, "Examples simulated from the model for the bracket.")
    seed: int = option(0, "Seed of all draws.")
    num_calibration: int = option(
        2000,
        "Examples simulated from the model for the calibration of q(z|x); 0 for none.",
        later=True,
    )
    accuracy: float | None = option(
        None,
        "Choose the number of temperatures: the first of 12, 24, 48, ... whose bracket is at most "
        "this wide, in nats.",
        later=True,
    )
    local: bool = option(
        False,
        "Also find the best q(z|x) of each example, by an optimization of its own.",
        later=True,
    )
    local_steps: int = option(
        500, "Most steps of that optimization; an example that has converged stops.", later=True
    )
    local_objective: LocalObjectiveName = option(
        "elbo", "What it improves: the ELBO, or the divergence D_SM.", later=True
    )
    local_families: tuple[LocalFamily, ...] = option(
        ("diagonal", "full"),
        "The families to find the best q(z|x) of: diagonal, full and flow, with commas between.",
        later=True,
    )

    block_size: int | None = option(
        None,
        "Examples that are estimated at once; draws depend on it.  [default: 50; on a GPU 500]",
        later=True,
    )

    def _check(self) -> None:
        if self.num_examples is not None:
            require_whole("num_examples", self.num_examples, least=1)
        for name in ("num_elbo_samples", "num_divergence_samples"):
            require_whole(name, getattr(self, name), least=2)
        for name in ("num_importance_samples", "num_simulated"):
            require_whole(name, getattr(self, name), least=1)
        require_whole("num_calibration", self.num_calibration, least=0)
        require_seed(self.seed)
        if self.accuracy is not None:
            accuracy_ok = math.isfinite(self.accuracy) and self.accuracy > 0.0
            require("accuracy", self.accuracy, accuracy_ok, "a positive number of nats")
            require_whole("num_simulated", self.num_simulated, least=2)
        require_whole("local_steps", self.local_steps, least=1)
        if self.block_size is not None:
            require_whole("block_size", self.block_size, least=1)
        names = self.local_families
        require("local_families", names, 0 < len(names) == len({*names}), "each name at most once")

    def answers(self, asked: "EvaluateConfig") -> bool:
        """Whether a result of these settings is one of those asked for; the machine fills gaps."""
        size = self.block_size if asked.block_size is None else asked.block_size
        own, precision = self.ais.leapfrog_precision, asked.ais.leapfrog_precision
        if precision == "auto" or (own == "auto" and precision == "float32"):
            precision = own
        ais = replace(asked.ais, leapfrog_precision=precision)
        return self == replace(asked, block_size=size, ais=ais)

    @property
    def examples_of_block(self) -> int:
        """The number of examples that are estimated together."""
        return self.block_size or BLOCK_SIZE

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits to evaluate, in the order of the report."""
        return ("train", "test") if self.split == "both" else (self.split,)
