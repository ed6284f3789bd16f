"""The results of a calibration: typed, and the same in evaluation.json."""

from collections.abc import Mapping
from dataclasses import dataclass

from tfp_smvi.core.estimates import Estimate
from tfp_smvi.core.records import Record

__all__ = ["CalibrationSummary", "LatentCalibration"]


@dataclass(frozen=True)
class LatentCalibration(Record):
    """The ranks of one latent of exact posterior samples among draws of q(z|x).

    Attributes:
        p_value: of the test that they are uniform, for this latent alone.
        mean_rank: the share of the draws below the sample; 0.5 if q(z|x) is calibrated, and less if
            its mean is too high.
        coverage: the share of the samples in the central intervals of q(z|x), by the intervals'
            level: "0.5", "0.8" and "0.95".
    """

    p_value: float
    mean_rank: Estimate
    coverage: Mapping[str, Estimate]


@dataclass(frozen=True)
class CalibrationSummary(Record):
    """Whether q(z|x) is calibrated on examples simulated from the model.

    Attributes:
        num_examples: the number of examples with ranks.
        num_not_finite: those that have none, since a number is NaN.
        num_draws: the draws of q(z|x) among which a sample has its rank.
        level: the probability of a warning if q(z|x) is calibrated, at most.
        latents: by number of the latent, from 0 on; the active ones alone.
        log_joint_p_value: of the test that the ranks of log p(x, z) are uniform.
        coverage: as that of a latent, the mean over active latents; empty if there are none.
    """

    num_examples: int
    num_not_finite: int
    num_draws: int
    level: float
    latents: Mapping[str, LatentCalibration]
    log_joint_p_value: float
    coverage: Mapping[str, Estimate]

    @property
    def level_of_one(self) -> float:
        """The level of the test of one latent, or of log p(x, z), by Bonferroni's correction."""
        return self.level / (len(self.latents) + 1)

    @property
    def rejected(self) -> tuple[str, ...]:
        """The latents whose ranks are not uniform, the worst first."""
        latents = {name: latent.p_value for name, latent in self.latents.items()}
        rejected = [name for name, p_value in latents.items() if p_value <= self.level_of_one]
        return tuple(sorted(rejected, key=latents.__getitem__))

    @property
    def rejects_log_joint(self) -> bool:
        """Whether the ranks of log p(x, z) are not uniform."""
        return self.log_joint_p_value <= self.level_of_one
