"""What a training may be asked to reach, in place of a lam: a gap, a divergence or an ELBO.

Pure functions of numbers, without TensorFlow.
"""

import math
from dataclasses import dataclass
from typing import Literal

from tfp_smvi.core.quantities import QUANTITIES

__all__ = ["ConstrainedQuantity", "Constraint", "Outcome", "Place"]

ConstrainedQuantity = Literal["gap", "divergence", "weighted_divergence", "elbo"]
# Where a multiplier is: in its warm-up, at a bound, or between the bounds.
Place = Literal["warm-up", "lower", "free", "upper"]
Outcome = Literal["met", "inactive", "infeasible", "unsettled"]

# How far a measurement may be from the bound: a share of it, and for an ELBO nats.
TOLERANCES: dict[ConstrainedQuantity, float] = {
    "gap": 0.1,
    "divergence": 0.05,
    "weighted_divergence": 0.05,
    "elbo": 0.5,
}
# The gap changes as a power of the divergence, and this is the power that the next set point
# assumes. It was 0.3 to 0.85 on MNIST (results/mnist); another one changes only how fast the
# constraint is met: the error shrinks by |1 - true power / this one| each time.
GAP_POWER = 0.6
# The largest distance of a set point from the averaged divergence, in the log: the averaged weights
# follow late, and are worse than any others while the divergence moves. And that of an ELBO, whose
# slope is a guess until lam has settled.
LARGEST_STEP, LARGEST_ELBO_STEP = 0.5, 1.0


@dataclass(frozen=True)
class Constraint:
    """A quantity of the averaged model, on examples held out of the training, and its bound.

        gap <= bound,    divergence <= bound,    or    ELBO >= bound

    Attributes:
        quantity: what is bounded.
        bound: what is asked for, in nats, or in the unit of the divergence.
    """

    quantity: ConstrainedQuantity
    bound: float

    @property
    def label(self) -> str:
        """The quantity's name in messages."""
        return QUANTITIES[self.quantity].heading

    def error(self, measured: float) -> float:
        """How far a measurement is beyond the bound; less than 0 if the constraint holds.

        log(measured / bound);    for an ELBO: bound - measured, in nats
        """
        if self.quantity == "elbo":
            return self.bound - measured
        # An estimate of a vanishing gap may be below 0.
        return math.log(max(measured, 1e-9 * self.bound) / self.bound)

    def log_set_point(self, measured: float, log_divergence: float, lam: float) -> float:
        """The log divergence of the training batches at which the constraint should be met.

            gap:          log D - log(gap / bound) / GAP_POWER
            divergence:   log D - log(divergence / bound)
            ELBO:         log D + (bound - ELBO) / (lam D)

        The last one is Newton's: along the maxima of ELBO - lam D, dELBO / dlog D = lam D. The size
        of a step is limited.

        Args:
            measured: the quantity of the averaged model, on held-out examples.
            log_divergence: the log divergence of the trained model on training batches, averaged
                over the same steps as the weights of the model that is measured.
            lam: the multiplier.
        """
        error, largest = self.error(measured), LARGEST_STEP
        if self.quantity == "gap":
            change = -error / GAP_POWER
        elif self.quantity == "elbo":
            change = error / max(lam * math.exp(log_divergence), 1e-9)
            largest = LARGEST_ELBO_STEP
        else:
            change = -error
        return log_divergence + min(max(change, -largest), largest)

    def outcome(self, measured: float, place: Place) -> Outcome:
        """How a training has ended.

        Returns:
            "met": the bound is reached within its tolerance. "inactive": the constraint holds
            without the multiplier. "infeasible": even the largest multiplier does not reach it.
            "unsettled": the training is too short.
        """
        error, tolerance = self.error(measured), TOLERANCES[self.quantity]
        if place != "warm-up" and abs(error) <= tolerance:
            return "met"
        # The multiplier of an ELBO is as large as the constraint allows, the others as small.
        slack, strained = ("upper", "lower") if self.quantity == "elbo" else ("lower", "upper")
        if place == slack and error < 0.0:
            return "inactive"
        if place == strained and error > 0.0:
            return "infeasible"
        return "unsettled"
