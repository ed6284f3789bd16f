"""What a training was asked to reach in place of a lam, and whether it has, without TensorFlow."""

from tfp_smvi.config import DivergenceName, TrainConfig
from tfp_smvi.core.quantities import QUANTITIES
from tfp_smvi.objectives.constraints import ConstrainedQuantity, Constraint
from tfp_smvi.runs.records import ConstraintRecord, EpochRecord

__all__ = [
    "constraint_of",
    "constraint_warning",
    "describe_constraint",
    "format_constraint",
    "weight_name",
]

_OF_DIVERGENCE: dict[DivergenceName, ConstrainedQuantity] = {
    "fisher": "divergence",
    "weighted": "weighted_divergence",
}
_ENDINGS = {
    "met": "met",
    "inactive": "inactive: it holds whatever lam is",
    "infeasible": "infeasible: no lam reaches it",
    "unsettled": "unsettled: lam still follows it",
}


def constraint_of(config: TrainConfig) -> Constraint | None:
    """What lam follows in a training; None if it is fixed."""
    quantities: dict[str, ConstrainedQuantity] = {
        "target_gap": "gap",
        "max_divergence": _OF_DIVERGENCE[config.divergence],
        "min_elbo": "elbo",
    }
    name = config.constraint
    return None if name is None else Constraint(quantities[name], getattr(config, name))


def weight_name(config: TrainConfig) -> str:
    """What lam is or follows, for names of directories: "lam0.5", "gap3", "elbo-90"."""
    constraint = constraint_of(config)
    if constraint is None:
        return f"lam{config.lam:g}"
    name = "divergence" if config.max_divergence is not None else constraint.quantity
    return f"{name}{constraint.bound:g}"


def format_constraint(constraint: ConstraintRecord) -> str:
    """Such as "gap 1.04 of 1", for a line or a bar."""
    name = QUANTITIES[constraint.quantity].heading
    return f"{name} {constraint.measured:.4g} of {constraint.asked:g}"


def describe_constraint(record: EpochRecord) -> str:
    """How a training with a constraint ends: asked, measured, lam and the end state, in words."""
    constraint = record.constraint
    assert constraint is not None
    assert record.lam is not None
    return (
        f"Asked: {QUANTITIES[constraint.quantity].heading} {constraint.asked:g}. Measured on "
        f"examples held out of the training: {constraint.measured:.4g}, at lam {record.lam:.4g} "
        f"({_ENDINGS[constraint.outcome]})."
    )


def constraint_warning(record: EpochRecord) -> str | None:
    """A warning about a training that ended with an epoch and has not met its constraint.

    Settings are named in braces, as in an error's remedy: "{epochs}".
    """
    constraint = record.constraint
    if constraint is None or constraint.outcome in ("met", "inactive"):
        return None
    name, is_elbo = QUANTITIES[constraint.quantity].heading, constraint.quantity == "elbo"
    problem = f"{name} is {constraint.measured:.4g}, and {constraint.asked:g} was asked for"
    if constraint.outcome == "unsettled":
        return f"{problem}: lam had no time to settle. Raise {{epochs}}."
    bound = "smallest" if is_elbo else "largest"
    return f"{problem}: not even the {bound} lam reaches it. Relax it, or change the model."
