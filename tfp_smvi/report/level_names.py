"""What the runs of a sweep differ in beside the seed, in print: λ, or the gap that λ follows."""

from tfp_smvi.report.points import lam_label, lam_name
from tfp_smvi.sweeps.results import Sweep

__all__ = ["axis_label", "level_title", "symbol"]


def symbol(sweep: Sweep) -> str:
    """Either "λ" or "gap"."""
    return "λ" if sweep.summary.config.target_gaps is None else "gap"


def axis_label(sweep: Sweep) -> str:
    """What an axis of lams or target gaps shows."""
    if sweep.summary.config.target_gaps is None:
        return "λ, the weight of the divergence"
    return "gap asked for (nats)"


def level_title(sweep: Sweep, level: float) -> str:
    """Such as "λ = 0.5", or "gap 3 (λ = 0.0027)" for a target and the λ that it took."""
    name = lam_name(sweep, level)
    if sweep.summary.config.target_gaps is None:
        return f"λ = {name}"
    reached = [run.lam_reached for run in sweep.compared if run.level == level]
    lams = [lam for lam in reached if lam is not None]
    return f"gap {name}" + (f" (λ = {lam_label(float(f'{lams[0]:.2g}'))})" if lams else "")
