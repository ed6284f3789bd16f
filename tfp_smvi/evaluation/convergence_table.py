"""The table of a comparison of numbers of temperatures, for people."""

from collections.abc import Mapping

from tfp_smvi.core.text import align, format_number
from tfp_smvi.evaluation.convergence import Convergence
from tfp_smvi.evaluation.results import BracketSummary
from tfp_smvi.evaluation.warnings import describe_wide

__all__ = ["format_convergence"]


def format_convergence(convergence: Convergence) -> str:
    """Lays a result out for people."""
    lines = []
    for split, summary in convergence.splits.items():
        header = ["temperatures", "log-likelihood", "to the largest number", "acceptance", "ESS"]
        rows = [[*header, "bracket"]]
        for count, values in summary.by_num_temperatures.items():
            rates, sizes = values.acceptance_rate, values.effective_sample_size
            rows.append(
                [
                    count,
                    str(values.log_likelihood),
                    str(values.difference_to_last),
                    format_number(rates.mean),
                    format_number(sizes.mean),
                    str(convergence.brackets[count].width),
                ]
            )
        lines += [f"{split}, {summary.num_examples} examples:", *align(rows)]
        lines += [_answer(summary.settled_at, convergence.brackets), ""]
    return "\n".join([*lines, "Values are in nats, means over examples +/- one standard error."])


def _answer(settled: int | None, brackets: Mapping[str, BracketSummary]) -> str:
    if settled is not None:
        return (
            f"The estimate stops moving at {settled} (95 % intervals of the differences), where "
            f"the bracket is {brackets[str(settled)].width}."
        )
    width = brackets[max(brackets, key=int)].width
    if describe_wide(width) is not None:
        return f"The estimate is not known: the bracket is {width} at the largest number."
    return "The estimate still moves at the largest number (95 % intervals of the differences)."
