"""By how much runs classify better than at lam = 0, subset by subset and seed by seed."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from tfp_smvi.classification.results import ENCODER
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.report import points as figure_data
from tfp_smvi.report.cells import DASH
from tfp_smvi.report.points import Point
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.results import Sweep

__all__ = [
    "crossed_mean",
    "difference_to_lam_0",
    "differences_to_lam_0",
    "format_difference",
    "paired_differences",
]


def differences_to_lam_0(sweep: Sweep, kernel: str, num_labels: int) -> list[Point]:
    """The paired differences of runs to lam = 0, over lam; empty without a finished run there.

    Bars are 95 % intervals, with several seeds those of `crossed_mean`.
    """
    points = []
    for lam, group in itertools.groupby(sweep.compared, lambda run: run.level):
        runs = [*group]
        estimate = difference_to_lam_0(sweep, runs, kernel, num_labels)
        if estimate is not None:
            points.append(figure_data.point(lam, estimate, len(runs)))
    return points


def format_difference(estimate: Estimate | None) -> str:
    """A difference in percentage points, such as "+0.25 ± 0.12 (+0.02 to +0.48)".

    Args:
        estimate: the difference, a fraction, which is given with its standard error and 95 %
            interval; None for a dash.
    """
    if estimate is None:
        return DASH
    mean, error, half = (
        100.0 * value for value in (estimate.mean, estimate.standard_error, estimate.half_width)
    )
    if math.isnan(half):
        return _signed(mean)
    return f"{_signed(mean)} ± {error:.2f} ({_signed(mean - half)} to {_signed(mean + half)})"


def _signed(value: float) -> str:
    return f"{value:+z.2f}".replace("-", "\N{MINUS SIGN}")


def difference_to_lam_0(
    sweep: Sweep, runs: Sequence[Entry], kernel: str, num_labels: int, epoch: int | None = None
) -> Estimate | None:
    """By how much runs of one lam classify better than those with lam = 0 and the same seeds.

    The differences are taken subset by subset of labels; see `crossed_mean` for their error.

    Args:
        sweep: the sweep.
        runs: runs of one lam; those without a counterpart are left out.
        kernel: the classifier's.
        num_labels: the labelled examples it saw.
        epoch: the epoch of the training; None for the end.

    Returns:
        The mean difference, a fraction, and its standard error, both 0 at lam = 0; None if there is
        no pair.

    Raises:
        SMVIError: two runs were not classified with the same number of subsets.
    """
    differences = [paired_differences(sweep, run, kernel, num_labels, epoch) for run in runs]
    rows = [values for values in differences if values is not None]
    return crossed_mean(np.stack(rows)) if rows else None


def crossed_mean(values: np.ndarray) -> Estimate:
    """The mean, with its standard error, of values with random effects of row and column.

        x_sr = mean + seed_s + subset_r + rest_sr
        Var(mean(x)) = var_s(mean_r(x)) / S + var_r(mean_s(x)) / R - var(rest) / (S R)

    Both of the first two terms contain the third; if it is estimated larger than either, the larger
    of the two is taken. With one row, the error is that of the columns alone.

    The degrees of freedom are those of the fewer: three seeds have two. The interval then holds the
    true mean in at least 95 % of cases, in more if it is not the seeds that cause the error.

    Args:
        values: float [num_seeds, num_subsets]; subset r is the same for all seeds.

    Returns:
        The mean, its standard error, which is NaN if there is one column, and the degrees of
        freedom.

    Source: the two-way crossed model with random effects and one observation a cell, as in [S. R.
    Searle, G. Casella, C. E. McCulloch. Variance Components. 1992].
    """
    num_rows, num_columns = values.shape
    mean = float(values.mean())
    if num_columns == 1:
        return Estimate(mean)
    by_column = values.mean(axis=0).var(ddof=1) / num_columns
    if num_rows == 1:
        return Estimate(mean, math.sqrt(by_column), degrees_of_freedom=num_columns - 1)
    by_row = values.mean(axis=1).var(ddof=1) / num_rows
    rest = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + mean
    shared = np.sum(rest**2) / ((num_rows - 1) * (num_columns - 1) * num_rows * num_columns)
    error = math.sqrt(max(by_row + by_column - shared, by_row, by_column))
    return Estimate(mean, error, degrees_of_freedom=min(num_rows, num_columns) - 1)


def paired_differences(
    sweep: Sweep, run: Entry, kernel: str, num_labels: int, epoch: int | None = None
) -> np.ndarray | None:
    """A run's accuracies minus those at lam = 0 with the same seed: float [num_subsets].

    Args:
        sweep: the sweep.
        run: the run.
        kernel: the classifier's.
        num_labels: the labelled examples it saw.
        epoch: the epoch of the training; None for the end.

    Returns:
        The differences, fractions; None if the run or its counterpart was not classified so.

    Raises:
        SMVIError: the two were not classified with the same number of subsets.
    """
    zeros = (other for other in sweep.finished if other.lam == 0.0 and other.seed == run.seed)
    zero = next(zeros, None)
    if zero is None:
        return None
    result, reference = (
        figure_data.accuracy(entry, ENCODER, kernel, num_labels, epoch) for entry in (run, zero)
    )
    if result is None or reference is None:
        return None
    if len(result.values) != len(reference.values):
        raise SMVIError(
            f"{sweep.run_path(run)} was classified with {len(result.values)} subsets of labels and "
            f"{sweep.run_path(zero)} with {len(reference.values)}",
            remedy="classify both with the same {repeats}",
        )
    return np.subtract(result.values, reference.values)
