"""Checkpoints that are kept permanently, beside the last two."""

import shutil
from pathlib import Path

import pytest

from tests.support.runs import (
    CONFIG,
    EPOCHS,
    STEPS_PER_EPOCH,
    assert_same_bits,
    assert_same_run,
    config,
)
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import Dataset
from tfp_smvi.runs.checkpoint import list_steps
from tfp_smvi.runs.loading import load_run
from tfp_smvi.training.loop import fit
from tfp_smvi.training.results import FitResult


@pytest.fixture(scope="module")
def kept(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    """A run of CONFIG that keeps the checkpoints of the epochs 1, 2 and 4."""
    run_dir = tmp_path_factory.mktemp("kept") / "run"
    fit(config(epochs=1), digits, run_dir, keep_every=1)
    return fit(CONFIG, digits, run_dir, keep_every=2)


def test_kept_checkpoints_do_not_change_the_run_and_survive_a_restart(
    kept: FitResult, trained: FitResult, digits: Dataset, tmp_path: Path
) -> None:
    assert_same_run(kept.run_dir, trained.run_dir)
    steps = [STEPS_PER_EPOCH * epoch for epoch in (4, 3, 2, 1)]
    assert list_steps(kept.run_dir / "checkpoints") == steps
    # Two epochs later, without the option, the last two and the kept ones are there.
    run_dir = Path(shutil.copytree(kept.run_dir, tmp_path / "run"))
    fit(config(epochs=EPOCHS + 2), digits, run_dir)
    steps = [STEPS_PER_EPOCH * epoch for epoch in (6, 5, 4, 2, 1)]
    assert list_steps(run_dir / "checkpoints") == steps


def test_run_is_loaded_as_it_was_at_the_end_of_a_kept_epoch(
    kept: FitResult, digits: Dataset, tmp_path: Path
) -> None:
    fit(config(epochs=2), digits, tmp_path / "run")
    expected, loaded = load_run(tmp_path / "run"), load_run(kept.run_dir, 2)
    assert (loaded.step, loaded.history) == (2 * STEPS_PER_EPOCH, kept.history[:2])
    weights = [
        {name: v.numpy() for name, v in run.model.named_variables.items()}
        for run in (loaded, expected)
    ]
    assert_same_bits(*weights)
    assert load_run(kept.run_dir, EPOCHS).step == load_run(kept.run_dir).step


def test_epoch_without_a_checkpoint_is_refused_with_a_list_of_those_that_have_one(
    trained: FitResult,
) -> None:
    for epoch in (0, 1, EPOCHS + 1):
        with pytest.raises(SMVIError, match="those of: 3, 4;") as caught:
            load_run(trained.run_dir, epoch)
        assert (caught.value.field, caught.value.value) == ("epoch", epoch)


def test_damaged_checkpoint_of_an_epoch_is_an_error_and_not_another_epoch(
    kept: FitResult, tmp_path: Path
) -> None:
    run_dir = Path(shutil.copytree(kept.run_dir, tmp_path / "run"))
    (path,) = (run_dir / "checkpoints").glob(f"step-{STEPS_PER_EPOCH:010d}*")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SMVIError, match="is damaged"):
        load_run(run_dir, 1)
    assert load_run(run_dir, 2).step == 2 * STEPS_PER_EPOCH


def test_fresh_deletes_kept_checkpoints(kept: FitResult, digits: Dataset, tmp_path: Path) -> None:
    run_dir = Path(shutil.copytree(kept.run_dir, tmp_path / "run"))
    fit(config(epochs=1), digits, run_dir, fresh=True)
    assert list_steps(run_dir / "checkpoints") == [STEPS_PER_EPOCH]


def test_keeping_every_zeroth_epoch_is_refused(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SMVIError) as caught:
        fit(CONFIG, digits, tmp_path / "run", keep_every=0)
    assert (caught.value.field, caught.value.value) == ("keep_every", 0)
    assert not (tmp_path / "run").exists()
