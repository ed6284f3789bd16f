"""The calibration of q(z|x) held against exact answers."""

import json
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import special

from tfp_smvi.config import EvaluateConfig
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.evaluation.calibration import NUM_DRAWS, CalibrationEstimator, ranks
from tfp_smvi.evaluation.calibration_results import CalibrationSummary, LatentCalibration
from tfp_smvi.evaluation.calibration_summary import (
    calibration_lines,
    calibration_warnings,
    summarize_calibration,
)

tfd = tfp.distributions

NUM_EXAMPLES = EvaluateConfig().num_calibration


class Correlated:
    """p(z) = N(0, I), p(x|z) = N(W z, I), whose posterior N(mean, covariance) is correlated.

    The encoder's q has the mean of the posterior, moved by `shift` standard deviations, and either
    its covariance or its variances alone ("diagonal"), with standard deviations times `factor`. The
    last latent does not reach x: it is not active.
    """

    def __init__(self, shift: float = 0.0, factor: float = 1.0, *, diagonal: bool = False) -> None:
        self.weights = np.array([[1.0, 1.0, 0.0], [0.5, 2.0, 0.0]])
        covariance = np.linalg.inv(np.eye(3) + self.weights.T @ self.weights)
        self.gain = self.weights @ covariance
        self.stddev = np.sqrt(np.diag(covariance))
        scale = np.diag(self.stddev) if diagonal else np.linalg.cholesky(covariance)
        self.scale_tril = factor * scale
        self.shift = shift * self.stddev
        self.prior = tfd.MultivariateNormalDiag(tf.zeros(3), tf.ones(3))

    def encode(self, x: tf.Tensor) -> Any:
        mean = x @ tf.constant(self.gain, tf.float32) + tf.constant(self.shift, tf.float32)
        return tfd.MultivariateNormalTriL(mean, tf.constant(self.scale_tril, tf.float32))

    def decode(self, z: tf.Tensor) -> Any:
        mean = tf.linalg.matvec(tf.constant(self.weights, tf.float32), z)
        return tfd.MultivariateNormalDiag(mean, tf.ones_like(mean))

    def log_joint(self, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        return self.prior.log_prob(z) + self.decode(z).log_prob(x)


def ranked(model: Any, num_examples: int = NUM_EXAMPLES, number: int = 1) -> dict[str, np.ndarray]:
    """The ranks of examples that are simulated in one block."""

    def simulate(z_seed: tf.Tensor, x_seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        z = model.prior.sample(num_examples, seed=z_seed)
        return z, model.decode(z).sample(seed=x_seed)

    return CalibrationEstimator(model, simulate).ranked(tf.constant([number, 2]))


def expected_coverage(factor: float, level: float) -> float:
    """The probability that z ~ N(0, 1) is between order statistics of draws of N(0, factor^2).

    The number of draws below z is binomial(NUM_DRAWS, Phi(z / factor)); exact up to the grid.
    """
    z = np.linspace(-8.0, 8.0, 4001)
    below = special.ndtr(z / factor)
    outside = round(0.5 * (1.0 - level) * (NUM_DRAWS + 1))
    inside = special.bdtr(NUM_DRAWS - outside, NUM_DRAWS, below) - special.bdtr(
        outside - 1, NUM_DRAWS, below
    )
    return float(np.sum(inside * np.exp(-0.5 * z**2)) / np.sum(np.exp(-0.5 * z**2)))


@pytest.fixture(scope="module")
def calibrated() -> dict[str, np.ndarray]:
    """The ranks of 40,000 examples among draws of the posterior itself."""
    return ranked(Correlated(), num_examples=40_000)


def test_ranks_are_uniform_and_intervals_cover_if_q_is_the_posterior(
    calibrated: dict[str, np.ndarray],
) -> None:
    """A calibrated q is rejected with one seed of a hundred.

    The coverage is known to 1.1 % at 50 %, and catches an error of 5 %.
    """
    summary = summarize_calibration(
        {name: array[:NUM_EXAMPLES] for name, array in calibrated.items()}
    )
    assert (summary.num_examples, summary.num_draws) == (NUM_EXAMPLES, NUM_DRAWS)
    assert [*summary.latents] == ["0", "1"]
    assert summary.rejected == ()
    assert not summary.rejects_log_joint
    assert [*calibration_warnings(summary)] == []
    for latent in summary.latents.values():
        for level, share in latent.coverage.items():
            assert abs(share.mean - float(level)) < 5.0 * share.standard_error


def test_a_calibrated_q_is_warned_of_as_often_as_the_level_says(
    calibrated: dict[str, np.ndarray],
) -> None:
    """400 evaluations of 100 examples: at most 1 % have a warning; 4 % would be found."""
    count = 400
    parts = {name: np.split(array, count) for name, array in calibrated.items()}
    summaries = [
        summarize_calibration({name: part[i] for name, part in parts.items()}) for i in range(count)
    ]
    warned = np.mean([bool([*calibration_warnings(summary)]) for summary in summaries])
    level = summaries[0].level
    assert warned < level + 4.0 * np.sqrt(level * (1.0 - level) / count)
    p_values = [summary.log_joint_p_value for summary in summaries]
    assert 0.4 < np.mean(p_values) < 0.6


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_coverage_of_a_q_of_wrong_width_is_the_exact_one(factor: float) -> None:
    """Within 5 standard errors of 1 %; within 2 % of the coverage of exact quantiles, too."""
    summary = summarize_calibration(ranked(Correlated(factor=factor)))
    assert summary.rejected
    for latent in summary.latents.values():
        for level, share in latent.coverage.items():
            expected = expected_coverage(factor, float(level))
            binomial = np.sqrt(expected * (1.0 - expected) / NUM_EXAMPLES)
            assert share.standard_error == pytest.approx(binomial, rel=0.2)
            assert abs(share.mean - expected) < 5.0 * binomial
            quantile = special.ndtri(0.5 * (1.0 + float(level)))
            exact = special.ndtr(factor * quantile) - special.ndtr(-factor * quantile)
            assert abs(expected - exact) < 0.02


@pytest.mark.parametrize(
    "defect",
    [{"factor": 0.5}, {"factor": 0.85}, {"factor": 1.2}, {"shift": 0.15}, {"shift": -0.15}],
)
def test_a_wrong_width_and_a_wrong_mean_are_found(defect: dict[str, float]) -> None:
    """The last four are found in 99 of 100 evaluations: of the smallest that two latents show."""
    summary = summarize_calibration(ranked(Correlated(**defect)))
    assert {*summary.rejected} == {"0", "1"}
    (warning,) = calibration_warnings(summary)
    assert "not uniform for 2 of 2 active latents" in warning


def test_log_p_sees_a_dependence_that_no_latent_shows() -> None:
    """q has the exact marginals of the posterior, and no correlation."""
    summary = summarize_calibration(ranked(Correlated(diagonal=True)))
    assert summary.rejected == ()
    assert summary.rejects_log_joint
    (warning,) = calibration_warnings(summary)
    assert "not uniform for log p(x, z)." in warning


def test_ranks_among_ties_are_random_and_those_of_nan_are_not_known() -> None:
    """2,000 values that tie with two of four draws, above one: ranks 1, 2, 3, a third each."""
    draws = tf.constant([0.0, 1.0, 1.0, 2.0])[:, tf.newaxis] * tf.ones([4, 2000])
    found = ranks(tf.ones([2000]), draws, tf.constant([1, 2])).numpy()
    shares = np.bincount(found, minlength=5) / 2000
    np.testing.assert_allclose(shares, [0.0, 1 / 3, 1 / 3, 1 / 3, 0.0], atol=0.06)
    draws = tf.constant([[0.0, np.nan, -np.inf, -np.inf], [0.0, 0.0, 0.0, np.inf]])
    values = tf.constant([np.nan, 0.5, -np.inf, np.inf])
    found = ranks(values, draws, tf.constant([1, 2])).numpy()
    assert found[:2].tolist() == [-1, -1]
    assert found[2] in (0, 1)
    assert found[3] in (1, 2)


def test_examples_without_ranks_are_left_out_and_said() -> None:
    arrays = ranked(Correlated(), num_examples=100)
    arrays["ranks"][:3, 1] = -1.0
    arrays["log_joint_rank"][4] = -1.0
    summary = summarize_calibration(arrays)
    assert (summary.num_examples, summary.num_not_finite) == (96, 4)
    (warning,) = calibration_warnings(summary)
    assert warning.startswith("4 of the examples simulated for the calibration have no ranks")
    arrays["posterior_mean"][:] = np.nan
    arrays["log_joint_rank"][:] = -1.0
    nothing = summarize_calibration(arrays)
    assert (nothing.num_examples, nothing.latents, nothing.coverage) == (0, {}, {})
    json.dumps(nothing.to_json(), allow_nan=False)
    assert calibration_lines(nothing)


def test_a_model_without_active_latents_has_the_ranks_of_log_p_alone() -> None:
    arrays = ranked(Correlated(), num_examples=100)
    arrays["posterior_mean"] *= 0.01
    summary = summarize_calibration(arrays)
    assert (summary.latents, summary.coverage) == ({}, {})
    assert summary.level_of_one == summary.level
    assert calibration_lines(summary)[1:] == ["ranks that are not uniform  none"]


def test_the_table_says_what_is_not_uniform() -> None:
    share = {"0.5": Estimate(0.412, 0.004), "0.95": Estimate(0.9, 0.003)}
    low = Estimate(0.43, 0.01)
    latents = {"3": LatentCalibration(0.2, low, share), "7": LatentCalibration(1e-9, low, share)}
    summary = CalibrationSummary(2000, 0, 79, 0.01, latents, 1e-5, share)
    assert calibration_lines(summary) == [
        "On 2000 examples simulated from the model, their z among 79 draws of q(z|x):",
        "ranks that are not uniform     1 of 2 active latents and log p(x, z)",
        "in central 50, 95 % intervals           41.2 +/- 0.4, 90.0 +/- 0.3 %",
    ]
    (warning,) = calibration_warnings(summary)
    assert (
        "The worst is latent 7, counted from 0: 43.0 % of its draws are below z (50 % if its mean "
        "is right), and its 95 % intervals hold z in 90.0 %"
    ) in warning
