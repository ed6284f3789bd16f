"""The examples run and show what they say."""

import runpy
import warnings
from pathlib import Path

import numpy as np
import optuna
import pytest
from click.testing import CliRunner

from tfp_smvi import DataConfig, ModelConfig, RunConfig, TrainConfig, load_run

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_a_model_of_one_s_own_trades_the_elbo_for_the_divergence() -> None:
    """Catches a lam without an effect; at five standard errors, one seed in a million fails."""
    main = runpy.run_path(str(EXAMPLES / "own_loop.py"))["main"]
    options = ["--steps", "800", "--images", "40", "--lam", "0", "--lam", "1"]
    process = CliRunner().invoke(main, options, catch_exceptions=False)
    assert process.exit_code == 0, process.output
    header, *lines = process.output.splitlines()
    assert header.split()[:3] == ["lam", "ELBO", "D_SM"]
    rows = [[float(word) for word in line.replace("+/-", "").split()] for line in lines]
    assert [row[0] for row in rows] == [0.0, 1.0]
    (_, _, _, free, free_error, gap, gap_error), (_, _, _, held, held_error, _, _) = rows
    assert free - held > 5.0 * (free_error**2 + held_error**2) ** 0.5
    assert gap > -5.0 * gap_error  # it is a divergence


def test_single_cells_are_trained_on_evaluated_and_encoded(tmp_path: Path) -> None:
    main = runpy.run_path(str(EXAMPLES / "single_cell.py"))["main"]
    options = ["--cells", "400", "--genes", "200", "--epochs", "6", "--examples", "4"]
    options += ["--types", "3", "--hidden", "32", "--temperatures", "12"]
    options += ["--run-dir", str(tmp_path / "run")]
    with warnings.catch_warnings(record=True):  # of so short an annealing
        warnings.simplefilter("always")
        process = CliRunner().invoke(main, options, catch_exceptions=False)
    assert process.exit_code == 0, process.output
    values = {line.split()[0]: float(line.split()[1]) for line in process.output.splitlines()}
    assert list(values) == ["ELBO", "log-likelihood", "gap", "bracket", "accuracy"]
    assert np.isfinite(list(values.values())).all()
    # Three types of equal shares: chance is 1/3, with a standard error of 0.05 on 100 cells.
    assert values["accuracy"] > 0.6


def test_a_decoder_of_one_s_own_is_evaluated_and_its_exact_likelihood_known(tmp_path: Path) -> None:
    """Catches a log p(x) that is off by more than the bracket says."""
    main = runpy.run_path(str(EXAMPLES / "own_decoder.py"))["main"]
    options = ["--examples", "20", "--temperatures", "60", "--output", str(tmp_path / "out")]
    process = CliRunner().invoke(main, options, catch_exceptions=False)
    assert process.exit_code == 0, process.output
    values = {line.split()[0]: float(line.split()[1]) for line in process.output.splitlines()}
    assert list(values) == ["exact", "AIS", "bracket"]
    errors = {line.split()[0]: float(line.split()[-1]) for line in process.output.splitlines()[2:]}
    # The error of the estimate that comes from chains is about that of the bracket.
    tolerance = 5.0 * errors["bracket"]
    assert -values["bracket"] - tolerance < values["AIS"] - values["exact"] < tolerance
    assert values["bracket"] < 3.0


def test_a_search_prunes_trials_and_leaves_their_runs_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third trial learns a thousand times slower than two that came before it."""
    settings = iter([0.01, 0.01, 1e-5])

    def suggest(trial: optuna.Trial, epochs: int) -> RunConfig:
        train = TrainConfig(epochs=epochs, learning_rate=next(settings))
        model = ModelConfig(latent_dim=2, hidden_sizes=(16,))
        return RunConfig(DataConfig("digits"), model, train)

    main = runpy.run_path(str(EXAMPLES / "optuna_search.py"))["main"]
    monkeypatch.setitem(main.callback.__globals__, "suggest", suggest)
    options = ["--trials", "3", "--epochs", "3", "--directory", str(tmp_path)]
    process = CliRunner().invoke(main, options, catch_exceptions=False)
    assert process.exit_code == 0, process.output
    lines = [line.partition(", ")[0] for line in process.output.splitlines() if "after" in line]
    assert lines == [
        "trial 0: complete after epoch 3",
        "trial 1: complete after epoch 3",
        "trial 2: pruned after epoch 1",
    ]
    run = load_run(tmp_path / "trial2")
    assert [record.epoch for record in run.history] == [1]
    assert not [*(tmp_path / "trial2").glob("**/*.partial*")]
