"""The table of an evaluation, for people."""

import functools
from collections.abc import Callable, Iterator

from tfp_smvi.config import EvaluateConfig
from tfp_smvi.core.quantities import OF_DIVERGENCE, QUANTITIES
from tfp_smvi.core.text import align, format_number
from tfp_smvi.evaluation.calibration_summary import calibration_lines
from tfp_smvi.evaluation.diagnostics import TailSummary
from tfp_smvi.evaluation.results import ESTIMATES, Evaluation, SplitSummary
from tfp_smvi.inference.pareto import FEWEST_DRAWS
from tfp_smvi.runs.constraints import constraint_of

__all__ = ["format_evaluation"]

Cell = Callable[[SplitSummary], str]
LOCAL_LABELS = {
    **{name: QUANTITIES[name].heading for name in ("amortization_gap", "approximation_gap")},
    "share_not_converged": "  not converged",
}


def format_evaluation(evaluation: Evaluation) -> str:
    """Lays an evaluation out for people, a column per split."""
    bracket = evaluation.bracket
    bounds = [
        ["lower bound of the log-likelihood", str(bracket.lower_bound)],
        ["upper bound of the log-likelihood", str(bracket.upper_bound)],
        [QUANTITIES["bracket"].label, str(bracket.width)],
    ]
    lines = [
        *align(_rows(evaluation)),
        "",
        f"On {bracket.num_examples} examples simulated from the model, in nats:",
        *align(bounds),
        "",
        *([*calibration_lines(evaluation.calibration), ""] if evaluation.calibration else []),
        *_units(evaluation),
        *_answers(evaluation),
    ]
    return "\n".join(lines)


def _rows(evaluation: Evaluation) -> list[list[str]]:
    """The table of the splits, with its heading."""
    splits = evaluation.splits.values()
    num_chains = evaluation.settings.ais.num_chains

    def row(label: str, cell: Cell) -> list[str]:
        return [label, *map(cell, splits)]

    def sizes(summary: SplitSummary) -> str:
        return f"{format_number(summary.effective_sample_size.mean)} of {num_chains}"

    labels = {name: QUANTITIES[name].label for name in QUANTITIES}
    draws = evaluation.settings.num_importance_samples
    labels["iwae_bound"] = f"{labels['iwae_bound']}, {draws} draws"
    rows = [["", *evaluation.splits], row("examples", lambda split: str(split.num_examples))]
    for name in ESTIMATES:
        estimates = [getattr(summary, name) for summary in splits]
        if any(estimates):
            rows.append([labels[name], *map(str, estimates)])
    rows += [row(label, cell) for label, cell in _local_rows(evaluation.settings)]
    if any(summary.elbo for summary in splits):
        rows.append(row(labels["active_units"], SplitSummary.format_active_units))
        rows += [row(label, cell) for label, cell in _posterior_rows(evaluation)]
    rows.append(
        row(labels["acceptance_rate"], lambda split: format_number(split.acceptance_rate.mean))
    )
    rows.append(row(labels["effective_sample_size"], sizes))
    return rows


def _answers(evaluation: Evaluation) -> Iterator[str]:
    """What was asked for beside what was found, and what the data are."""
    run = evaluation.run
    if run is not None and (constraint := constraint_of(run.config.train)) is not None:
        measured = ", ".join(
            f"{getattr(summary, constraint.quantity)} ({name})"
            for name, summary in evaluation.splits.items()
        )
        yield f"Asked: {constraint.label} {constraint.bound:g}. Measured: {measured}."
    if (choice := evaluation.temperatures) is not None:
        widths = ", ".join(f"{width} at {count}" for count, width in choice.brackets.items())
        asked = f"{evaluation.settings.accuracy:g} nat"
        yield f"Asked: an accuracy of {asked}. Chosen: {choice.num_temperatures} temperatures."
        yield f"The bracket is {widths}."
    if evaluation.log_scale is not None:
        scales = ", ".join(f"{name} {v:.4g}" for name, v in evaluation.log_scale.items())
        yield (
            "Densities are those of standardized x. For x as it was given subtract from ELBO and "
            f"log-likelihood: {scales}."
        )


def _units(evaluation: Evaluation) -> list[str]:
    text = "Values are in nats, means over examples +/- one standard error"
    if not any(summary.divergence for summary in evaluation.splits.values()):
        return [f"{text}."]
    units = (f"{quantity.short} in {quantity.unit}" for quantity in OF_DIVERGENCE.values())
    return [f"{text};", f"{'; '.join(units)}."]


def _local_rows(settings: EvaluateConfig) -> Iterator[tuple[str, Cell]]:
    """The rows of the two halves of the gap, as labels and functions that give the cells."""
    for family in settings.local_families if settings.local else ():
        for name in ("amortization_gap", "approximation_gap", "share_not_converged"):
            yield f"{LOCAL_LABELS[name]}, {family} q*", functools.partial(_local_cell, family, name)
    if settings.local:
        yield "second start: another optimum", _restart_cell


def _posterior_rows(evaluation: Evaluation) -> Iterator[tuple[str, Cell]]:
    """The rows of moments and tails, if some split has them."""
    splits = evaluation.splits.values()
    if any(split.moments for split in splits):
        yield "|mean_q - mean_p| / sd_p", lambda split: _of_moments(split, "shift")
        yield "sd_q / sd_p", lambda split: _of_moments(split, "width_ratio")
    few_draws = evaluation.settings.num_importance_samples < FEWEST_DRAWS
    if few_draws or any(split.tails for split in splits):
        unknown = f"under {FEWEST_DRAWS} draws" if few_draws else "unknown"
        yield (
            "Pareto k up to 0.5, to 0.7, above",
            lambda split: _format_shares(split.tails) if split.tails else unknown,
        )


def _of_moments(summary: SplitSummary, name: str) -> str:
    return "unknown" if summary.moments is None else str(getattr(summary.moments, name))


def _format_shares(tails: TailSummary) -> str:
    """Such as "71, 20 and 9 %"."""
    shares = (tails.share_good, tails.share_fair, tails.share_bad)
    good, fair, bad = (f"{100.0 * share:.0f}" for share in shares)
    return f"{good}, {fair} and {bad} %"


def _local_cell(family: str, name: str, summary: SplitSummary) -> str:
    assert summary.local is not None
    value = getattr(summary.local.families[family], name)
    return f"{100.0 * value:.0f} %" if name == "share_not_converged" else str(value)


def _restart_cell(summary: SplitSummary) -> str:
    """Such as "3 of 50, 1 of them better"."""
    assert summary.local is not None
    restart = summary.local.restart
    return f"{restart.num_other} of {restart.num_examples}, {restart.num_better} of them better"
