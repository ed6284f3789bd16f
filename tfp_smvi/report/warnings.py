"""What a reader of a sweep's figures and tables must know of its runs before trusting them."""

import textwrap
from collections.abc import Collection

from tfp_smvi.report.points import lam_label
from tfp_smvi.runs.warnings import weight_of
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.results import Sweep

__all__ = ["lam_reached", "warning_note", "warnings_by_run"]


def lam_reached(sweep: Sweep, run: Entry) -> float:
    """The weight of the divergence at the last step of a run; its lam if it has no history."""
    if not run.history:
        return run.lam
    config = sweep.summary.config.run(run.lam, run.seed)
    return weight_of(config.train).reached(run.history[-1].step)


def warnings_by_run(sweep: Sweep) -> list[tuple[str, list[str]]]:
    """The warnings of all stages, by the name of the run."""
    return [
        (f"λ = {lam_label(run.lam)}, seed {run.seed}", [*run.all_warnings])
        for run in sweep.finished
        if run.all_warnings
    ]


def warning_note(sweep: Sweep, stages: Collection[str], width: int) -> str:
    """What a figure says of the runs that it shows; empty if there is nothing to say.

    Args:
        sweep: the sweep.
        stages: the stages whose results the figure shows, of "train", "evaluate" and "classify".
        width: the largest number of characters of a line.
    """
    reached = {
        f"{_short(lam_reached(sweep, run))} of {lam_label(run.lam)}": None
        for run in sweep.finished
        if _ended_early(sweep, run)
    }
    lines = [f"Ended within the warm-up, λ reached: {', '.join(reached)}."] if reached else []
    found = []
    for stage in stages:
        lams = sorted({run.lam for run in sweep.finished if _has_other(sweep, run, stage)})
        if lams:
            found.append(f"{_NAMES[stage]} at λ = {', '.join(map(lam_label, lams))}")
    lines += [f"Warnings (see the report): {'; '.join(found)}."] if found else []
    return "\n".join(wrapped for line in lines for wrapped in textwrap.wrap(line, width))


_NAMES = {"train": "training", "evaluate": "evaluation", "classify": "classification"}


def _ended_early(sweep: Sweep, run: Entry) -> bool:
    return lam_reached(sweep, run) != run.lam


def _has_other(sweep: Sweep, run: Entry, stage: str) -> bool:
    """Whether a stage has warnings that are not those of the training, or its first line."""
    if stage == "train":
        return len(run.warnings) > _ended_early(sweep, run)
    report = run.evaluation if stage == "evaluate" else run.classification
    return report is not None and not {*report.warnings} <= {*run.warnings}


def _short(lam: float) -> str:
    """A lam with two digits."""
    return lam_label(float(f"{lam:.2g}"))
