"""A sweep does what its three commands do, once for each lam and seed, whatever happens to its processes."""

import csv
import dataclasses
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
import pytest
import runs

from tfp_smvi import sweep as sweep_module
from tfp_smvi.classification import report_name
from tfp_smvi.config import (
    AISConfig,
    ClassifyConfig,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    RunConfig,
    SweepConfig,
    TrainConfig,
)
from tfp_smvi.errors import SMVIError
from tfp_smvi.loading import load_run
from tfp_smvi.sweep import SweepInterrupted, sweep
from tfp_smvi.sweep_jobs import Jobs
from tfp_smvi.sweep_summary import run_name

EPOCHS = 3
# At the last one the objective is infinite within a few steps.
CONFIG = SweepConfig(
    RunConfig(
        DataConfig("digits"),
        ModelConfig(latent_dim=2, hidden_sizes=(16,)),
        TrainConfig(epochs=EPOCHS, batch_size=32, lam_warmup_steps=50),
    ),
    EvaluateConfig(
        AISConfig(
            num_chains=2,
            num_temperatures=4,
            num_leapfrog_steps=1,
            num_pilot_chains=2,
            num_pilot_temperatures=4,
        ),
        split="both",
        num_examples=20,
        num_elbo_samples=10,
        num_divergence_samples=10,
        num_importance_samples=10,
        num_simulated=10,
    ),
    ClassifyConfig(labels=(20, 30), kernel="linear", repeats=2, num_folds=2),
    classify_every=2,
    lams=(0.0, 0.5, 1e38),
)
DONE, FAILED = ("lam0-seed0", "lam0.5-seed0"), "lam1e+38-seed0"
RESULTS = ("evaluation/*/*.npz", "evaluation.*", "classification*.json", "gallery.npz")


class Recorder:
    """A reporter that notes what it hears."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, str]] = []
        self.fractions: list[float] = []
        self.updates: list[tuple[str, str]] = []
        self.messages: list[str] = []

    def begin(self, entries: Sequence[Mapping[str, Any]], stages: Sequence[str], jobs: int) -> None:
        self.asked = [entry["run_dir"] for entry in entries]

    def stage(self, entry: Mapping[str, Any], stage: str) -> None:
        self.stages.append((entry["run_dir"], stage))

    def progress(self, entry: Mapping[str, Any], fraction: float, text: str) -> None:
        self.fractions.append(fraction)

    def update(self, entry: Mapping[str, Any]) -> None:
        self.updates.append((entry["run_dir"], entry["status"]))

    def note(self, message: str) -> None:
        self.messages.append(message)

    warn = note


class Whole(NamedTuple):
    """A sweep that nothing interrupts."""

    path: Path
    summary: dict[str, Any]
    reporter: Recorder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The sweep of CONFIG, two runs at once. It is shared: copy it to change it."""
    path, reporter = tmp_path_factory.mktemp("whole") / "sweep", Recorder()
    return Whole(path, sweep(path, CONFIG, jobs=2, command=["some", "words"], reporter=reporter), reporter)


@pytest.fixture
def copied(whole: Whole, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(whole.path, tmp_path / "sweep"))


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Lets no process start; what they would have been told comes into this list."""
    found: list[dict[str, Any]] = []

    def refuse(self: Jobs, run: str, run_dir: Path, order: dict[str, Any]) -> None:
        found.append(order | {"run": run})
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Jobs, "start", refuse)
    return found


def entries(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["run_dir"]: entry for entry in summary["runs"]}


def read(sweep_dir: Path) -> dict[str, Any]:
    return json.loads((sweep_dir / "sweep.json").read_text())


def without_seconds(values: Any) -> Any:
    """JSON values but the times that it took."""
    if isinstance(values, dict):
        return {key: without_seconds(value) for key, value in values.items() if key != "seconds"}
    return [*map(without_seconds, values)] if isinstance(values, list) else values


def result_times(sweep_dir: Path) -> dict[Path, int]:
    """When each file of results was written."""
    return {
        path.relative_to(sweep_dir): path.stat().st_mtime_ns
        for pattern in RESULTS
        for path in sweep_dir.glob(f"*/{pattern}")
    }


def changed(**sections: Mapping[str, Any]) -> SweepConfig:
    """CONFIG with other settings: by section of the sweep ("model" and "train" are those of its runs)."""
    config = CONFIG
    for name, values in sections.items():
        if name in ("model", "train"):
            part = dataclasses.replace(getattr(config.train, name), **values)
            config = dataclasses.replace(config, train=dataclasses.replace(config.train, **{name: part}))
        elif name == "grid":
            config = dataclasses.replace(config, **values)
        else:
            config = dataclasses.replace(
                config, **{name: dataclasses.replace(getattr(config, name), **values)}
            )
    return config


# What a sweep that is left alone does.


def test_every_run_is_trained_evaluated_and_classified(whole: Whole) -> None:
    for name, lam in zip(DONE, (0.0, 0.5), strict=True):
        entry = entries(whole.summary)[name]
        assert (entry["lam"], entry["seed"], entry["status"], entry["error"]) == (lam, 0, "done", None)
        run = load_run(whole.path / name)
        assert (run.config.train.lam, run.config.train.seed) == (lam, 0)
        assert entry["history"] == run.history
        assert len(run.history) == EPOCHS
        assert entry["evaluation"] == json.loads((whole.path / name / "evaluation.json").read_text())
        assert [*entry["evaluation"]["splits"]] == ["train", "test"]
        assert entry["classification"] == json.loads((whole.path / name / report_name(None)).read_text())
        assert entry["classification"]["epoch"] == EPOCHS
        assert [*entry["classification_by_epoch"]] == ["2"]
        assert entry["classification_by_epoch"]["2"]["epoch"] == 2
        assert all(seconds > 0.0 for seconds in entry["seconds"].values())


def test_a_run_that_diverges_fails_alone_and_with_its_reason(whole: Whole) -> None:
    entry = entries(whole.summary)[FAILED]
    assert entry["status"] == "failed"
    assert entry["error"].startswith("train: the objective or its gradient is not finite at step ")
    assert (entry["evaluation"], entry["classification"], entry["history"]) == (None, None, [])


def test_the_summary_on_disk_is_the_one_returned_and_says_what_was_asked_for(whole: Whole) -> None:
    assert read(whole.path) == whole.summary
    assert whole.summary["format"] == 1
    assert whole.summary["command"] == ["some", "words"]
    assert whole.summary["config"] == CONFIG.settings()
    assert (whole.summary["lams"], whole.summary["seeds"]) == ([0.0, 0.5, 1e38], [0])
    assert SweepConfig.from_summary(whole.summary) == CONFIG
    recorded = json.loads((whole.path / DONE[0] / "config.json").read_text())
    assert whole.summary["environment"] == {name: recorded[name] for name in ("versions", "machine")}


def test_the_reporter_hears_of_every_stage_in_its_order(whole: Whole) -> None:
    for name in DONE:
        assert [s for run, s in whole.reporter.stages if run == name] == ["train", "evaluate", "classify"]
        statuses = [status for run, status in whole.reporter.updates if run == name]
        assert statuses == ["running"] * 3 + ["done"]
    assert whole.reporter.asked == [*DONE, FAILED]
    assert 0.0 <= min(whole.reporter.fractions) <= max(whole.reporter.fractions) <= 1.0


def test_the_table_has_the_numbers_of_the_summary(whole: Whole) -> None:
    with (whole.path / "sweep.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    # Of the failed run there is but one row.
    assert len(rows) == 2 * 2 * len(entries(whole.summary)[DONE[0]]["classification"]["results"]) + 1
    for row in rows:
        entry = entries(whole.summary)[run_name(float(row["lam"]), int(row["seed"]))]
        assert row["status"] == entry["status"]
        if entry["status"] == "failed":
            assert not any(value for name, value in row.items() if name not in ("lam", "seed", "status"))
            continue
        split = entry["evaluation"]["splits"][row["split"]]
        for name in ("elbo", "log_likelihood", "gap", "divergence"):
            assert float(row[name]) == split[name]["mean"]
            assert float(row[f"{name}_standard_error"]) == split[name]["standard_error"]
        assert float(row["bracket"]) == entry["evaluation"]["bracket"]["width"]["mean"]
        assert float(row["acceptance_rate"]) == split["acceptance_rate"]["mean"]
        assert float(row["effective_sample_size"]) == split["effective_sample_size"]["mean"]
        assert int(row["active_units"]) == split["active_units"]
        (result,) = [
            result
            for result in entry["classification"]["results"]
            if (result["features"], result["kernel"], str(result["num_labels"]))
            == (row["features"], row["kernel"], row["num_labels"])
        ]
        assert float(row["accuracy"]) == result["mean"]
        assert float(row["accuracy_standard_error"]) == result["standard_error"]
    assert len({(row["lam"], row["split"], row["features"], row["num_labels"]) for row in rows}) == len(rows)


def test_the_baselines_are_measured_once_for_all_runs(whole: Whole) -> None:
    by_run = [
        [r for r in entries(whole.summary)[name]["classification"]["results"] if r["features"] != "encoder"]
        for name in DONE
    ]
    assert by_run[0] == by_run[1]
    assert len([*(whole.path / "baselines").glob("*.json")]) == len(by_run[0])
    assert not (whole.path / DONE[0] / "baselines").exists()


def test_the_gallery_has_pictures_of_the_trained_model(whole: Whole) -> None:
    with np.load(whole.path / DONE[1] / "gallery.npz", allow_pickle=False) as gallery:
        arrays = {name: gallery[name] for name in gallery.files}
    run = load_run(whole.path / DONE[1])
    for name in ("originals", "reconstructions", "samples"):
        assert (arrays[name].shape, arrays[name].dtype) == ((24, 8, 8, 1), np.uint8)
    assert {*np.unique(arrays["originals"])} == {0, 255}
    originals = (arrays["originals"] / 255.0).astype(np.float32)
    means = run.model.decode(run.model.encode(originals).mean()).mean().numpy()
    # Half a step of uint8, and the rounding of float32.
    np.testing.assert_allclose(arrays["reconstructions"] / 255.0, means, atol=0.5 / 255 + 1e-6)
    assert (arrays["means"].shape, arrays["means"].dtype) == ((360, 2), np.float32)
    assert (arrays["labels"].shape, arrays["step"]) == ((360,), run.step)


def test_no_two_lams_share_a_directory() -> None:
    lams = (0.0, 0.1, 0.1 + 2**-50, 1.0, 10.0, 1e-5, 1e5, 1e16, -1.0, math.inf)
    assert len({run_name(lam, 0) for lam in lams}) == len(lams)
    assert [run_name(lam, 1) for lam in (0.0, 0.001, 10.0)] == ["lam0-seed1", "lam0.001-seed1", "lam10-seed1"]


# What is there is not done again, and what is not as asked for is.


def test_a_finished_sweep_does_nothing_again_but_what_failed(
    whole: Whole, copied: Path, orders: list[dict[str, Any]]
) -> None:
    before = result_times(copied)
    summary = sweep(copied, CONFIG)
    assert [(order["run"], order["stages"]) for order in orders] == [
        (FAILED, ["train", "evaluate", "classify"])
    ]
    assert result_times(copied) == before
    for name in DONE:
        assert entries(summary)[name] == entries(whole.summary)[name]


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("file", "damage", "stages"),
    [
        ("evaluation.json", Path.unlink, ["evaluate"]),
        ("evaluation.json", lambda p: p.write_text(p.read_text()[:-100]), ["evaluate"]),
        ("evaluation.json", lambda p: rewrite(p, lambda v: v["settings"].update(seed=7)), ["evaluate"]),
        ("evaluation.json", lambda p: rewrite(p, lambda v: v["run"].update(step=44)), ["evaluate"]),
        (
            "classification.json",
            lambda p: rewrite(p, lambda v: v["settings"].update(repeats=9)),
            ["classify"],
        ),
        ("classification-epoch002.json", Path.unlink, ["classify"]),
        ("gallery.npz", lambda p: p.write_bytes(p.read_bytes()[:500]), ["train", "evaluate", "classify"]),
        # The log is ahead of the checkpoints.
        ("checkpoints/step-0000000132.npz", Path.unlink, ["train", "evaluate", "classify"]),
        ("metrics.jsonl", lambda p: p.write_text(p.read_text()[:-9]), ["train", "evaluate", "classify"]),
        ("config.json", lambda p: p.write_text("{"), ["train", "evaluate", "classify"]),
    ],
)
def test_a_stage_is_done_if_its_file_is_whole_and_made_as_asked_for(
    file: str,
    damage: Callable[[Path], object],
    stages: list[str],
    copied: Path,
    orders: list[dict[str, Any]],
) -> None:
    damage(copied / DONE[0] / file)
    summary = sweep(copied, dataclasses.replace(CONFIG, lams=(0.0, 0.5)))
    assert [(order["run"], order["stages"]) for order in orders] == [(DONE[0], stages)]
    if file.startswith("classification"):
        assert orders[0]["classify_epochs"] == ([2] if "epoch" in file else [None])
    entry = entries(summary)[DONE[0]]
    assert (entry["evaluation"] is None) == ("evaluate" in stages)


def test_lams_and_seeds_are_added_and_those_that_are_there_stay(
    whole: Whole, copied: Path, orders: list[dict[str, Any]]
) -> None:
    summary = sweep(copied, dataclasses.replace(CONFIG, lams=(0.5, 0.25), seeds=(0, 1)))
    assert [order["run"] for order in orders] == ["lam0.25-seed0", "lam0.25-seed1", "lam0.5-seed1"]
    assert [order["train"]["train"]["lam"] for order in orders] == [0.25, 0.25, 0.5]
    assert [order["train"]["train"]["seed"] for order in orders] == [0, 1, 1]
    assert (summary["lams"], summary["seeds"]) == ([0.0, 0.25, 0.5, 1e38], [0, 1])
    for name in (*DONE, FAILED):
        assert without_seconds(entries(summary)[name]) == without_seconds(entries(whole.summary)[name])


@pytest.mark.usefixtures("orders")
def test_the_commands_that_a_grid_grew_by_are_kept_each_once(tmp_path: Path) -> None:
    for words in (["a"], ["b"], ["a"], ["c"]):
        summary = sweep(tmp_path, CONFIG, command=words)
    assert (summary["command"], summary["earlier_commands"]) == (["c"], [["b"], ["a"]])


def test_more_epochs_go_on_with_all_runs(copied: Path, orders: list[dict[str, Any]]) -> None:
    summary = sweep(copied, changed(train={"epochs": 5}))
    assert [order["run"] for order in orders] == [*DONE, FAILED]
    assert {order["train"]["train"]["epochs"] for order in orders} == {5}
    assert orders[0]["stages"] == ["train", "evaluate", "classify"]
    assert orders[0]["classify_epochs"] == [2, 4, None]
    # Of an older training, and not of this one.
    assert entries(summary)[DONE[0]]["evaluation"] is None


@pytest.mark.parametrize(
    ("config", "difference"),
    [
        (changed(model={"latent_dim": 3}), "train.model.latent_dim: 2 here, 3 given"),
        (changed(train={"epochs": 2}), "train.train.epochs: 3 here, 2 given"),
        (changed(evaluate={"num_examples": None}), "evaluate.num_examples: 20 here, null given"),
        (changed(classify={"labels": (20,)}), "classify.labels: [20, 30] here, [20] given"),
        (changed(grid={"classify": None}), "classify: null given"),
        (changed(grid={"classify_every": 1}), "classify_every: 2 here, 1 given"),
    ],
)
def test_other_settings_are_refused_with_the_difference(
    config: SweepConfig, difference: str, copied: Path, orders: list[dict[str, Any]]
) -> None:
    before = (copied / "sweep.json").read_bytes()
    with pytest.raises(SMVIError, match="holds a sweep with other settings") as caught:
        sweep(copied, config)
    assert difference.partition(":")[0] in str(caught.value)
    assert difference.rpartition(": ")[2] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert orders == []
    assert (copied / "sweep.json").read_bytes() == before


def test_settings_that_no_result_depends_on_yet_may_change(
    copied: Path, orders: list[dict[str, Any]]
) -> None:
    """Such as --labels that the data have not enough of, which shows when the training is done."""
    for name in DONE:
        for path in (copied / name).glob("classification*.json"):
            path.unlink()
    sweep(copied, CONFIG)
    orders.clear()
    summary = sweep(copied, changed(classify={"labels": (40,)}))
    assert [order["stages"] for order in orders[:2]] == [["classify"], ["classify"]]
    assert summary["config"]["classify"]["labels"] == [40]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', '{"format": 1, "runs": [{}]}'])
def test_a_damaged_summary_is_made_anew_from_the_runs(
    text: str, whole: Whole, copied: Path, orders: list[dict[str, Any]]
) -> None:
    (copied / "sweep.json").write_text(text)
    reporter = Recorder()
    sweep(copied, CONFIG, reporter=reporter)
    (warning, *_) = reporter.messages
    assert "sweep.json is damaged" in warning
    for name in DONE:
        assert without_seconds(entries(read(copied))[name]) == without_seconds(entries(whole.summary)[name])


# Processes and what becomes of them.


def fake_stage(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Lets a shell script stand in for the process of a run."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


BEGIN = """echo '{"event": "begin", "stage": "evaluate"}'"""


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (f"{BEGIN}; kill -9 $$", "evaluate: killed by SIGKILL; if you did not do it, memory ran out"),
        (f"{BEGIN}; kill -11 $$", "evaluate: killed by SIGSEGV (see sweep.log)"),
        (f"{BEGIN}; printf '{{\"eve'; exit 3", "evaluate: ended with exit code 3 (see sweep.log)"),
        ("exit 143", "start: stopped by SIGTERM"),
        ("""echo '{"event": "failed", "error": "no luck."}'""", "start: no luck."),
        ("exit 0", "its files do not show that train was done"),
    ],
)
def test_a_process_that_dies_fails_its_run_with_a_reason(
    script: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_stage(monkeypatch, tmp_path, script)
    summary = sweep(tmp_path / "sweep", dataclasses.replace(CONFIG, lams=(0.0, 1.0)))
    for entry in summary["runs"]:
        assert entry["status"] == "failed"
        assert entry["error"].startswith(error)
        assert "\n" not in entry["error"]
    assert read(tmp_path / "sweep") == summary


@pytest.mark.parametrize(
    ("labels", "reason"),
    [(None, "has no labels for both"), ([0, 1], "labels = 12 asks for 6 examples of each class")],
)
def test_labels_that_classify_will_miss_are_missed_before_the_training(
    labels: list[int] | None, reason: str, tmp_path: Path
) -> None:
    """And not after hours of it."""
    arrays = {f"x_{name}": np.eye(10, dtype=np.float32) for name in ("train", "test")}
    if labels is not None:
        arrays |= {f"y_{name}": np.array([0] * 9 + [1]) for name in ("train", "test")}
    np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]
    train = dataclasses.replace(CONFIG.train, data=DataConfig(str(tmp_path / "data.npz")))
    config = changed(grid={"train": train, "lams": (0.5,)}, classify={"labels": (12,)})
    (entry,) = sweep(tmp_path / "sweep", config)["runs"]
    assert entry["status"] == "failed"
    assert reason in entry["error"]
    assert not list((tmp_path / "sweep").glob("*/checkpoints/*"))


def test_a_run_without_a_place_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_stage(monkeypatch, tmp_path, "kill -9 $$")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "lam0-seed0").write_text("a file where a directory should be")
    first, second = sweep(tmp_path / "sweep", dataclasses.replace(CONFIG, lams=(0.0, 1.0)))["runs"]
    assert first["error"] == f"cannot write to {tmp_path / 'sweep' / 'lam0-seed0'} (File exists)"
    assert "SIGKILL" in second["error"]


def test_as_many_runs_as_asked_for_go_on_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits until it has seen another one: a minute, which only a run that is alone would wait."""
    seen = 'for i in $(seq 600); do [ $(ls "$0".d | wc -l) -ge 2 ] && exit 7; sleep 0.1; done'
    fake_stage(monkeypatch, tmp_path, f'mkdir -p "$0".d; touch "$0".d/$$; {seen}')
    reporter = Recorder()
    summary = sweep(tmp_path / "sweep", CONFIG, jobs=2, reporter=reporter)
    assert {entry["error"] for entry in summary["runs"]} == {"start: ended with exit code 7 (see sweep.log)"}
    running: set[str] = set()
    for run, status in reporter.updates:
        running = running | {run} if status == "running" else running - {run}
        assert len(running) <= 2


@pytest.mark.parametrize(("jobs", "threads"), [(1, None), (2, 3), (3, 2), (16, 1)])
def test_cores_are_divided_between_the_runs(
    jobs: int,
    threads: int | None,
    tmp_path: Path,
    orders: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweep_module, "_num_cores", lambda: 7)
    sweep(tmp_path, CONFIG, jobs=jobs)
    assert {order["threads"] for order in orders} == {threads}
    sweep(tmp_path, CONFIG, jobs=jobs, threads=5)
    assert orders[-1]["threads"] == 5


def test_no_job_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SMVIError, match="jobs = 0 is not allowed"):
        sweep(tmp_path, CONFIG, jobs=0)


def test_another_sweep_in_the_directory_is_refused(tmp_path: Path) -> None:
    with filelock.FileLock(tmp_path / ".lock"), pytest.raises(SMVIError, match="another sweep works in"):
        sweep(tmp_path, CONFIG)


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SMVIError, match=r"cannot write to .*file") as caught:
        sweep(tmp_path / "file", CONFIG)
    assert "\n" not in str(caught.value)


# Signals and kills.


def start(sweep_dir: Path) -> subprocess.Popen[str]:
    """Starts the command line in a process group of its own."""
    file = sweep_dir.with_suffix(".json")
    grid = {"lams": CONFIG.lams, "seeds": CONFIG.seeds}
    file.write_text(json.dumps({"config": CONFIG.settings(), **grid}))
    arguments = ["sweep", "--config", str(file), "--sweep-dir", str(sweep_dir), "--jobs", "2"]
    return subprocess.Popen(
        [runs.script(), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_line(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"no line has {words!r}")


def processes_end(sweep_dir: Path) -> bool:
    """Waits until no process works on a run any more."""
    for name in DONE:
        with filelock.FileLock(sweep_dir / name / ".sweep.lock", timeout=120):
            pass
    return True


class Acting(Recorder):
    """Does something when a stage begins."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__()
        self._action = action

    def stage(self, entry: Mapping[str, Any], stage: str) -> None:
        self._action()


def stop(number: int, times: int) -> None:
    for _ in range(times):
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("rest", "times"), [("cat > /dev/null; exit 143", 1), ("exec sleep 600", 2)])
def test_a_signal_stops_the_runs_in_order_and_a_second_one_at_once(
    number: int, rest: str, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first script ends when it hears of it, the second does not listen."""
    fake_stage(monkeypatch, tmp_path, f"{BEGIN}; {rest}")
    before = signal.getsignal(number)
    with pytest.raises(SweepInterrupted) as caught:
        sweep(tmp_path / "sweep", CONFIG, reporter=Acting(lambda: stop(number, times)))
    assert caught.value.signum == number
    assert signal.getsignal(number) is before
    for entry in read(tmp_path / "sweep")["runs"]:
        assert (entry["status"], entry["error"]) == ("pending", None)


def test_no_process_is_left_behind_by_a_sweep_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_stage(monkeypatch, tmp_path, f'{BEGIN}; cat > /dev/null; touch "$0".ended')

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sweep(tmp_path / "sweep", CONFIG, reporter=Acting(fail))
    assert (tmp_path / "python.ended").exists()


@pytest.mark.slow
def test_a_sweep_that_is_stopped_and_killed_ends_with_the_results_of_one_that_is_not(
    whole: Whole, tmp_path: Path
) -> None:
    """As Ctrl-C, kill and the end of memory or power do it; the moments within a stage are drawn anew each time."""
    sweep_dir = tmp_path / "sweep"
    (seconds,) = [entry["seconds"] for entry in whole.summary["runs"] if entry["run_dir"] == DONE[0]]
    for number, stage, all_of_them in (
        (signal.SIGINT, "train", True),
        (signal.SIGTERM, "train", False),
        (signal.SIGTERM, "evaluate", True),
        (signal.SIGKILL, "evaluate", True),
        (signal.SIGKILL, "classify", False),
    ):
        with start(sweep_dir) as process:
            wait_for_line(process, f"{DONE[0]}: {stage}")
            # A stage is interrupted twice at most, and has work left after both.
            time.sleep(random.uniform(0.0, 0.3) * seconds[stage])
            (os.killpg if all_of_them else os.kill)(process.pid, number)
            assert process.stderr is not None
            *_, last = ["", *process.stderr]
        assert processes_end(sweep_dir)
        if number == signal.SIGKILL:
            assert process.returncode == -number
        else:
            assert process.returncode == 128 + number
            assert last == "Run the same command again to go on.\n"
            assert "running" not in {entry["status"] for entry in read(sweep_dir)["runs"]}
        before = result_times(sweep_dir)
        finished = {path for path in before if path.parts[0] in DONE}
    with start(sweep_dir) as process:
        errors = process.stderr.read() if process.stderr else ""
    assert process.returncode == 1, errors  # one lam diverges
    assert "Traceback" not in errors
    after = result_times(sweep_dir)
    assert {path: after[path] for path in finished} == {path: before[path] for path in finished}
    summary = without_seconds(read(sweep_dir))
    assert summary | {"command": []} == without_seconds(whole.summary) | {"command": []}
    for name in DONE:
        for file in ("evaluation.json", "evaluation.npz", "gallery.npz"):
            assert (sweep_dir / name / file).read_bytes() == (whole.path / name / file).read_bytes()
        runs.assert_same_run(sweep_dir / name, whole.path / name)
