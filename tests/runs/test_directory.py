"""The run directory: one run, one process, one configuration."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support import runs
from tfp_smvi.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.runtime import Machine
from tfp_smvi.runs.checkpoint import list_checkpoints, save_checkpoint
from tfp_smvi.runs.directory import RunDirectory, read_run, run_directory_name
from tfp_smvi.runs.records import DataRecord, RunRecord, TrainingState

RECORD = RunRecord(
    runs.CONFIG, DataRecord("abc", (8, 8, 1)), {"python": "3"}, Machine("Linux", "x86_64", (), 2)
)
# Opens the run directory argv[1] as another process, says so and waits.
HOLDER = """
import pathlib, sys, time
from tfp_smvi.config import RunConfig
from tfp_smvi.runs.directory import RunDirectory
from tfp_smvi.runs.records import DataRecord, RunRecord
record = RunRecord(RunConfig(), DataRecord("abc", (8, 8, 1)))
with RunDirectory.open(pathlib.Path(sys.argv[1]), record, fresh=False, warn=print):
    print("open", flush=True)
    time.sleep(600)
"""


def refuse_warnings(message: str) -> None:
    raise AssertionError(f"unexpected warning: {message}")


def open_run(
    path: Path,
    config: RunConfig = runs.CONFIG,
    record: RunRecord = RECORD,
    fresh: bool = False,
    warn: Any = refuse_warnings,
) -> AbstractContextManager[RunDirectory]:
    record = dataclasses.replace(record, config=config)
    return RunDirectory.open(path, record, fresh=fresh, warn=warn)


def make_run(path: Path) -> Path:
    """A run with a checkpoint, a log and an event file."""
    with open_run(path) as run:
        save_checkpoint(run.checkpoints, 7, {}, TrainingState((), (), 0.0))
        run.metrics.write_text("{}\n")
        run.tensorboard.mkdir()
        (run.tensorboard / "events.out.tfevents.1.host.1.0.v2").write_bytes(b"")
    return path


def refusal(path: Path, **options: Any) -> str:
    """The one line with which opening is refused; nothing in the directory changes by it."""
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(SMVIError) as caught, open_run(path, **options):
        pass
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_configuration_and_details_are_recorded_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "first"
    with open_run(path, runs.config(lam=float("inf"))) as run:
        assert run.path == path
        assert run.checkpoints.is_dir()
    assert read_run(path) == dataclasses.replace(RECORD, config=runs.config(lam=float("inf")))


def test_config_file_has_the_parts_that_it_has_always_had(tmp_path: Path) -> None:
    with open_run(tmp_path):
        recorded = json.loads((tmp_path / "config.json").read_text())
    parts = ["config", "data", "versions", "machine", "warnings", "code", "source"]
    assert list(recorded) == parts
    assert recorded["data"] == {
        "fingerprint": "abc",
        "image_shape": [8, 8, 1],
        "kind": None,
        "standardized": False,
    }
    # Versions before 0.1 did not record all of it.
    del recorded["machine"], recorded["code"], recorded["source"], recorded["data"]["kind"]
    (tmp_path / "config.json").write_text(json.dumps(recorded))
    assert read_run(tmp_path) == dataclasses.replace(RECORD, machine=None)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("name", ["checkpoints", "tensorboard", "tensorboard/train"])
def test_a_link_in_place_of_a_folder_is_refused(name: str, fresh: bool, tmp_path: Path) -> None:
    """Checkpoints would be written, and deleted, where it leads."""
    other, path = tmp_path / "other", tmp_path / "run"
    make_run(path)
    (path / "checkpoints").rename(other)
    (path / "tensorboard").rename(path / "old")
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).symlink_to(other)
    assert f"{path / name} is a link" in refusal(path, fresh=fresh)
    assert [file.name for file in other.iterdir()] == ["step-0000000007.npz"]


def test_a_run_directory_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to("elsewhere")
    with open_run(tmp_path / "run"):
        assert (tmp_path / "elsewhere" / "checkpoints").is_dir()


def test_same_configuration_opens_again_without_a_warning(tmp_path: Path) -> None:
    with open_run(make_run(tmp_path / "run")) as run:
        assert [path.name for path in list_checkpoints(run.checkpoints)] == ["step-0000000007.npz"]


def test_other_configuration_is_refused_with_the_differences(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    message = refusal(
        path, config=dataclasses.replace(runs.config(lam=1, seed=3), data=DataConfig("mnist"))
    )
    for part in (
        "train.lam: 0.5 here, 1.0 given",
        "train.seed: 0 here, 3 given",
        "digits here, mnist given",
    ):
        assert part in message
    assert "fresh" in message
    assert "epochs" not in message


def test_run_can_be_given_any_number_of_epochs(tmp_path: Path) -> None:
    """How many it has had is known to the training alone: see test_training_resume.py."""
    path = make_run(tmp_path / "run")
    for epochs in (9, 2):
        with open_run(path, runs.config(epochs=epochs)):
            pass
        assert read_run(path).config.train.epochs == epochs


def test_other_data_under_the_same_name_are_refused(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    message = refusal(path, record=dataclasses.replace(RECORD, data=DataRecord("xyz", (8, 8, 1))))
    assert "data.fingerprint: abc here, xyz given" in message


@pytest.mark.parametrize("change", [{"versions": {}}, {"machine": None}])
def test_other_versions_or_machine_are_warned_of_once(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    path, warnings = make_run(tmp_path / "run"), []
    for _ in range(2):
        with open_run(path, record=dataclasses.replace(RECORD, **change), warn=warnings.append):
            pass
    assert len(warnings) == 1
    assert "not bit for bit" in warnings[0]
    assert read_run(path).warnings == tuple(warnings)  # also after the run was opened again


def test_fresh_deletes_the_run_and_nothing_else(tmp_path: Path) -> None:
    """Its results go with it: they would be taken for those of the new run."""
    path = make_run(tmp_path / "run")
    names = ("evaluation.json", "evaluation.npz", "convergence.json", "convergence.png")
    names += ("classification.json", "classification-epoch003.json", "gallery.npz")
    results = [path / name for name in names]
    for file in results:
        file.write_text("of the old run")
    mine = [path / name for name in ("notes.txt", "checkpoints/mine.npz", "tensorboard/notes.txt")]
    for file in mine:
        file.write_text("mine")
    with open_run(path, runs.config(lam=1.0), fresh=True) as run:
        assert list_checkpoints(run.checkpoints) == []
        assert not run.metrics.exists()
        assert [file.name for file in run.tensorboard.iterdir()] == ["notes.txt"]
    assert all(file.read_text() == "mine" for file in mine)
    assert not any(file.exists() for file in results)
    assert read_run(path).config.train.lam == 1.0


@pytest.mark.parametrize("fresh", [False, True])
def test_directory_in_use_is_refused_and_left_alone(tmp_path: Path, fresh: bool) -> None:
    path = make_run(tmp_path / "run")
    with open_run(path):
        assert "in use by another process" in refusal(path, fresh=fresh)
    with open_run(path):
        pass


def test_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "open\n"
            assert "in use by another process" in refusal(path, config=RunConfig())
        finally:
            holder.send_signal(signal.SIGKILL)
    with open_run(path, RunConfig(), RunRecord(RunConfig(), DataRecord("abc", (8, 8, 1)))):
        pass


def test_what_a_killed_process_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    for name in (".config.json.123.partial", ".metrics.jsonl.123.partial"):
        (path / name).write_text("{")
    with open_run(path):
        pass
    assert list(path.glob(".*.partial")) == []


def test_checkpoints_of_unknown_origin_are_not_touched(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    (path / "config.json").unlink()
    assert "checkpoints but no config.json" in refusal(path)


@pytest.mark.parametrize(
    "contents",
    [b"", b'{"config": ', b"[]", b"3", b"\xff\xfe", b"{}", b'{"config": []}', b'{"config": null}'],
)
def test_damaged_config_file_is_refused_by_name(tmp_path: Path, contents: bytes) -> None:
    path = make_run(tmp_path / "run")
    (path / "config.json").write_bytes(contents)
    message = refusal(path)
    assert "config.json cannot be read" in message
    assert "--fresh" in message


def test_config_file_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    recorded = json.loads((path / "config.json").read_text())
    recorded["config"]["train"]["momentum"] = 0.5
    (path / "config.json").write_text(json.dumps(recorded))
    message = refusal(path)
    assert "config.json" in message
    assert "momentum" in message


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SMVIError, match="not a run directory: it has no config"):
        read_run(tmp_path)


def test_place_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    # No user, root included, can make folders below a file or in the kernel's own file system.
    for path in (tmp_path / "file" / "run", tmp_path / "file", Path("/proc/self/run")):
        message = refusal(path)
        assert f"cannot write to {path}" in message
        assert "choose another run_dir" in message


@pytest.mark.parametrize(
    ("dataset", "lam", "name"),
    [
        ("mnist", 0.5, "mnist-lam0.5-seed3"),
        ("emnist/letters", 0.0, "emnist-letters-lam0-seed3"),
        ("some/where/faces.npz", -0.25, "faces-lam-0.25-seed3"),
        ("mnist", float("inf"), "mnist-laminf-seed3"),
    ],
)
def test_default_name_tells_data_lam_and_seed(dataset: str, lam: float, name: str) -> None:
    config = RunConfig(DataConfig(dataset), train=TrainConfig(lam=lam, seed=3))
    assert run_directory_name(config) == name
    assert os.sep not in name


@pytest.mark.parametrize(
    ("model", "freeze", "name"),
    [
        ({"architecture": "conv", "posterior": "full"}, None, "digits-full-conv-lam0-seed0"),
        ({"model": "nets.mine:build"}, None, "digits-nets.mine.build-lam0-seed0"),
        ({}, "decoder", "digits-frozen-decoder-lam0-seed0"),
    ],
)
def test_default_name_tells_what_differs_from_the_paper(
    model: dict[str, Any], freeze: Literal["decoder"] | None, name: str
) -> None:
    train = TrainConfig(freeze=freeze, init_from=freeze and "/some/run")
    assert run_directory_name(RunConfig(DataConfig("digits"), ModelConfig(**model), train)) == name


def test_default_name_tells_the_weighted_divergence() -> None:
    train = TrainConfig(lam=1.0, divergence="weighted")
    assert run_directory_name(RunConfig(train=train)) == "mnist-weighted-lam1-seed0"


@pytest.mark.parametrize(("real_valued", "kind"), [(True, "real"), (False, "intensities")])
def test_data_of_version_0_1_have_a_kind(real_valued: bool, kind: str) -> None:
    old = {"fingerprint": "abc", "image_shape": [4], "real_valued": real_valued}
    assert DataRecord.from_json(old).kind == kind
