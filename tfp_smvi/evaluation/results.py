"""The results of an evaluation: typed, and the same in evaluation.json."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tfp_smvi.config import DataConfig, EvaluateConfig, RunConfig
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.core.html import html_table
from tfp_smvi.core.quantities import OF_DIVERGENCE, QUANTITIES
from tfp_smvi.core.records import JSONObject, Record
from tfp_smvi.core.runtime import Machine
from tfp_smvi.evaluation.calibration_results import CalibrationSummary
from tfp_smvi.evaluation.diagnostics import ExampleSummary, MomentSummary, TailSummary
from tfp_smvi.evaluation.local_results import LocalSummary
from tfp_smvi.runs.records import CodeRecord

__all__ = [
    "ESTIMATES",
    "BracketSummary",
    "EvaluatedModel",
    "EvaluatedRun",
    "Evaluation",
    "Rates",
    "SampleSizes",
    "SplitSummary",
    "TemperatureChoice",
]


# The estimates of a split, in the order of tables.
ESTIMATES = (
    *("elbo", "iwae_bound", "log_likelihood", "gap", "kl"),
    *(quantity.name for quantity in OF_DIVERGENCE.values()),
)


@dataclass(frozen=True)
class Rates(Record):
    """Acceptance rates, means over examples.

    Attributes:
        mean: over the whole path.
        per_segment: in each segment of the path.
    """

    mean: float
    per_segment: tuple[float, ...]


@dataclass(frozen=True)
class SampleSizes(Record):
    """Effective sample sizes, means over examples.

    Attributes:
        mean: the mean.
        standard_error: its standard error over examples; NaN for a single example.
        share_under_2: the share of the examples in which one chain carries the estimate.
    """

    mean: float
    standard_error: float
    share_under_2: float


@dataclass(frozen=True)
class SplitSummary(Record):
    """The examples of one split: means over examples, in nats.

    A model without q(z|x) has neither an ELBO nor anything else of q: these are None.

    Attributes:
        num_examples: the number of examples.
        elbo: the evidence lower bound.
        iwae_bound: the importance-weighted lower bound.
        log_likelihood: log p(x) by annealed importance sampling.
        divergence: D_SM(q(z|x), p(z|x)), squared nats per squared unit of z.
        kl: KL(q(z|x), p(z)).
        gap: log p(x) - ELBO = KL(q(z|x), p(z|x)).
        acceptance_rate: of the annealed chains.
        effective_sample_size: of the chains' weights, between 1 and the number of chains.
        active_units: the latents whose posterior mean varies; None for a single example, or
            without q(z|x).
        latent_dim: the number of latents.
        num_not_finite: the examples without a finite estimate.
        weighted_divergence: D_w(q(z|x), p(z|x)), squared nats; None, and not written, if the
            covariance of q(z|x) is not known, or in results of version 0.1.
        local: the two halves of the gap; None, and not written, if they were not asked for.
        tails: those of the importance weights; None, and not written, with fewer than 25 draws or
            in older results, as the next.
        moments: those of q(z|x) compared with those of p(z|x).
        reconstruction_change: by how many nats the latents of another example change log p(x|z), at
            the means of q(z|x).
        worst: the ten examples with the largest gaps.
    """

    num_examples: int
    elbo: Estimate | None
    iwae_bound: Estimate | None
    log_likelihood: Estimate
    divergence: Estimate | None
    kl: Estimate | None
    gap: Estimate | None
    acceptance_rate: Rates
    effective_sample_size: SampleSizes
    active_units: int | None
    latent_dim: int
    num_not_finite: int
    weighted_divergence: Estimate | None = None
    local: LocalSummary | None = None
    tails: TailSummary | None = None
    moments: MomentSummary | None = None
    reconstruction_change: Estimate | None = None
    worst: tuple[ExampleSummary, ...] | None = None

    def to_json(self) -> JSONObject:
        """Returns the fields as JSON values, without those that are not known."""
        values = super().to_json()
        optional = ("tails", "moments", "reconstruction_change", "worst")
        for name in ("weighted_divergence", "local", *optional):
            if values[name] is None:
                del values[name]
        return values

    def format_active_units(self) -> str:
        """Such as "12 of 50"."""
        active = "?" if self.active_units is None else self.active_units
        return f"{active} of {self.latent_dim}"


@dataclass(frozen=True)
class BracketSummary(Record):
    """Bounds of log p(x) from both sides on examples simulated from the model, in nats.

    Attributes:
        num_examples: the number of simulated examples.
        lower_bound: by annealing forwards.
        upper_bound: by annealing backwards from exact samples.
        width: upper minus lower bound.
        acceptance_rate: of the forward chains.
        reverse_acceptance_rate: of the reverse chains.
    """

    num_examples: int
    lower_bound: Estimate
    upper_bound: Estimate
    width: Estimate
    acceptance_rate: Rates
    reverse_acceptance_rate: Rates


@dataclass(frozen=True)
class TemperatureChoice(Record):
    """How the number of temperatures was chosen.

    Attributes:
        num_temperatures: the number.
        brackets: the width of the bracket by number of temperatures, up to it; a JSON key is the
            number.
    """

    num_temperatures: int
    brackets: Mapping[str, Estimate]


@dataclass(frozen=True)
class EvaluatedRun(Record):
    """What was evaluated.

    Attributes:
        config: the configuration of the run.
        step: the training steps behind its weights.
        epochs: the finished epochs behind them.
        weights: SHA-256 of the weights, in hex.
        data_fingerprint: the fingerprint of its data.
    """

    config: RunConfig
    step: int
    epochs: int
    weights: str
    data_fingerprint: str


@dataclass(frozen=True)
class EvaluatedModel(Record):
    """A model without a training run, and its data.

    Attributes:
        code: the function or the class that made it.
        has_encoder: whether it has a q(z|x).
        data: how its data were loaded.
        data_fingerprint: the fingerprint of the data.
        binarize: whether bits were drawn from intensities.
    """

    code: CodeRecord
    has_encoder: bool
    data: DataConfig
    data_fingerprint: str
    binarize: bool


@dataclass(frozen=True, repr=False)
class Evaluation(Record):
    """What `evaluate` found, as in evaluation.json.

    A notebook shows its estimates as a table.

    Attributes:
        splits: the summary of each split.
        bracket: the accuracy of the log-likelihood, on simulated examples.
        warnings: why the numbers should not be trusted; empty if they can be.
        settings: what was estimated, and how.
        run: the run that was evaluated; None for a model without one.
        versions: the versions of the packages that matter.
        machine: the machine.
        units: the units of x that densities are of: "given", or "standardized" if the data were.
        log_scale: with standardized data, for each split, sum(log stddev) in nats over the observed
            entries of x, the mean over examples: an ELBO or a log p(x) minus this is that of x in
            given units. The gap and the KL divergence are the same in both. None in given units.
        temperatures: how their number was chosen, if `settings` has an accuracy; else None, and not
            written.
        calibration: whether q(z|x) is calibrated; None, and not written, if `settings` has no
            examples for it, or in older results.
        model: the model without a run that was evaluated; None, and not written, for a run.
        hosts: the names of the machines that computed the blocks, `machine` or others.
    """

    splits: Mapping[str, SplitSummary]
    bracket: BracketSummary
    warnings: tuple[str, ...]
    settings: EvaluateConfig
    run: EvaluatedRun | None
    versions: Mapping[str, str]
    machine: Machine
    units: Literal["given", "standardized"] = "given"
    log_scale: Mapping[str, float] | None = None
    temperatures: TemperatureChoice | None = None
    calibration: CalibrationSummary | None = None
    model: EvaluatedModel | None = None
    hosts: tuple[str, ...] = field(default=(), compare=False)

    def to_json(self) -> JSONObject:
        """Returns the fields as JSON values, without what was not asked for."""
        values = super().to_json()
        for name in ("temperatures", "calibration", "model", "hosts"):
            if not values[name]:
                del values[name]
        return values

    def rows(self) -> list[dict[str, str | float]]:
        """The estimates as a table in long form: `pandas.DataFrame(evaluation.rows())`.

        Returns:
            For each split and quantity, and for the bracket, whose split is "simulated": split,
            quantity, mean, standard_error and unit; NaN is not finite or not known.
        """
        estimates = {
            (split, name): getattr(summary, name)
            for split, summary in self.splits.items()
            for name in ESTIMATES
        }
        estimates["simulated", "bracket"] = self.bracket.width
        return [
            {
                "split": split,
                "quantity": name,
                "mean": estimate.mean,
                "standard_error": estimate.standard_error,
                "unit": QUANTITIES[name].unit,
            }
            for (split, name), estimate in estimates.items()
            if estimate is not None
        ]

    def __repr__(self) -> str:
        """Such as "Evaluation(test: 1000 examples, ELBO -99.367 +/- 0.786, gap ...)"."""
        parts = []
        for split, summary in self.splits.items():
            named = {"ELBO": summary.elbo, "log p(x)": summary.log_likelihood, "gap": summary.gap}
            values = (f", {name} {value}" for name, value in named.items() if value is not None)
            parts.append(f"{split}: {summary.num_examples} examples{''.join(values)}")
        warned = f"; {len(self.warnings)} warnings" if self.warnings else ""
        return f"Evaluation({'; '.join(parts)}; bracket {self.bracket.width}{warned})"

    def _repr_html_(self) -> str:
        """The estimates, a column per split, and the warnings, for notebooks."""
        splits = self.splits.values()
        rows = [
            [QUANTITIES[name].label, *(str(getattr(summary, name)) for summary in splits)]
            for name in ESTIMATES
            if any(getattr(summary, name) is not None for summary in splits)
        ]
        rows.append([QUANTITIES["bracket"].label, str(self.bracket.width)])
        counts = (
            f"{name}, {summary.num_examples} examples" for name, summary in self.splits.items()
        )
        return html_table(["nats +/- one standard error", *counts], rows, self.warnings)
