"""The results of the local optimization: the two halves of the gap."""

from collections.abc import Mapping
from dataclasses import dataclass

from tfp_smvi.core.estimates import Estimate
from tfp_smvi.core.records import Record

__all__ = ["FamilySummary", "LocalSummary", "RestartSummary"]


@dataclass(frozen=True)
class FamilySummary(Record):
    """The best q(z|x) of each example, q*, in one family: means over examples, in nats.

    Attributes:
        elbo: ELBO(q*), a lower bound of log p(x).
        amortization_gap: ELBO(q*) - ELBO(q).
        approximation_gap: log p(x) - ELBO(q*).
        divergence: D_SM(q*, p(z|x)), squared nats per squared unit of z.
        share_not_converged: the share of the examples that took all steps and might gain more.
        mean_steps: the steps of an example.
    """

    elbo: Estimate
    amortization_gap: Estimate
    approximation_gap: Estimate
    divergence: Estimate
    share_not_converged: float
    mean_steps: float


@dataclass(frozen=True)
class RestartSummary(Record):
    """Where a second start, away from the encoder's mean, leads; diagonal q alone.

    Attributes:
        num_examples: the examples that have converged from both starts.
        num_other: those of them whose two means differ by more than one standard deviation in some
            latent: other local optima.
        num_better: those of them where the second optimum has the higher ELBO, by 0.1 nat and three
            standard errors.
        gain: the ELBO of the second end minus that of the first, over examples that have converged
            from both starts; None if there are none.
    """

    num_examples: int
    num_other: int
    num_better: int
    gain: Estimate | None


@dataclass(frozen=True)
class LocalSummary(Record):
    """The two halves of the gap.

    Attributes:
        families: by family of q*.
        restart: what a second start says of local optima.
    """

    families: Mapping[str, FamilySummary]
    restart: RestartSummary
