"""Evaluations and sweeps in MLflow, by a real server."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support import runs
from tests.support.mlflow_server import Gate, Stored
from tests.support.runs import EPOCHS, ReferenceRun
from tests.support.small_sweep import CONFIG, Recorder
from tfp_smvi.sweeps.driver import sweep
from tfp_smvi.sweeps.orders import Order
from tfp_smvi.tracking.sweeps import track_sweep

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.usefixtures("impatient"),
]

EVALUATION = (
    *("--num-examples", "20", "--num-chains", "2", "--num-temperatures", "4"),
    *("--num-leapfrog-steps", "1", "--num-pilot-chains", "2", "--num-pilot-temperatures", "4"),
    *("--num-elbo-samples", "10", "--num-divergence-samples", "10"),
    *("--num-importance-samples", "10", "--num-simulated", "10", "--num-calibration", "20"),
)
SWEEP = (
    *("sweep", "--dataset", "digits", "--latent-dim", "2", "--hidden-sizes", "16"),
    *("--batch-size", "32", "--no-classify", *EVALUATION),
)


def test_an_evaluation_is_in_the_run_of_its_training(
    gate: Gate, stored: Stored, reference: ReferenceRun, tmp_path: Path
) -> None:
    """The training was not tracked: its epochs are sent with the evaluation."""
    gate.open()
    folder = tmp_path / tmp_path.name
    shutil.copytree(reference.run_dir, folder)
    for _ in range(2):  # the second time nothing is new
        options = ("--track", f"mlflow:{gate.uri}", *EVALUATION)
        assert runs.call("evaluate", str(folder), *options) == 0
    run = stored.only(folder.name)
    assert run.info.status == "FINISHED"
    assert stored.epochs(run, "test/elbo") == [*range(1, EPOCHS + 1)]
    found = json.loads((folder / "evaluation.json").read_text())["splits"]["test"]["gap"]
    name = "evaluation/test/gap"
    assert run.data.metrics[name] == found["mean"]
    assert run.data.metrics[f"{name}/standard_error"] == found["standard_error"]
    assert stored.epochs(run, name) == [EPOCHS]
    assert {"evaluation.json", "model_card.json", "figures"} <= stored.files(run)
    assert stored.files(run, "figures") == {"figures/calibration.png"}


def test_an_evaluation_without_a_run_is_not_tracked(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--model", "a:b", "--dataset", "digits", "--track", "wandb")
    line = runs.usage_error(capsys, "evaluate", *options)
    assert line.endswith("--track is for a run of train; give RUN_DIR in place of --model.")


def children(stored: Stored, parent: Any) -> dict[str, Any]:
    """The runs below one, by their lam."""
    query = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    found = stored.client.search_runs([parent.info.experiment_id], query)
    assert len({run.data.params["train.lam"] for run in found}) == len(found)
    return {run.data.params["train.lam"]: run for run in found}


def test_a_sweep_is_a_run_with_its_runs_below_it(
    gate: Gate, stored: Stored, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run is trained by another process, and goes on by a second call.

    A password in the address is in no file and at no tracker, although sweep.json has the command.
    """
    gate.open()
    folder = tmp_path / tmp_path.name
    address = f"mlflow:http://me:secret@127.0.0.1:{gate.port}"
    options = ("--sweep-dir", str(folder), "--track", address, "--lams", "0.5")
    for epochs in ("1", "2"):
        assert runs.call(*SWEEP, *options, "--epochs", epochs) == 0
        assert "MLflow" not in capsys.readouterr().err
    parent = stored.only(folder.name)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["runs.done"] == "1"
    assert gate.uri in parent.data.tags["command"]
    for text in ("sweep.json", "tracking.json"):
        assert "secret" not in (folder / text).read_text()
    (run,) = children(stored, parent).values()
    assert run.info.run_name == f"{folder.name}/lam0.5-seed0"
    assert run.info.status == "FINISHED"
    assert stored.epochs(run, "test/elbo") == [1, 2]
    assert stored.epochs(run, "evaluation/test/gap") == [1, 2]
    assert "figures/calibration.png" in stored.files(run, "figures")


def test_a_sweep_that_was_not_tracked_is_sent_whole_when_the_server_is_back(
    gate: Gate, stored: Stored, copied_sweep: Path, sweep_orders: list[Order], tmp_path: Path
) -> None:
    """Two of its runs are done; no process of the third one starts."""
    folder = copied_sweep.rename(tmp_path / f"sweep-of-{tmp_path.name}")
    for is_open in (False, True):
        if is_open:
            gate.open()
        recorder = Recorder()
        with track_sweep(folder, f"mlflow:{gate.uri}", recorder) as reporter:
            sweep(folder, CONFIG, reporter=reporter)
        lines = [line for line in recorder.messages if "Sending to MLflow failed" in line]
        assert len(lines) == (not is_open)
        assert recorder.updates  # the reporter receives what it would without the tracker
    parent = stored.only(folder.name)
    assert parent.info.status == "FAILED"
    assert (parent.data.tags["runs.done"], parent.data.tags["runs.failed"]) == ("2", "1")
    assert {"sweep.json", "sweep.csv", "figures"} <= stored.files(parent)
    assert "figures/likelihood.png" in stored.files(parent, "figures")
    found = children(stored, parent)
    assert {lam: run.info.status for lam, run in found.items()} == {
        "0.0": "FINISHED",
        "0.5": "FINISHED",
        "1e+38": "FAILED",
    }
    for lam in ("0.0", "0.5"):
        assert stored.epochs(found[lam], "test/elbo") == [1, 2, 3]
        assert "accuracy/encoder/linear/20" in found[lam].data.metrics
    assert len(sweep_orders) == 2
