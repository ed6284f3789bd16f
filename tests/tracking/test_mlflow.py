"""Runs in MLflow, by a real server: what is there after trainings, stops and lost connections."""

import dataclasses
import json
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import runs
from tests.support.mlflow_server import Gate, Stored
from tests.support.ports import free_port
from tests.support.runs import CONFIG, EPOCHS, ReferenceRun, config
from tfp_smvi import Callback, EpochRecord, track
from tfp_smvi.data import Dataset
from tfp_smvi.tracking.mirror import Mirror
from tfp_smvi.tracking.services import make_service
from tfp_smvi.training.loop import fit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.usefixtures("impatient"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A run directory whose name no other test has."""
    yield tmp_path / tmp_path.name


class At(Callback):
    """Does something after an epoch."""

    def __init__(self, epoch: int, action: Any) -> None:
        self._epoch, self._action = epoch, action

    def epoch(self, record: EpochRecord) -> None:
        if record.epoch == self._epoch:
            self._action()


def assert_whole(stored: Stored, folder: Path, epochs: int = EPOCHS) -> Any:
    """Asserts that the server has one run of the directory, with each epoch once; returns it."""
    run = stored.only(folder.name)
    for name in ("test/elbo", "train/gradient_norm", "lam", "step"):
        assert stored.epochs(run, name) == [*range(1, epochs + 1)], name
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert run.data.metrics["test/elbo"] == last["test"]["elbo"]
    return run


def test_a_training_is_one_run_with_settings_metrics_and_files(
    gate: Gate, stored: Stored, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate.open()
    options = ("--run-dir", str(folder), "--track", f"mlflow:{gate.uri}", "--json")
    assert runs.call("train", *runs.OPTIONS, *options) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["epoch"] == EPOCHS  # nothing else is on stdout
    assert "MLflow" not in output.err
    run = assert_whole(stored, folder)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.lam"] == "0.5"
    assert run.data.params["model.hidden_sizes"] == "[32, 32]"
    assert run.data.tags["version.tensorflow"]
    assert {"config.json", "model_card.json"} <= stored.files(run)


def test_a_training_that_is_stopped_goes_on_in_the_same_run(
    gate: Gate, stored: Stored, folder: Path, digits: Dataset
) -> None:
    gate.open()
    to = f"mlflow:{gate.uri}"

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), track(folder, to) as tracker:
        fit(CONFIG, digits, folder, reporter=[tracker, At(2, stop)])
    assert assert_whole(stored, folder, epochs=2).info.status == "KILLED"
    with track(folder, to) as tracker:
        fit(CONFIG, digits, folder, reporter=tracker)
    assert assert_whole(stored, folder).info.status == "FINISHED"
    with track(folder, to) as tracker:  # with more epochs
        fit(config(epochs=EPOCHS + 1), digits, folder, reporter=tracker)
    run = assert_whole(stored, folder, EPOCHS + 1)
    # MLflow keeps the first value of a param for ever.
    assert run.data.params["train.epochs"] == str(EPOCHS)
    assert run.data.tags["train.epochs"] == str(EPOCHS + 1)


def test_a_fresh_run_is_another_run(
    gate: Gate, stored: Stored, folder: Path, digits: Dataset
) -> None:
    gate.open()
    short = config(epochs=1)
    for _ in range(2):
        with track(folder, f"mlflow:{gate.uri}") as tracker:
            fit(short, digits, folder, fresh=True, reporter=tracker)
    assert len(stored.named(folder.name)) == 2


def test_a_run_that_starts_over_while_it_is_tracked_is_another_run(
    gate: Gate, stored: Stored, folder: Path, reference: ReferenceRun
) -> None:
    gate.open()
    shutil.copytree(reference.run_dir, folder)
    mirror = Mirror(folder, make_service(f"mlflow:{gate.uri}"))
    for _ in range(2):
        mirror.forget()
        mirror.send(whole=False, note=print)
        (folder / "tracking.json").unlink()
    assert len(stored.named(folder.name)) == 2


def test_a_run_that_was_deleted_there_is_made_again(
    gate: Gate, stored: Stored, folder: Path, reference: ReferenceRun
) -> None:
    gate.open()
    shutil.copytree(reference.run_dir, folder)
    for _ in range(2):
        with track(folder, f"mlflow:{gate.uri}"):
            pass
        run = assert_whole(stored, folder)
        stored.client.delete_run(run.info.run_id)


@pytest.mark.parametrize("times", [(0, 2), (2, 3), (1, None), (0, None)])
def test_a_server_that_is_down_stops_nothing_and_gets_the_rest_later(
    times: tuple[int, int | None],
    gate: Gate,
    stored: Stored,
    folder: Path,
    digits: Dataset,
    reference: ReferenceRun,
) -> None:
    """It goes down after an epoch, or is at the start, and is back after another one, or never."""
    down, back = times
    warnings: list[str] = []
    notes: list[str] = []
    actions: list[Any] = [At(down, gate.close)] if down else []
    actions += [At(back, gate.open)] if back else []
    if down:
        gate.open()
    to = f"mlflow:{gate.uri}"
    with track(folder, to, warn=warnings.append, note=notes.append) as tracker:
        slow = At(3, lambda: time.sleep(1.0))  # time for a failure to be noticed
        fit(CONFIG, digits, folder, reporter=[*actions, tracker, slow])
    runs.assert_same_run(folder, reference.run_dir)
    assert len(warnings) <= 1
    if back is None:
        (line,) = warnings
        assert line.startswith("Sending to MLflow failed (Connection refused); the work goes on")
        assert notes[-1].startswith(f"MLflow lacks a part of {folder}")
        gate.open()
        with track(folder, to):
            pass
    assert_whole(stored, folder)


def test_a_server_that_does_not_answer_delays_no_epoch(
    folder: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    warnings: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as mute:
        to = f"mlflow:http://127.0.0.1:{mute.getsockname()[1]}"
        with track(folder, to, warn=warnings.append) as tracker:
            fit(config(epochs=1), digits, folder, reporter=tracker)
            trained = time.monotonic()
        closed = time.monotonic()
    assert len(warnings) == 1
    assert "timed out" in warnings[0]
    assert closed - trained < 6.0  # twice the limit of a request, and some


def test_an_error_before_the_training_sends_nothing(
    gate: Gate, folder: Path, digits: Dataset, reference: ReferenceRun
) -> None:
    gate.open()
    shutil.copytree(reference.run_dir, folder)
    other = dataclasses.replace(CONFIG.train, lam=0.1)
    with (
        pytest.raises(Exception, match="another configuration"),
        track(folder, f"mlflow:{gate.uri}") as tracker,
    ):
        fit(dataclasses.replace(CONFIG, train=other), digits, folder, reporter=tracker)
    assert not (folder / "tracking.json").exists()


def test_a_password_is_in_no_file_and_no_message(folder: Path, reference: ReferenceRun) -> None:
    shutil.copytree(reference.run_dir, folder)
    lines: list[str] = []
    to = f"mlflow:http://me:secret@127.0.0.1:{free_port()}"
    with track(folder, to, warn=lines.append, note=lines.append):
        pass
    assert lines
    assert "secret" not in "".join(lines)
    assert not (folder / "tracking.json").exists()
