"""When a training ends before its last epoch: a metric no longer improves."""

from typing import Literal

__all__ = ["LARGER_IS_BETTER", "StoppingMetric"]

StoppingMetric = Literal[
    "test.objective",
    "test.elbo",
    "test.reconstruction",
    "test.kl",
    "test.divergence",
    "train.objective",
    "train.elbo",
    "train.reconstruction",
    "train.kl",
    "train.divergence",
    "train.gradient_norm",
    "constraint.error",
    "active_units",
    "reconstruction_change",
]

# The last name of a metric, and whether larger values are better; an error is better near 0.
LARGER_IS_BETTER = {
    "objective": True,
    "elbo": True,
    "reconstruction": True,
    "kl": False,
    "divergence": False,
    "gradient_norm": False,
    "error": False,
    "active_units": True,
    "reconstruction_change": True,
}
