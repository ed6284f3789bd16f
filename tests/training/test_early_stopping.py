"""A training that early stopping ends: what is on disk, and what the same call does then."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.runs import STEPS_PER_EPOCH, Recorder, assert_same_run, config, newest
from tests.training.test_resume import KilledError, die
from tfp_smvi.data import Dataset
from tfp_smvi.runs.directory import read_run
from tfp_smvi.training.loop import fit

# No epoch improves by 1000 nats: the training ends after 1 + patience epochs.
RULE = {"early_stopping": "test.elbo", "min_delta": 1000.0, "lam": 0.0}
STOPPED = config(epochs=6, patience=1, **RULE)


@pytest.fixture(scope="module")
def stopped(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended early."""
    path = tmp_path_factory.mktemp("stopped") / "run"
    recorder = Recorder()
    result = fit(STOPPED, digits, path, reporter=recorder)
    assert [record.epoch for record in result.history] == recorder.epochs == [1, 2]
    assert [note for note in recorder.notes if "Early stopping after epoch 2" in note]
    return path


def test_it_ends_as_if_it_had_its_epochs(stopped: Path) -> None:
    assert newest(stopped).step == 2 * STEPS_PER_EPOCH
    assert len((stopped / "metrics.jsonl").read_text().splitlines()) == 2
    line = read_run(stopped).stopped
    assert line is not None
    assert line.startswith("Early stopping after epoch 2: test.elbo has not improved on the -")
    assert json.loads((stopped / "config.json").read_text())["stopped"] == line


def test_the_same_call_trains_no_step_and_more_patience_goes_on(
    stopped: Path, digits: Dataset, tmp_path: Path
) -> None:
    run_dir = Path(shutil.copytree(stopped, tmp_path / "run"))
    again = Recorder()
    fit(STOPPED, digits, run_dir, reporter=again)
    assert again.begins == again.epochs == again.steps == []
    assert read_run(run_dir).stopped is not None
    more = Recorder()
    fit(config(epochs=3, patience=2, **RULE), digits, run_dir, reporter=more)
    assert (more.begins, more.epochs) == ([2 * STEPS_PER_EPOCH], [3])
    assert read_run(run_dir).stopped is None  # it has all its epochs
    assert read_run(run_dir).config.train.patience == 2
    fit(config(epochs=3, lam=0.0), digits, run_dir)  # another end does not make another run


def test_a_kill_before_the_decision_changes_nothing(
    stopped: Path, digits: Dataset, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(KilledError):
        fit(STOPPED, digits, run_dir, reporter=Recorder(STEPS_PER_EPOCH + 1, die))
    fit(STOPPED, digits, run_dir)
    assert_same_run(run_dir, stopped)
    assert read_run(run_dir).stopped is not None
