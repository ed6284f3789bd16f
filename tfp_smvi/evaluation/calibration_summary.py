"""The summary of a calibration: tests of the ranks, coverage, and both in words."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from tfp_smvi.core.collapse import active_units
from tfp_smvi.core.estimates import estimate
from tfp_smvi.core.text import align
from tfp_smvi.evaluation.calibration import NUM_DRAWS
from tfp_smvi.evaluation.calibration_results import CalibrationSummary, LatentCalibration
from tfp_smvi.inference.uniformity import central_coverage, uniform_p_value

__all__ = [
    "LEVELS",
    "calibration_lines",
    "calibration_values",
    "calibration_warnings",
    "summarize_calibration",
]

Arrays = Mapping[str, np.ndarray]

# The levels of the central intervals whose coverage is measured.
LEVELS = (0.5, 0.8, 0.95)
# At most so many calibrated posteriors get a warning. A sweep has tens of evaluations.
FALSE_WARNINGS = 0.01

_quietly = np.errstate(invalid="ignore", over="ignore")


def summarize_calibration(arrays: Arrays) -> CalibrationSummary:
    """Summarizes the ranks of simulated examples.

    Args:
        arrays: the results of `CalibrationEstimator.ranked`, [num_examples, ...].
    """
    values = calibration_values(arrays)
    ranks, log_joint_ranks = values["ranks"], values["log_joint_ranks"]
    finite_rows = np.all(ranks >= 0, axis=1) & (log_joint_ranks >= 0)
    ranks, log_joint_ranks = ranks[finite_rows], log_joint_ranks[finite_rows]
    active = np.flatnonzero(values["active"]) if finite_rows.any() else np.array([], int)
    covered = {
        f"{level:g}": central_coverage(ranks[:, active], NUM_DRAWS + 1, level) for level in LEVELS
    }
    return CalibrationSummary(
        num_examples=int(finite_rows.sum()),
        num_not_finite=int(np.sum(~finite_rows)),
        num_draws=NUM_DRAWS,
        level=FALSE_WARNINGS,
        latents={
            str(latent): LatentCalibration(
                _p_value(ranks[:, latent]),
                estimate(ranks[:, latent] / NUM_DRAWS),
                {level: estimate(inside[:, column]) for level, inside in covered.items()},
            )
            for column, latent in enumerate(active)
        },
        log_joint_p_value=_p_value(log_joint_ranks),
        # The latents of an example are not independent.
        coverage={level: estimate(inside.mean(axis=1)) for level, inside in covered.items()}
        if len(active)
        else {},
    )


@_quietly
def calibration_values(arrays: Arrays) -> dict[str, np.ndarray]:
    """The values of each example, as in evaluation.npz.

    Args:
        arrays: as in `summarize_calibration`.

    Returns:
        ranks: int16 [num_examples, latent_dim] and log_joint_ranks: int16 [num_examples], -1 for
        one that is not known; active: bool [latent_dim], the latents whose posterior mean varies
        over the simulated examples.
    """
    return {
        "ranks": arrays["ranks"].astype(np.int16),
        "log_joint_ranks": arrays["log_joint_rank"].astype(np.int16),
        "active": active_units(arrays["posterior_mean"]),
    }


def calibration_lines(calibration: CalibrationSummary) -> list[str]:
    """Lays a calibration out for people, in three lines at most."""
    none = f"none of {len(calibration.latents)} active latents" if calibration.latents else "none"
    rows = [["ranks that are not uniform", _describe_rejected(calibration) or none]]
    if calibration.coverage:
        levels = ", ".join(f"{100.0 * float(level):g}" for level in calibration.coverage)
        shares = ", ".join(
            _percent(share.mean)
            + ("" if math.isnan(share.standard_error) else f" +/- {_percent(share.standard_error)}")
            for share in calibration.coverage.values()
        )
        rows.append([f"in central {levels} % intervals", f"{shares} %"])
    return [
        f"On {calibration.num_examples} examples simulated from the model, their z among "
        f"{calibration.num_draws} draws of q(z|x):",
        *align(rows),
    ]


def calibration_warnings(calibration: CalibrationSummary | None) -> Iterator[str]:
    """The reasons not to take q(z|x) for the posterior, in a line each; none if it is not known."""
    if calibration is None:
        return
    if calibration.num_not_finite:
        yield (
            f"{calibration.num_not_finite} of the examples simulated for the calibration have no "
            "ranks: a draw of q(z|x), or its log p(x, z), is not a number."
        )
    if rejected := _describe_rejected(calibration):
        yield (
            "On examples simulated from the model, q(z|x) is not calibrated: the ranks of z among "
            f"draws of q(z|x) are not uniform for {rejected}.{_describe_worst(calibration)} "
            "Do not take the means and intervals of q(z|x) for those of the posterior."
        )


def _describe_rejected(calibration: CalibrationSummary) -> str:
    """Such as "7 of 12 active latents and log p(x, z)"; empty if all ranks are uniform."""
    rejected = len(calibration.rejected)
    latents = f"{rejected} of {len(calibration.latents)} active latents" if rejected else ""
    return " and ".join(
        filter(None, (latents, "log p(x, z)" if calibration.rejects_log_joint else ""))
    )


def _describe_worst(calibration: CalibrationSummary) -> str:
    """A sentence on the worst latent; empty if there is none."""
    if not calibration.rejected:
        return ""
    worst = calibration.rejected[0]
    latent = calibration.latents[worst]
    return (
        f" The worst is latent {worst}, counted from 0: {_percent(latent.mean_rank.mean)} % of its "
        "draws are below z (50 % if its mean is right), and its 95 % intervals hold z in "
        f"{_percent(latent.coverage['0.95'].mean)} % of the examples."
    )


def _p_value(ranks: np.ndarray) -> float:
    return uniform_p_value(ranks, NUM_DRAWS + 1) if len(ranks) else math.nan


def _percent(share: float) -> str:
    """Such as "88.3"."""
    return f"{100.0 * share:.1f}"
