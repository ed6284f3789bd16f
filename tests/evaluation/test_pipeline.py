"""The evaluation held against exact answers, and its bits against every way of cutting the work.

Seeds are arbitrary: each assertion at five standard errors fails for fewer than one seed in a
million.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support.errors import refused
from tests.support.runs import ReferenceRun, assert_same_bits, dead_process, forget_data
from tfp_smvi.config import (
    BLOCK_SIZE,
    AISConfig,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    RunConfig,
    TrainConfig,
)
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.core.reporters import Silent
from tfp_smvi.data import load_dataset
from tfp_smvi.engines.processes import Processes
from tfp_smvi.evaluation import accuracy, convergence, session
from tfp_smvi.evaluation.accuracy import choose_temperatures, with_temperatures
from tfp_smvi.evaluation.blocks import Block, Shard, plan
from tfp_smvi.evaluation.calibration_summary import summarize_calibration
from tfp_smvi.evaluation.convergence_table import format_convergence
from tfp_smvi.evaluation.estimator import BlockEstimator
from tfp_smvi.evaluation.pipeline import evaluate
from tfp_smvi.evaluation.results import Evaluation
from tfp_smvi.evaluation.session import EvaluationSession
from tfp_smvi.evaluation.summary import summarize_bracket, summarize_split
from tfp_smvi.evaluation.table import format_evaluation
from tfp_smvi.models.vae import VAE
from tfp_smvi.report.convergence_figure import write_convergence_figure
from tfp_smvi.training.loop import fit

tfd = tfp.distributions

LATENT_DIM, OBSERVED_DIM, NOISE = 3, 8, 0.7
SMALL = EvaluateConfig(
    ais=AISConfig(
        num_chains=3,
        num_temperatures=6,
        num_leapfrog_steps=2,
        num_pilot_chains=2,
        num_pilot_temperatures=8,
    ),
    num_examples=70,
    num_elbo_samples=100,
    num_divergence_samples=10,
    num_importance_samples=100,
    num_simulated=60,
    num_calibration=120,
)


class LinearGaussian:
    """p(z) = N(0, I), p(x|z) = N(W z, noise^2 I).

    W has orthogonal columns, so that the posterior is diagonal. The encoder is the posterior with
    its mean moved by `shift` posterior standard deviations and its standard deviation times
    `factor`.
    """

    def __init__(self, shift: float = 0.0, factor: float = 1.0) -> None:
        rng = np.random.default_rng(0)
        columns, _ = np.linalg.qr(rng.standard_normal((OBSERVED_DIM, LATENT_DIM)))
        self.weights = columns * [0.5, 1.0, 2.0]
        self.variance = 1.0 / (1.0 + np.sum(self.weights**2, axis=0) / NOISE**2)
        self.shift, self.factor = shift, factor
        self.prior = tfd.MultivariateNormalDiag(tf.zeros(LATENT_DIM), tf.ones(LATENT_DIM))

    def encode(self, x: tf.Tensor) -> tfd.Distribution:
        stddev = tf.constant(np.sqrt(self.variance), tf.float32)
        gain = tf.constant(self.weights * self.variance / NOISE**2, tf.float32)
        mean = tf.matmul(x, gain) + self.shift * stddev
        return tfd.MultivariateNormalDiag(mean, self.factor * stddev * tf.ones_like(mean))

    def decode(self, z: tf.Tensor) -> tfd.Distribution:
        mean = tf.linalg.matvec(tf.constant(self.weights, tf.float32), z)
        return tfd.MultivariateNormalDiag(mean, NOISE * tf.ones_like(mean))

    def log_joint(self, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        return self.prior.log_prob(z) + self.decode(z).log_prob(x)

    def covariance(self) -> np.ndarray:
        """The covariance of x."""
        return self.weights @ self.weights.T + NOISE**2 * np.eye(OBSERVED_DIM)

    def simulate(self) -> tuple[tf.Tensor, np.ndarray]:
        """Data, float32 [BLOCK_SIZE, OBSERVED_DIM], and exact log p(x), float64 [BLOCK_SIZE]."""
        rng = np.random.default_rng(1)
        x = rng.multivariate_normal(np.zeros(OBSERVED_DIM), self.covariance(), BLOCK_SIZE)
        exact = tfd.MultivariateNormalFullCovariance(np.zeros(OBSERVED_DIM), self.covariance())
        return tf.constant(x, tf.float32), exact.log_prob(x).numpy()

    def kl(self) -> float:
        """KL(q, p(z|x)) = 1/2 sum_i (factor^2 - 1 - 2 log factor + shift^2)."""
        return 0.5 * LATENT_DIM * (self.factor**2 - 1.0 - 2.0 * np.log(self.factor) + self.shift**2)

    def divergence(self) -> float:
        """D_SM = tr(A S A) + ||Sigma^-1 (m - mu)||^2 with A = Sigma^-1 - S^-1; for each dimension.

        ((factor - 1 / factor)^2 + shift^2) / variance
        """
        return np.sum(((self.factor - 1.0 / self.factor) ** 2 + self.shift**2) / self.variance)

    def weighted_divergence(self) -> float:
        """D_w = tr(S A S A) + (m - mu)' Sigma^-1 S Sigma^-1 (m - mu)."""
        relative = self.factor**2  # S Sigma^-1
        return LATENT_DIM * ((relative - 1.0) ** 2 + relative * self.shift**2)


def mean_error(errors: np.ndarray) -> float:
    """The standard error of a mean over examples from those of the examples."""
    return np.sqrt(np.sum(np.asarray(errors, np.float64) ** 2)) / len(errors)


def seed(number: int) -> tf.Tensor:
    return tf.constant([number, 3], tf.int32)


def test_gap_vanishes_when_encoder_is_exact() -> None:
    """Catches a gap of 0.02 nat instead of none; every weight is p(x) up to rounding."""
    model = LinearGaussian()
    x, log_likelihood = model.simulate()
    estimator = BlockEstimator(model, dataclasses.replace(SMALL, num_elbo_samples=4096))
    bounds, annealed = estimator.bounds(x, seed(0)), estimator.annealed(x, seed(1))
    for estimate in (annealed["log_likelihood"], bounds["iwae_bound"]):
        np.testing.assert_allclose(estimate, log_likelihood, atol=1e-4, rtol=0)
    np.testing.assert_allclose(bounds["divergence"], 0.0, atol=1e-6)
    assert np.all(np.isneginf(bounds["pareto_k"]))
    gap = annealed["log_likelihood"] - bounds["elbo"]
    error = mean_error(bounds["elbo_error"])
    assert error < 0.004
    assert abs(gap.mean()) < 5.0 * error


@pytest.mark.parametrize(
    ("initial", "schedule"),
    [
        ("posterior", "sigmoid"),
        ("prior", "sigmoid"),
        ("posterior", "linear"),
    ],
)
def test_gap_is_the_closed_form_kl_when_encoder_is_wrong(initial: Any, schedule: Any) -> None:
    """Catches an error of 0.1 nat in a gap of 0.68 nat, and of 5 % in the divergences.

    Also one of 0.15 in a squared distance of means, and of 7 % in a width.
    """
    model = LinearGaussian(shift=0.5, factor=0.7)
    x, log_likelihood = model.simulate()
    ais = AISConfig(num_temperatures=100, num_chains=64, initial=initial, schedule=schedule)
    config = EvaluateConfig(ais=ais, num_divergence_samples=1024, num_importance_samples=2000)
    estimator = BlockEstimator(model, config)
    bounds, annealed = estimator.bounds(x, seed(2)), estimator.annealed(x, seed(3))
    summary = summarize_split(bounds | annealed)
    gap = summary.gap
    assert gap.monte_carlo_error is not None
    assert gap.monte_carlo_error < 0.02
    assert abs(gap.mean - model.kl()) < 5.0 * gap.monte_carlo_error
    for divergence, exact in (
        (summary.divergence, model.divergence()),
        (summary.weighted_divergence, model.weighted_divergence()),
    ):
        assert divergence is not None
        assert divergence.monte_carlo_error is not None
        assert divergence.monte_carlo_error < 0.01 * exact
        assert abs(divergence.mean - exact) < 5.0 * divergence.monte_carlo_error
    for bound in (summary.log_likelihood, summary.iwae_bound):
        assert bound.monte_carlo_error is not None
        assert abs(bound.mean - log_likelihood.mean()) < 5.0 * bound.monte_carlo_error
    moments = summary.moments
    assert moments is not None
    assert len(moments.latents) == LATENT_DIM
    for found in (moments, *moments.latents):
        squared_shift, ratio = found.squared_shift, found.width_ratio
        assert squared_shift.standard_error < 0.04
        assert abs(squared_shift.mean - model.shift**2) < 5.0 * squared_shift.standard_error
        assert ratio.standard_error < 0.02
        assert abs(ratio.mean - model.factor) < 5.0 * ratio.standard_error
    assert summary.tails is not None
    assert summary.tails.share_good + summary.tails.share_fair > 0.5  # k = 1 - 0.7^2 = 0.51
    # The gap is the same for all examples, and log p(x) is not: the errors say so.
    assert gap.standard_error < 0.2 * summary.log_likelihood.standard_error


def test_bracket_closes_on_the_entropy_of_the_simulated_data() -> None:
    """Catches data of another model, an error of 1.5 nat, and chains that do not start at z.

    With an exact encoder both bounds are log p(x), whose mean is -1/2 (d + log det(2 pi C)).
    """
    model = LinearGaussian()
    bracket = BlockEstimator(model, SMALL).bracketed(seed(4))
    np.testing.assert_allclose(bracket["lower_bound"], bracket["upper_bound"], atol=1e-4)
    _, log_determinant = np.linalg.slogdet(2.0 * np.pi * model.covariance())
    expected = -0.5 * (OBSERVED_DIM + log_determinant)
    # The variance of log p(x) is d / 2.
    error = np.sqrt(OBSERVED_DIM / 2.0 / BLOCK_SIZE)
    assert abs(bracket["lower_bound"].mean() - expected) < 5.0 * error


@pytest.mark.slow
def test_bracket_is_open_with_few_temperatures_and_closes_with_many() -> None:
    """Catches bounds that are exchanged, or that do not tighten: from 0.1 nat and more to less."""
    model = LinearGaussian(shift=1.0, factor=0.5)
    widths = []
    for num_temperatures in (2, 200):
        ais = AISConfig(num_temperatures=num_temperatures, num_chains=4)
        config = EvaluateConfig(ais=ais)
        widths.append(summarize_bracket(BlockEstimator(model, config).bracketed(seed(5))).width)
    assert widths[0].mean > 5.0 * widths[0].standard_error
    assert widths[0].mean > 0.1
    assert abs(widths[1].mean) < 0.1 + 5.0 * widths[1].standard_error


def test_a_graph_is_traced_once() -> None:
    """Catches a graph that depends on the block."""
    estimator = BlockEstimator(LinearGaussian(), SMALL)
    x, _ = LinearGaussian().simulate()
    for number in range(3):
        estimator.bounds(x + number, seed(number))
        estimator.annealed(x + number, seed(number))
    assert estimator._bounds.experimental_get_tracing_count() == 1
    assert estimator._annealed.experimental_get_tracing_count() == 1


@pytest.fixture(scope="module")
def run_dir(reference: ReferenceRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run, evaluated in one go with SMALL on both splits."""
    path = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(reference.run_dir, path)
    evaluate(path, dataclasses.replace(SMALL, split="both"))
    return path


@pytest.fixture
def fresh(reference: ReferenceRun, tmp_path: Path) -> Path:
    """The same run, not evaluated."""
    return Path(shutil.copytree(reference.run_dir, tmp_path / "run"))


def values(run_dir: Path) -> dict[str, np.ndarray]:
    with np.load(run_dir / "evaluation.npz", allow_pickle=False) as members:
        return {name: members[name] for name in members.files}


def test_result_is_what_its_file_holds(run_dir: Path) -> None:
    text = (run_dir / "evaluation.json").read_text()
    assert json.dumps(Evaluation.from_json(json.loads(text)).to_json(), indent=2) + "\n" == text


def test_report_has_all_its_parts(run_dir: Path) -> None:
    report = json.loads((run_dir / "evaluation.json").read_text())
    expected = {"splits", "bracket", "warnings", "settings", "run", "versions", "machine"}
    assert {*report} == expected | {"units", "log_scale", "calibration", "hosts"}
    assert report["hosts"] == [report["machine"]["hostname"]] == [socket.gethostname()]
    assert [*report["splits"]] == ["train", "test"]
    assert report["settings"] == dataclasses.replace(SMALL, split="both").to_json()
    assert {*report["run"]} == {"config", "step", "epochs", "weights", "data_fingerprint"}
    for summary in report["splits"].values():
        names = ("elbo", "iwae_bound", "log_likelihood", "gap", "divergence", "weighted_divergence")
        for name in names:
            assert {*summary[name]} == {"mean", "standard_error", "monte_carlo_error"}
        assert {*summary} >= {
            "kl",
            "acceptance_rate",
            "effective_sample_size",
            "active_units",
            "latent_dim",
        }
        assert summary["num_examples"] == 70
    assert {*report["bracket"]} >= {"num_examples", "lower_bound", "upper_bound", "width"}
    assert report["bracket"]["num_examples"] == 60


def test_report_is_the_mean_of_its_examples(run_dir: Path) -> None:
    arrays, report = values(run_dir), json.loads((run_dir / "evaluation.json").read_text())
    for split in ("train", "test"):
        gap = arrays[f"{split}_log_likelihood"].astype(float) - arrays[f"{split}_elbo"]
        np.testing.assert_array_equal(arrays[f"{split}_gap"], gap)
        summary = report["splits"][split]["gap"]
        assert summary["mean"] == gap.mean()
        assert summary["standard_error"] == pytest.approx(gap.std(ddof=1) / np.sqrt(70))
    assert arrays["test_acceptance_rate"].shape == (70, 6)
    assert arrays["test_posterior_mean"].shape == (70, 4)
    assert arrays["simulated_upper_bound"].shape == (60,)
    assert np.all(arrays["train_elbo"] != arrays["test_elbo"])


def test_the_worst_examples_are_those_with_the_largest_gaps(run_dir: Path, digits: Any) -> None:
    """Catches an index of another order, and pictures of other examples than the numbers."""
    arrays, report = values(run_dir), json.loads((run_dir / "evaluation.json").read_text())
    for split in ("train", "test"):
        worst, gaps = report["splits"][split]["worst"], arrays[f"{split}_gap"]
        indices = [example["index"] for example in worst]
        assert indices == np.argsort(-gaps)[:10].tolist()
        for name in ("gap", "elbo", "divergence", "weighted_divergence", "log_likelihood"):
            expected = arrays[f"{split}_{name}"][indices].astype(float).tolist()
            assert [example[name] for example in worst] == expected
        originals = arrays[f"{split}_worst_originals"]
        assert (originals.shape, originals.dtype) == ((10, 8, 8, 1), np.uint8)
        assert {*np.unique(originals)} == {0, 255}
        reconstructions = arrays[f"{split}_worst_reconstructions"]
        assert reconstructions.shape == originals.shape
        # The bits of a pixel that is surely black or white are known.
        grey = getattr(digits, split).images(np.array(indices))
        assert np.all(originals[grey == 0.0] == 0)
        assert np.all(originals[grey == 1.0] == 255)


def test_shards_in_any_order_merge_into_the_same_bits(run_dir: Path, fresh: Path) -> None:
    """Catches a bit that depends on what else a process does, or on the order."""
    config = dataclasses.replace(SMALL, split="both")
    assert evaluate(fresh, config, shard=Shard(2, 2)) is None
    assert not (fresh / "evaluation.json").exists()
    with pytest.raises(SMVIError) as caught:
        evaluate(fresh, config, merge=True)
    missing = "7 of 13 results are missing, the first of them bounds of train block 0"
    assert caught.value.problem == missing
    assert "{merge}" in str(caught.value.remedy)
    evaluate(fresh, config, shard=Shard(1, 2))
    evaluate(fresh, config, merge=True)
    for name in ("evaluation.npz", "evaluation.json"):
        assert (fresh / name).read_bytes() == (run_dir / name).read_bytes(), name


@pytest.mark.slow
def test_other_processes_give_the_same_bits(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a task that depends on the process that it runs in, and an engine without work."""
    copy = Path(shutil.copytree(run_dir, tmp_path / "run"))
    missing = [
        next(copy.glob(f"evaluation/{kind}-*/test-00001.npz")) for kind in ("bounds", "ann*")
    ]
    for path in (*missing, copy / "evaluation.npz", copy / "evaluation.json"):
        path.unlink()
    monkeypatch.setattr(EvaluationSession, "estimate", None)  # not in this process
    with Processes(2) as engine:
        evaluate(copy, dataclasses.replace(SMALL, split="both"), engine=engine)
    for name in ("evaluation.npz", "evaluation.json"):
        assert (copy / name).read_bytes() == (run_dir / name).read_bytes(), name


def test_the_ranks_of_the_calibration_and_their_summary_are_written(run_dir: Path) -> None:
    written = values(run_dir)
    evaluation = Evaluation.from_json(json.loads((run_dir / "evaluation.json").read_text()))
    ranks, active = written["calibration_ranks"], written["calibration_active"]
    assert (ranks.shape, ranks.dtype) == ((120, 4), np.int16)
    again = {
        "ranks": ranks,
        "log_joint_rank": written["calibration_log_joint_ranks"],
        # Any means that vary in the same latents.
        "posterior_mean": np.where(active, np.arange(120)[:, np.newaxis], 0.0),
    }
    assert summarize_calibration(again) == evaluation.calibration
    assert "On 120 examples simulated from the model, their z among 79 draws" in format_evaluation(
        evaluation
    )


def test_a_calibration_with_fewer_examples_or_none_shares_its_blocks(
    run_dir: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(run_dir, tmp_path / "run"))
    fewer = evaluate(copy, dataclasses.replace(SMALL, num_calibration=70), merge=True)
    assert fewer is not None
    assert fewer.calibration is not None
    assert fewer.calibration.num_examples == 70
    none = evaluate(copy, dataclasses.replace(SMALL, num_calibration=0), merge=True)
    assert none is not None
    assert "calibration" not in none.to_json()
    assert not any(name.startswith("calibration") for name in values(copy))


def test_a_search_for_temperatures_needs_no_calibration() -> None:
    assert {block.kind for block in plan(SMALL, {"test": 5}, kinds=())} == {"bracket"}
    blocks = plan(SMALL, {"test": 5})
    assert [block.index for block in blocks if block.kind == "calibration"] == [0, 1, 2]


class Died(Exception):  # noqa: N818
    """Stands for a death in the middle."""


class DiesAfter(Silent):
    """A reporter that ends the evaluation after so many units of work."""

    def __init__(self, num_units: int) -> None:
        self.left = num_units

    def advance(self, cost: float) -> None:
        self.left -= 1
        if self.left == 0:
            raise Died


def test_resuming_does_no_block_twice_and_other_numbers_of_examples_share_them(
    run_dir: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a block that depends on --num-examples, is lost, or is done again."""
    computed: list[str] = []

    estimate = EvaluationSession.estimate

    def counted(opened: EvaluationSession, block: Block) -> None:
        computed.append(block.kind)
        estimate(opened, block)

    monkeypatch.setattr(EvaluationSession, "estimate", counted)
    few, many = (dataclasses.replace(SMALL, num_examples=count) for count in (20, 70))
    with pytest.raises(Died):
        evaluate(fresh, few, reporter=DiesAfter(2))
    assert computed == ["bounds", "annealed"]
    report = evaluate(fresh, few)
    assert report is not None
    assert report.splits["test"].num_examples == 20
    assert computed == ["bounds", "annealed", *["bracket"] * 2, *["calibration"] * 3]
    evaluate(fresh, many)
    assert computed[7:] == ["bounds", "annealed"]
    evaluate(fresh, many)
    assert len(computed) == 9
    whole = values(run_dir)
    assert_same_bits(
        values(fresh),
        {name: array for name, array in whole.items() if not name.startswith("train")},
    )


def test_a_file_that_another_process_is_writing_stays_and_litter_goes(
    run_dir: Path, tmp_path: Path
) -> None:
    """Catches a shard that deletes what another one is writing, and litter that stays for ever."""
    copy = Path(shutil.copytree(run_dir, tmp_path / "run"))
    folder = next(copy.glob("evaluation/annealed-*"))
    dead, alive = dead_process(), os.getppid()
    names = (".test-00000.npz.{}.partial", ".test-00001.npz.{}.partial")
    written = [folder / name.format(alive) for name in names]
    litter = [folder / name.format(dead) for name in names]
    litter.append(copy / f".evaluation.npz.{dead}.partial")
    others = copy / f".config.json.{dead}.partial"  # the training sweeps it
    for path in (*written, *litter, others):
        path.touch()
    evaluate(copy, SMALL)
    assert all(path.exists() for path in (*written, others))
    assert not any(path.exists() for path in litter)


def test_a_frozen_decoder_has_the_same_gradient() -> None:
    """Catches a wrong transposition: the products differ by float32's rounding alone."""
    model = VAE(ModelConfig(likelihood="bernoulli", latent_dim=3, hidden_sizes=(7, 5)), (4, 2))
    x, z = tf.ones([6, 4, 2]), tf.random.stateless_normal([2, 6, 3], [0, 1])

    def log_joint(z: tf.Tensor) -> tf.Tensor:
        return model.log_joint(x, z)

    before = tfp.math.value_and_gradient(log_joint, z)
    model.freeze_decoder()
    for value, expected in zip(tfp.math.value_and_gradient(log_joint, z), before, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)


def test_another_seed_gives_other_draws(run_dir: Path) -> None:
    opened = EvaluationSession(run_dir)
    numbers = opened.num_examples(SMALL)
    other = dataclasses.replace(SMALL, seed=1)
    assert not any(opened.is_done(block) for block in plan(other, numbers))
    assert all(opened.is_done(block) for block in plan(SMALL, numbers))


def test_the_last_block_of_a_split_is_short(digits: Any, fresh: Path) -> None:
    """360 digits are seven blocks of 50 and ten more; 10 is what the file holds."""
    opened = EvaluationSession(fresh)
    config = dataclasses.replace(SMALL, num_examples=None)
    assert opened.num_examples(config) == {"test": 360}
    assert digits.test.num_examples == 360
    blocks = [block for block in plan(config, {"test": 360}) if block.data == "test"]
    assert blocks[-1] == Block("annealed", "test", 7, config)
    opened.estimate(blocks[-1])
    arrays = opened.store("annealed", config).load("test-00007")
    assert bytes(arrays.pop("host")).decode() == socket.gethostname()
    assert {len(array) for array in arrays.values()} == {10}
    assert np.all(np.isfinite(arrays["log_likelihood"]))


def test_a_damaged_block_is_named(run_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_dir, tmp_path / "run"))
    damaged = next(copy.glob("evaluation/annealed-*/test-00001.npz"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(SMVIError) as caught:
        evaluate(copy, SMALL, merge=True)
    assert caught.value.problem.startswith(f"{damaged} cannot be read (")
    assert caught.value.remedy is not None
    damaged.unlink()
    evaluate(copy, SMALL)
    assert_same_bits(
        {name: array for name, array in values(run_dir).items() if not name.startswith("train")},
        values(copy),
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda elbo: elbo.astype("M8[s]"),
        lambda elbo: elbo[:, None],
        lambda elbo: elbo[0],
        lambda elbo: elbo[:-1],
        lambda elbo: None,
    ],
)
def test_a_block_with_another_kind_of_numbers_is_refused(
    run_dir: Path, tmp_path: Path, change: Any
) -> None:
    """Catches a block that broadcasts into other results, or ends in NumPy's own error."""
    copy = Path(shutil.copytree(run_dir, tmp_path / "run"))
    file = next(copy.glob("evaluation/bounds-*/test-00000.npz"))
    with np.load(file) as members:
        arrays = dict(members)
    changed = change(arrays.pop("elbo"))
    np.savez(file, **arrays, **({} if changed is None else {"elbo": changed}))
    with pytest.raises(SMVIError, match="results of different kinds or shapes") as caught:
        evaluate(copy, SMALL, merge=True)
    assert caught.value.remedy is not None


def test_an_evaluation_of_version_0_1_goes_on(run_dir: Path, tmp_path: Path) -> None:
    """Its blocks lack D_w, tails and moments, so that the whole has none; all else is the same."""
    copy = Path(shutil.copytree(run_dir, tmp_path / "run"))
    for file in copy.glob("evaluation/*/test-00000.npz"):
        with np.load(file) as members:
            arrays = {name: array for name, array in members.items() if name not in session.NEWER}
        np.savez(file, **arrays)
    evaluation = evaluate(copy, SMALL, merge=True)
    assert evaluation is not None
    summary = evaluation.splits["test"]
    assert summary.weighted_divergence is None
    assert "D_w" not in format_evaluation(evaluation).partition("Values")[0]
    whole = Evaluation.from_json(json.loads((run_dir / "evaluation.json").read_text()))
    assert "divergence D_w" in format_evaluation(whole)
    lacking = ("weighted_divergence", "tails", "moments", "reconstruction_change")
    assert all(getattr(whole.splits["test"], name) for name in lacking)
    expected = dataclasses.replace(whole.splits["test"], **dict.fromkeys(lacking))
    assert [example.index for example in summary.worst or ()] == [
        example.index for example in expected.worst or ()
    ]
    assert dataclasses.replace(summary, worst=None) == dataclasses.replace(expected, worst=None)
    table = format_evaluation(evaluation)
    assert "Pareto k" not in table
    assert "sd_q / sd_p" not in table


def test_other_data_are_refused(fresh: Path) -> None:
    forget_data(fresh)
    with pytest.raises(
        SMVIError, match="the data digits are not those that the model was trained on"
    ):
        evaluate(fresh, SMALL)


@pytest.mark.slow
def test_convergence_writes_table_and_plot(run_dir: Path, fresh: Path) -> None:
    config = dataclasses.replace(SMALL, num_examples=20, num_simulated=10)
    found = convergence.measure_convergence(fresh, config, (2, 6))
    assert found is not None
    written = json.loads((fresh / "convergence.json").read_text())
    assert found.to_json() == written
    assert "num_temperatures" not in written["settings"]["ais"]
    summary = found.splits["test"]
    assert [*summary.by_num_temperatures] == [*found.brackets] == ["2", "6"]
    evaluated = values(run_dir)["test_log_likelihood"][:20].astype(float).mean()
    assert summary.by_num_temperatures["6"].log_likelihood.mean == evaluated
    write_convergence_figure(found, fresh / "convergence.png")
    assert (fresh / "convergence.png").read_bytes().startswith(b"\x89PNG")
    table = format_convergence(found)
    assert "test, 20 examples:" in table
    assert ("stops moving at 2" in table) == (summary.settled_at == 2)


def test_a_width_below_zero_is_no_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is chance: the width is known to no better than its standard error."""
    bracket = SimpleNamespace(width=Estimate(-0.05, 0.04))
    monkeypatch.setattr(accuracy, "summarize_bracket", lambda arrays: bracket)
    monkeypatch.setattr(accuracy, "CANDIDATES", (2,))
    done: Any = SimpleNamespace(plan=lambda *a, **k: (), load=lambda *a: {}, is_done=bool)
    engine: Any = None
    for asked, accepted in ((0.045, True), (0.035, False)):
        wanted = dataclasses.replace(SMALL, accuracy=asked)
        with contextlib.nullcontext() if accepted else refused("accuracy", asked):
            choose_temperatures(done, wanted, engine, Silent())


@pytest.mark.slow
def test_an_accuracy_chooses_the_number_of_temperatures(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a search that stops early, does a block twice, or changes the estimates.

    Each shard searches, and finds the blocks of the others. Brackets get narrower by more than
    their errors from 2 to 12 temperatures.
    """
    computed: list[str] = []
    estimate = EvaluationSession.estimate

    def counted(opened: EvaluationSession, block: Block) -> None:
        computed.append(f"{block.kind} {block.config.ais.num_temperatures}")
        estimate(opened, block)

    monkeypatch.setattr(EvaluationSession, "estimate", counted)
    monkeypatch.setattr(accuracy, "CANDIDATES", (2, 12))
    config = dataclasses.replace(SMALL, num_examples=20, num_simulated=50, num_calibration=0)
    with refused("accuracy", 1e-9) as caught:
        evaluate(fresh, dataclasses.replace(config, accuracy=1e-9), shard=Shard(2, 2))
    assert "not reached with 12 temperatures" in str(caught.value)
    assert computed == ["bracket 2", "bracket 12"]
    configs = [with_temperatures(config, count) for count in (2, 12)]
    opened = EvaluationSession(fresh)
    widths = [
        summarize_bracket(opened.load("bracket", changed, "simulated")).width for changed in configs
    ]
    bounds = [width.mean + width.standard_error for width in widths]
    assert bounds[0] > bounds[1]
    asked = dataclasses.replace(config, accuracy=float(np.mean(bounds)))
    assert [evaluate(fresh, asked, shard=Shard(number, 2)) for number in (1, 2)] == [None, None]
    found = evaluate(fresh, asked, merge=True)
    assert found is not None
    assert found.temperatures is not None
    assert found.temperatures.num_temperatures == 12
    assert dict(found.temperatures.brackets) == dict(zip(("2", "12"), widths, strict=True))
    assert computed[2:] == ["bounds 12", "annealed 12"]
    assert "Chosen: 12 temperatures.\nThe bracket is" in format_evaluation(found)
    written = json.loads((fresh / "evaluation.json").read_text())
    assert Evaluation.from_json(written) == found
    plain = evaluate(fresh, configs[1], merge=True)
    assert plain is not None
    assert (plain.splits, plain.bracket) == (found.splits, found.bracket)


def test_estimate_settles_where_later_ones_agree() -> None:
    """A spread of 10 nats over examples hides no movement of 0.1 nat: differences are paired."""
    rng = np.random.default_rng(2)
    base = 10.0 * rng.standard_normal(100)
    noise = 0.05 * rng.standard_normal((4, 100))
    estimates = {10: base - 0.3, 32: base - 0.1, 100: base, 316: base}
    noisy = {
        count: value + noise[i] - noise[i].mean()
        for i, (count, value) in enumerate(estimates.items())
    }
    narrow = dict.fromkeys(estimates, Estimate(0.5, 0.1))
    assert convergence.settled_at(noisy, narrow) == 100
    # Not where the bracket is wide, or not known.
    for width in (Estimate(0.51, 0.1), Estimate(np.nan), Estimate(0.1, 0.6)):
        assert convergence.settled_at(noisy, narrow | {100: width}) is None
    del noisy[316]
    assert convergence.settled_at(noisy, narrow) is None
    noisy[100] = noisy[100] * np.nan
    assert convergence.settled_at(noisy, narrow) is None


class TwoModes(LinearGaussian):
    """p(x|z) = N(|z|, 0.1^2), whose posterior has two modes, of which q(z|x) covers one."""

    def __init__(self) -> None:
        self.prior = tfd.MultivariateNormalDiag(tf.zeros(1), tf.ones(1))

    def encode(self, x: tf.Tensor) -> tfd.Distribution:
        return tfd.MultivariateNormalDiag(x, 0.1 * tf.ones_like(x))

    def decode(self, z: tf.Tensor) -> tfd.Distribution:
        return tfd.MultivariateNormalDiag(tf.abs(z), 0.1 * tf.ones_like(z))


@pytest.mark.slow
def test_an_estimate_that_misses_a_mode_does_not_settle() -> None:
    """Both numbers of temperatures agree, and are log 2 = 0.69 nats too low; the bracket says so.

    Chains would have to cross ten standard deviations. A start as wide as both modes finds both.
    """
    model, counts = TwoModes(), (10, 30)
    z = np.linspace(0.8, 1.2, BLOCK_SIZE, dtype=np.float32)[:, np.newaxis]
    exact = np.log(2.0) + tfd.Normal(0.0, np.sqrt(1.01)).log_prob(z)[:, 0].numpy()
    ais = AISConfig(num_segments=2, num_pilot_temperatures=8)

    def estimator(count: int, scale: float = 1.0) -> BlockEstimator:
        changed = dataclasses.replace(ais, num_temperatures=count, initial_scale=scale)
        return BlockEstimator(model, EvaluateConfig(changed))

    def estimated(estimator: BlockEstimator) -> np.ndarray:
        return estimator.annealed(tf.constant(z), seed(31))["log_likelihood"]

    estimators = {count: estimator(count) for count in counts}
    values = {count: estimated(estimators[count]) for count in counts}
    widths = {
        count: summarize_bracket(estimators[count].bracketed(seed(32))).width for count in counts
    }
    assert np.abs(exact - values[10] - np.log(2.0)).mean() < 0.05
    assert convergence.settled_at(values, dict.fromkeys(counts, Estimate(0.0))) == 10
    assert min(width.mean for width in widths.values()) > 0.5
    assert convergence.settled_at(values, widths) is None
    assert abs((exact - estimated(estimator(30, 10.0))).mean()) < 0.2


@pytest.mark.slow
def test_gap_falls_with_lam(tmp_path: Path) -> None:
    """The paper's claim at its smallest: 12 epochs of digits. A gap half as large is required.

    Catches a lam without effect, or with less than that: the gap falls to a tenth, from 0.12 nat
    with an error of 0.01.
    """
    dataset, gaps = load_dataset("digits"), []
    for lam in (0.0, 2.0):
        train = TrainConfig(lam=lam, epochs=12, batch_size=32, lam_warmup_steps=120)
        config = RunConfig(
            DataConfig("digits"), ModelConfig(latent_dim=10, hidden_sizes=(64,)), train
        )
        fit(config, dataset, tmp_path / str(lam))
        # Two blocks of the data and one of the bracket.
        settings = EvaluateConfig(
            AISConfig(num_chains=8, num_temperatures=32, num_pilot_temperatures=16),
            num_examples=100,
            num_divergence_samples=2,
            num_importance_samples=1,
            num_simulated=50,
        )
        report = evaluate(tmp_path / str(lam), settings)
        assert report is not None
        assert report.bracket.width.mean < 0.5
        gaps.append(report.splits["test"].gap)
    error = np.hypot(gaps[0].standard_error, 2.0 * gaps[1].standard_error)
    assert gaps[0].mean - 2.0 * gaps[1].mean > 5.0 * error
