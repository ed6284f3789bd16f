"""The path of temperatures between two densities, and the settings of the chains that walk it.

The path between the initial density f_0 and the target f_1 is geometric in the temperature beta:

    log f_beta(z) = (1 - beta) log f_0(z) + beta log f_1(z)
"""

from collections.abc import Callable
from typing import NamedTuple, TypedDict

import numpy as np

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.inference.arguments import require_positive_integer

__all__ = ["SCHEDULES", "AnnealingOptions", "AnnealingSettings", "TemperaturePath"]


def _linear(position: np.ndarray) -> np.ndarray:
    return position


def _sigmoid(position: np.ndarray) -> np.ndarray:
    # The logistic function on [-4, 4], shifted and scaled to run from 0 to 1 [Wu et al., appendix]:
    # small steps at both ends, where the densities change fastest.
    logistic = 1.0 / (1.0 + np.exp(-4.0 * (2.0 * position - 1.0)))
    return (logistic - logistic[0]) / (logistic[-1] - logistic[0])


# From the position on the path, increasing from 0 to 1 with both ends included, to beta.
SCHEDULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"linear": _linear, "sigmoid": _sigmoid}


class TemperaturePath(NamedTuple):
    """A piecewise-linear path of temperatures.

    Attributes:
        knots: beta at the ends of the segments, from 0 to 1: float64 [num_segments + 1].
        num_steps: transitions in each segment: int32 [num_segments].
    """

    knots: np.ndarray
    num_steps: np.ndarray

    def reversed(self) -> "TemperaturePath":
        """The same path walked from the target to the initial density."""
        return TemperaturePath(self.knots[::-1], self.num_steps[::-1])


class AnnealingSettings(NamedTuple):
    """How chains are annealed; the forward, the reverse and the pilot chains share them.

    Attributes:
        num_chains: independent chains per data point.
        num_temperatures: the transitions of each chain.
        num_leapfrog_steps: leapfrog steps in a transition.
        schedule: a key of SCHEDULES, beta as a function of the position on the path.
        num_segments: the linear pieces of the path, at most `num_temperatures`. Each has its own
            step size.
    """

    num_chains: int = 16
    num_temperatures: int = 48
    num_leapfrog_steps: int = 5
    schedule: str = "sigmoid"
    num_segments: int = 8

    def check(self) -> "AnnealingSettings":
        """Returns the settings.

        Raises:
            SMVIError: a number is not a positive integer, the schedule is unknown, or there are
                more segments than temperatures.
        """
        numbers = ("num_chains", "num_temperatures", "num_leapfrog_steps", "num_segments")
        for name in numbers:
            require_positive_integer(name, getattr(self, name))
        if self.schedule not in SCHEDULES:
            choices = ", ".join(sorted(SCHEDULES))
            raise SMVIError(
                "is not allowed",
                field="schedule",
                value=self.schedule,
                remedy=f"choose one of {choices}",
            )
        if self.num_segments > self.num_temperatures:
            raise SMVIError(
                f"is more than the {self.num_temperatures} temperatures of the path",
                field="num_segments",
                value=self.num_segments,
                remedy="give at most as many segments as {num_temperatures}",
            )
        return self

    def path(self) -> TemperaturePath:
        """Lays the knots of the schedule and divides the transitions between them.

        The knots depend on the number of segments alone. So step sizes that are tuned per segment
        hold for any number of temperatures.
        """
        knots = SCHEDULES[self.schedule](np.linspace(0.0, 1.0, self.num_segments + 1))
        positions = np.arange(self.num_segments + 1)
        ends = positions * self.num_temperatures // self.num_segments
        return TemperaturePath(knots, np.diff(ends).astype(np.int32))


class AnnealingOptions(TypedDict, total=False):
    """The fields of `AnnealingSettings` as keyword arguments."""

    num_chains: int
    num_temperatures: int
    num_leapfrog_steps: int
    schedule: str
    num_segments: int
