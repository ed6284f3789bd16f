"""What is said below a figure: the mark at lams with warnings, and what its points and bars are."""

from tfp_smvi.report import points
from tfp_smvi.report.figure_kinds import FIGURES
from tfp_smvi.sweeps.results import Sweep

__all__ = ["describe_bars", "describe_dagger"]

# Those of one run for each lam, and those without bars.
_PICTURES = {
    *("calibration", "moments", "reconstructions", "worst", "samples", "entries", "latents"),
}


def describe_dagger(sweep: Sweep) -> str:
    """Describes the mark at lams whose training has a warning; empty if there are none."""
    lams = sorted(points.lams_with_warnings(sweep))
    names = ", ".join(map(points.lam_label, lams))
    return f"† The training at λ = {names} has a warning, which is above." if lams else ""


def _ends(sweep: Sweep, name: str) -> str:
    """What the bars of means over seeds are."""
    if name == "differences":
        degrees = len(sweep.seeds) - 1
        return (
            "bars are 95 % intervals, which include the chance of the labels and of the training "
            f"(Student's t, at most {degrees} degree{'s' * (degrees != 1)} of freedom)"
        )
    bars = "bands" if name == "training" else "bars"
    return f"{bars} reach from the lowest to the highest: they are no interval of confidence"


def describe_bars(sweep: Sweep, name: str) -> str:
    """Describes a figure's points and bars in a sentence or two; empty if it needs none."""
    if name in _PICTURES:
        return (
            "Each λ is shown by its first seed."
            if len({run.seed for run in sweep.finished}) > 1
            else ""
        )
    seeds, over = ", ".join(map(str, sweep.seeds)), FIGURES[name].bars
    if len(sweep.seeds) > 1:
        text = f"Points are means over the seeds {seeds}, and {_ends(sweep, name)}."
    else:
        text = f"Bars are 95 % intervals (Student's t), over {over}." if over else ""
    if len(sweep.compared) < len(sweep.finished):
        text += f" Seeds that some λ lack are in the tables only; all λ have {seeds}."
    elif len(sweep.compared) < len(sweep.seeds) * len({run.level for run in sweep.compared}):
        text += " No seed is common to all λ: points are means over different seeds."
    return text.strip()
