"""When the numbers of an evaluation are to be trusted, and what says so."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from tests.support.summaries import bracket_values, example_values, warnings_for
from tfp_smvi.config import AISConfig, EvaluateConfig
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.evaluation import convergence
from tfp_smvi.evaluation.local_results import FamilySummary, LocalSummary, RestartSummary
from tfp_smvi.evaluation.summary import summarize_bracket, summarize_split
from tfp_smvi.evaluation.warnings import warnings_about

# Of 16 chains, enough, and fewer than half.
UNEVEN = {"effective_sample_size": np.full(100, 7.9)}


def test_good_numbers_need_no_warning() -> None:
    assert warnings_for(bracket_values()) == []


@pytest.mark.parametrize(
    ("width", "changes", "words"),
    [
        (
            0.05,
            {"acceptance_rate": np.full((100, 8), 0.39), **UNEVEN},
            "the acceptance rate is 0.39 in 8 of 8",
        ),
        (
            0.05,
            {"acceptance_rate": np.full((100, 1), 0.96), **UNEVEN},
            "the acceptance rate is 0.96 in 1 of 1",
        ),
        (
            0.05,
            {"effective_sample_size": np.full(100, 1.9)},
            "100 % of the examples have an effective",
        ),
        (0.51, {}, "the bounds of the log-likelihood are 0.51 nat apart"),
        (np.inf, {}, "the bounds of the log-likelihood are not finite"),
        (0.05, {"log_likelihood": example_values()["elbo"] - 0.1}, "is 0.100 nat below the ELBO"),
        (0.05, {"elbo_error": np.full(100, 0.21)}, "give the ELBO an error of 0.021 nat"),
        (0.05, {"log_likelihood": np.full(100, np.nan)}, "100 examples have no finite estimate"),
    ],
)
def test_numbers_not_to_be_trusted_are_called_so(
    width: float, changes: dict[str, Any], words: str
) -> None:
    assert any(words in line for line in warnings_for(bracket_values(width), **changes))


def test_a_bracket_with_a_large_error_is_not_narrow() -> None:
    """The bounds are 10 nats apart in either direction, and 0 in the mean."""
    values = bracket_values(0.0)
    values["upper_bound"] = values["lower_bound"] + np.tile([10.0, -10.0], 50)
    (line,) = warnings_for(values)
    assert "are 0.000 +/- 1.005 nat apart, with an error of more than 0.5" in line


def test_a_wide_bracket_is_told_what_helps() -> None:
    """More temperatures do not, where q(z|x) misses a mode."""
    splits = {"test": summarize_split(example_values())}
    bracket = summarize_bracket(bracket_values(0.6))
    (line,) = warnings_about(splits, bracket, EvaluateConfig())
    assert "raise {num_temperatures}, or let the chains start from the prior" in line
    assert "({initial} prior) or from a wider one ({initial_scale} 2)" in line
    ais = AISConfig(initial="prior", initial_scale=2.0)
    (line,) = warnings_about(splits, bracket, EvaluateConfig(ais))
    assert line.endswith("let the chains start from a wider one ({initial_scale} 4).")


def test_a_comparison_with_wide_brackets_is_told_what_helps() -> None:
    """The number with the widest text is not the largest number."""
    brackets = {
        str(count): summarize_bracket(bracket_values(width))
        for count, width in ((96, 0.4), (100, 0.6))
    }
    (line,) = convergence.warnings_about({}, brackets, EvaluateConfig())
    assert "are 0.60 nat apart, more than 0.5" in line
    assert "({initial} prior)" in line
    del brackets["100"]
    assert convergence.warnings_about({}, brackets, EvaluateConfig()) == []


def test_even_weights_are_right_whatever_the_acceptance() -> None:
    """The rule is that of `AISResult.warnings`."""
    assert warnings_for(bracket_values(), acceptance_rate=np.full((100, 8), 0.39)) == []


def test_the_rates_on_simulated_data_explain_a_wide_bracket() -> None:
    bad = {"acceptance_rate": np.full((100, 8), 0.1)}
    assert warnings_for(bracket_values() | bad) == []
    wide, rates = warnings_for(bracket_values(0.6) | bad)
    assert "0.60 nat apart" in wide
    assert rates.startswith("simulated: the acceptance rate is 0.10 in 8 of 8")


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_chains_cannot_tell(count: int) -> None:
    summary = summarize_split(example_values(effective_sample_size=np.full(100, 1.0)))
    config = EvaluateConfig(AISConfig(num_chains=count))
    (line,) = warnings_about({"test": summary}, summarize_bracket(bracket_values()), config)
    assert line.startswith(f"{count} chain")
    assert "raise {num_chains} to 3" in line


def test_an_estimate_below_the_elbo_by_chance_is_not_called_so() -> None:
    """A mean gap of -0.1 with a standard error of 0.1 says nothing."""
    gap = np.linspace(-1.0, 1.0, 100) * np.sqrt(3.0) - 0.1
    assert warnings_for(bracket_values(), log_likelihood=example_values()["elbo"] + gap) == []


def test_active_units_are_those_whose_mean_varies() -> None:
    """Variances of 0.34, 0.0009 and 0.021, against 0.01."""
    summary = summarize_split(example_values())
    assert (summary.active_units, summary.latent_dim) == (2, 3)


def test_active_units_of_a_single_example_are_not_known() -> None:
    """It has no variance, which is not one of 0."""
    summary = summarize_split({name: values[:1] for name, values in example_values().items()})
    assert summary.active_units is None
    assert summary.format_active_units() == "? of 3"


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e38])
def test_numbers_that_are_not_finite_are_summarized_without_a_word_of_numpy(value: float) -> None:
    """As of a damaged file, or of an encoder that has diverged: warnings are errors here."""
    signs = np.where(np.arange(100) % 2, value, -value)
    changes = {
        name: (signs[:, None] * np.ones(array[0].shape)).reshape(array.shape).astype(np.float32)
        for name, array in example_values().items()
    }
    assert warnings_for({**bracket_values(), "upper_bound": signs}, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"share_not_converged": 0.2}, ["test: 20 % of the examples have not converged"]),
        (
            {"approximation_gap": Estimate(-0.5, 0.1)},
            ["test: the log-likelihood estimate is 0.5"],
        ),
    ],
)
def test_halves_of_the_gap_that_are_not_to_be_trusted_are_warned_of(
    changes: dict[str, Any], words: list[str]
) -> None:
    number = Estimate(1.0, 0.1)
    family = FamilySummary(number, number, number, number, 0.01, 200.0)
    local = LocalSummary(
        {"full": dataclasses.replace(family, **changes)}, RestartSummary(50, 0, 0, number)
    )
    summary = dataclasses.replace(summarize_split(example_values()), local=local)
    warnings = warnings_about(
        {"test": summary}, summarize_bracket(bracket_values()), EvaluateConfig()
    )
    assert [warning[: len(text)] for warning, text in zip(warnings, words, strict=True)] == words
