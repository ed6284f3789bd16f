"""What figures, captions and tables call the divergence that the runs of a sweep minimize."""

from tfp_smvi.core.quantities import OF_DIVERGENCE, Quantity
from tfp_smvi.sweeps.results import Sweep

__all__ = ["divergence_in_math", "divergence_in_words", "divergence_of"]


def divergence_of(sweep: Sweep) -> Quantity:
    """The divergence that all runs minimize, as quantities name it."""
    return OF_DIVERGENCE[sweep.summary.config.train.train.divergence]


def divergence_in_words(sweep: Sweep) -> str:
    """Such as "weighted divergence D_w(q(z|x), p(z|x)), in squared nats"."""
    quantity = divergence_of(sweep)
    kind = "score-matching" if quantity is OF_DIVERGENCE["fisher"] else "weighted"
    return f"{kind} divergence {quantity.short}(q(z|x), p(z|x)), in {quantity.unit}"


def divergence_in_math(sweep: Sweep) -> str:
    """A label of an axis in the markup of matplotlib, such as "$D_{w}(q(z|x), p(z|x))$"."""
    quantity = divergence_of(sweep)
    letter, _, index = quantity.short.partition("_")
    unit = quantity.unit.replace("squared nats", "nats²").replace("squared unit", "unit²")
    return f"${letter}_{{{index}}}(q(z|x),\\ p(z|x))$\n{unit}"
