"""Runs in W&B, offline: what their files hold after trainings, stops, evaluations and sweeps."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import runs
from tests.support.runs import CONFIG, EPOCHS, ReferenceRun
from tests.support.small_sweep import CONFIG as SWEEP
from tests.support.small_sweep import Recorder
from tests.support.wandb_files import read_offline
from tfp_smvi import Callback, EpochRecord, track
from tfp_smvi.data import Dataset
from tfp_smvi.sweeps.driver import sweep
from tfp_smvi.sweeps.orders import Order
from tfp_smvi.tracking.sweeps import track_sweep
from tfp_smvi.training.loop import fit

FOLDER = Path(__file__).parents[1]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.usefixtures("impatient"),
]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_PROJECT", "WANDB_DIR", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


class Stopping(Callback):
    """Stops after an epoch."""

    def epoch(self, record: EpochRecord) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_training_that_is_stopped_goes_on_in_the_same_run(
    tmp_path: Path, digits: Dataset, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), track(folder, "wandb") as tracker:
        fit(CONFIG, digits, folder, reporter=[tracker, Stopping()])
    (run,) = read_offline(folder).values()
    assert (run.epochs, run.exits) == ([1, 2], [255])
    with track(folder, "wandb") as tracker:
        fit(CONFIG, digits, folder, reporter=tracker)
    (run,) = read_offline(folder).values()
    assert run.epochs == [*range(1, EPOCHS + 1)]
    assert run.exits == [255, 0]
    assert (run.run.project, run.run.display_name) == ("tfp-smvi", "run")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    for record in map(json.loads, lines):
        point = run.points[record["epoch"]]
        assert point["test/elbo"] == record["test"]["elbo"]
        assert point["lam"] == record["lam"]
    assert run.config["train.lam"] == CONFIG.train.lam
    assert run.config["model.hidden_sizes"] == [32, 32]
    assert (run.files[-1] / "model_card.json").exists()
    assert "wandb" not in "".join(capfd.readouterr())  # it says nothing of its own


def test_an_evaluation_is_in_the_run_of_its_training(tmp_path: Path, copied_sweep: Path) -> None:
    """Twice: the second time there is nothing new, and no file."""
    folder = (copied_sweep / "lam0-seed0").rename(tmp_path / "run")
    evaluation = json.loads((folder / "evaluation.json").read_text())
    for _ in range(2):
        with track(folder, "wandb"):
            pass
    (run,) = read_offline(folder).values()
    assert run.epochs == [1, 2, 3]
    assert len(run.files) == 1
    assert run.summary["evaluation/test/gap"] == evaluation["splits"]["test"]["gap"]["mean"]
    assert (run.files[0] / "figures" / "calibration.png").exists()


def test_without_matplotlib_a_note_says_that_figures_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(FOLDER / "files" / "version_0_1" / "run", tmp_path / "run"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # type: ignore[arg-type]
    notes: list[str] = []
    with track(folder, "wandb", note=notes.append):
        pass
    assert notes == ["No figures are sent: they need pip install 'tfp-smvi[plot]'."]
    (run,) = read_offline(folder).values()
    assert run.exits == [0]


@pytest.mark.slow
def test_the_runs_of_a_sweep_are_a_group(copied_sweep: Path, sweep_orders: list[Order]) -> None:
    with track_sweep(copied_sweep, "wandb", Recorder()) as reporter:
        sweep(copied_sweep, SWEEP, reporter=reporter)
    assert len(sweep_orders) == 1
    found = read_offline(copied_sweep)
    (parent,) = (run for run in found.values() if run.run.job_type == "sweep")
    assert {run.run.run_group for run in found.values()} == {parent.key}
    names = {run.run.display_name: run for run in found.values()}
    for name in ("sweep/lam0-seed0", "sweep/lam0.5-seed0"):
        assert (names[name].epochs, names[name].exits) == ([1, 2, 3], [0])
    assert names["sweep/lam1e+38-seed0"].exits == parent.exits == [1]


def test_a_training_by_the_command_line_prints_what_it_does_without(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    options = ("--epochs", "1", "--run-dir", str(folder), "--track", "wandb", "--json")
    assert runs.call("train", *runs.OPTIONS, *options) == 0
    output = capfd.readouterr()
    assert json.loads(output.out)["epoch"] == 1
    assert "W&B" not in output.err
    (run,) = read_offline(folder).values()
    assert (run.epochs, run.exits) == ([1], [0])


def test_a_client_that_fails_stops_nothing_and_gets_all_later(
    tmp_path: Path, digits: Dataset, reference: ReferenceRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    def refuse(**arguments: object) -> None:
        raise wandb.errors.CommError("Run initialization has timed out after 30.0 sec.")

    folder = tmp_path / "run"
    warnings: list[str] = []
    with monkeypatch.context() as broken:
        broken.setattr(wandb, "init", refuse)
        with track(folder, "wandb", warn=warnings.append) as tracker:
            fit(CONFIG, digits, folder, reporter=tracker)
    runs.assert_same_run(folder, reference.run_dir)
    (line,) = warnings
    assert line.startswith(
        "Sending to W&B failed (Run initialization has timed out after 30.0 sec)"
    )
    with track(folder, "wandb"):
        pass
    (run,) = read_offline(folder).values()
    assert run.epochs == [*range(1, EPOCHS + 1)]


def test_without_an_account_a_run_is_refused_before_it_begins(tmp_path: Path) -> None:
    code = "from tfp_smvi.tracking.services import make_service; make_service('wandb')"
    places = {"NETRC": str(tmp_path / "none"), "WANDB_CONFIG_DIR": str(tmp_path)}
    environment = {**os.environ, **places, "WANDB_MODE": "online"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert "SMVIError: W&B has no account to send to (" in last
    assert "run wandb login, or set WANDB_API_KEY, or WANDB_MODE=offline" in last
