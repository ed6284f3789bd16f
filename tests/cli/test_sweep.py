"""`tfp-smvi sweep` as its users meet it: options, files of settings, output and exit codes."""

import json
import os
import pty
import re
import shlex
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

import tfp_smvi.sweeps.driver
from tests.support import golden, runs
from tests.support.golden import GoldenCase
from tests.support.small_sweep import BEGIN, CONFIG, fake_stage
from tfp_smvi.config import (
    AISConfig,
    ClassifyConfig,
    EvaluateConfig,
    ModelConfig,
    RunConfig,
    SweepConfig,
    TrainConfig,
)
from tfp_smvi.sweeps.results import Summary

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]


class Call(dict[str, Any]):
    """What the library was asked for."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Call:
    """Replaces the library by a function that keeps its arguments; nothing is left to do."""
    call = Call()

    def note(sweep_dir: Path, config: SweepConfig, **others: Any) -> Summary:
        call.update(others, sweep_dir=sweep_dir, config=config)
        return Summary((), (), config, ())

    monkeypatch.setattr(tfp_smvi.sweeps.driver, "sweep", note)
    return call


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lets every run die at once; returns a place for the sweep."""
    fake_stage(monkeypatch, tmp_path, BEGIN.replace("evaluate", "train") + "; kill -9 $$")
    return tmp_path / "sweep"


# Options.


def option_names(text: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]*", text))


def test_the_options_of_the_three_commands_are_options_of_the_sweep(capsys: Capture) -> None:
    """Except those of a run, a part of one, or none: its place, lam, seed, shard; other models."""
    texts = {}
    for command in ("sweep", "train", "evaluate", "classify"):
        assert runs.call(command, "--help") == 0
        texts[command] = option_names(capsys.readouterr().out)
    single = {
        *("--run-dir", "--lam", "--seed", "--fresh", "--keep-every", "--epoch", "--baselines-dir"),
        "--devices",
        *("--target-gap", "--max-divergence", "--min-elbo"),
        *("--shard", "--merge", "--convergence", "--convergence-temperatures"),
        *("--binarize", "--features", "--test-features", "--output"),
    }
    offered = texts["train"] | texts["evaluate"] | texts["classify"]
    assert offered - single <= texts["sweep"]
    assert not single & texts["sweep"]


def test_defaults_are_those_of_the_configuration(asked: Call) -> None:
    assert runs.call("sweep") == 0
    assert asked["config"] == SweepConfig()
    assert asked["config"].evaluate.split == "both"
    assert asked["sweep_dir"] == Path("runs/mnist-sweep")
    assert (asked["jobs"], asked["threads"], asked["data_dir"]) == (1, None, None)
    assert asked["engine"] is None


def test_options_reach_the_stage_that_they_belong_to(asked: Call) -> None:
    arguments = shlex.split(
        "--lams 0,1e-3,inf --seeds 0,7 --jobs 2 --threads 3 --sweep-dir there "
        "--dataset digits --latent-dim 2 --epochs 9 --clip-norm inf "
        "--split test --num-examples all --num-temperatures 7 --num-elbo-samples 5 "
        "--labels 50,100 --kernel rbf --repeats 3 --classify-every 4"
    )
    assert runs.call("sweep", *arguments) == 0
    config = asked["config"]
    assert (config.lams, config.seeds) == ((0.0, 0.001, float("inf")), (0, 7))
    assert (asked["jobs"], asked["threads"], asked["sweep_dir"]) == (2, 3, Path("there"))
    train = TrainConfig(epochs=9, clip_norm=float("inf"))
    assert (config.train.data.dataset, config.train.model, config.train.train) == (
        "digits",
        ModelConfig(latent_dim=2),
        train,
    )
    assert config.evaluate == EvaluateConfig(
        AISConfig(num_temperatures=7), split="test", num_examples=None, num_elbo_samples=5
    )
    assert config.classify == ClassifyConfig(labels=(50, 100), kernel="rbf", repeats=3)
    assert config.classify_every == 4


def test_data_without_labels_are_swept_without_classification(asked: Call) -> None:
    assert runs.call("sweep", "--no-classify") == 0
    assert asked["config"].classify is None
    assert asked["config"].stages == ("train", "evaluate")


def test_the_settings_of_a_sweep_can_be_given_again_and_options_beside_them_win(
    asked: Call, tmp_path: Path
) -> None:
    """Those without an option, such as the evaluation's seed, are taken over as well."""
    config = SweepConfig(
        RunConfig(train=TrainConfig(epochs=7)),
        EvaluateConfig(AISConfig(num_segments=3), seed=5, num_examples=None),
        None,
        classify_every=3,
        lams=(0.5, float("inf")),
        seeds=(4, 5),
    )
    file = tmp_path / "sweep.json"
    summary = {
        "format": 1,
        "config": config.settings(),
        "lams": [0.5, "inf"],
        "seeds": [4, 5],
        "runs": [],
    }
    file.write_text(json.dumps(summary))
    assert runs.call("sweep", "--config", str(file)) == 0
    assert asked["config"] == config
    assert (
        runs.call("sweep", "--config", str(file), "--lams", "1", "--epochs", "8", "--classify") == 0
    )
    assert asked["config"].lams == (1.0,)
    assert asked["config"].train.train.epochs == 8
    assert asked["config"].evaluate == config.evaluate
    assert asked["config"].classify == ClassifyConfig()


def test_the_example_is_the_papers_protocol(asked: Call) -> None:
    assert runs.call("sweep", "--config", str(ROOT / "examples" / "paper.json")) == 0
    config = asked["config"]
    assert config.train.model == ModelConfig(
        latent_dim=50, hidden_sizes=(1024, 1024), activation="silu"
    )
    assert config.train.data.dataset == "mnist"
    assert (config.train.train.epochs, config.train.train.learning_rate) == (300, 1e-3)
    assert config.classify.labels == (600, 1000, 3000)
    assert config.lams == (0.0, 0.003, 0.01, 0.03, 0.1, 0.5, 2.0, 10.0)
    assert config.train.train.precision == "bfloat16"


@pytest.fixture
def file() -> Path:
    """A file where a folder is asked for, without settings."""
    return Path(__file__)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A file with the settings of the whole sweep."""
    grid = {"lams": CONFIG.lams, "seeds": CONFIG.seeds}
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"config": CONFIG.settings(), **grid}))
    return path


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder in which another sweep works."""
    (tmp_path / "locked").mkdir()
    with filelock.FileLock(tmp_path / "locked" / ".lock"):
        yield tmp_path / "locked"


@pytest.mark.parametrize("case", golden.cases("sweep"))
def test_an_error_is_worded_as_in_the_golden_file(
    case: GoldenCase, request: pytest.FixtureRequest, capsys: Capture
) -> None:
    golden.check(case, request, capsys)


@pytest.mark.parametrize(
    "contents",
    [
        "",
        "[1]",
        '{"config": []}',
        '{"lams": 3}',
        '{"lamds": [3]}',
        '{"config": {"train": {"lamda": 1}}}',
    ],
)
def test_a_damaged_file_of_settings_is_a_usage_error_that_names_it(
    contents: str, capsys: Capture, tmp_path: Path
) -> None:
    path = tmp_path / "settings.json"
    path.write_text(contents)
    assert str(path) in runs.usage_error(capsys, "sweep", "--config", str(path))


# What it prints.


def test_a_plan_says_what_is_left_and_how_long_it_takes_and_writes_nothing(
    copied_sweep: Path, settings: Path, capsys: Capture
) -> None:
    """From the epochs of the sweep, or else from steps that are timed."""
    before = {path: path.stat().st_mtime_ns for path in copied_sweep.rglob("*")}
    given = ("sweep", "--plan", "--config", str(settings), "--sweep-dir", str(copied_sweep))
    grid = ("--lams", "0,0.5", "--seeds", "0,1", "--jobs", "2")
    assert runs.call(*given, *grid, "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    summary = json.loads((copied_sweep / "sweep.json").read_text())
    done = [run for run in summary["runs"] if run["status"] == "done"]
    epoch = statistics.median(record["seconds"] for run in done for record in run["history"])
    later = [
        statistics.median(run["seconds"][stage] for run in done)
        for stage in ("evaluate", "classify")
    ]
    assert [(run["run_dir"], run["epochs"]) for run in plan["runs"]] == [
        *(("lam0-seed0", 0), ("lam0-seed1", 3), ("lam0.5-seed0", 0), ("lam0.5-seed1", 3)),
    ]
    each = plan["runs"][1]["seconds"]
    assert each == pytest.approx(3 * epoch + sum(later), abs=0.1)
    # Two at once.
    assert (plan["workers"], plan["seconds"]) == (2, pytest.approx(each))
    assert runs.call(*given, *grid) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 of 4 runs are done."
    assert "train 3 epochs, evaluate, classify" in lines[2]
    assert "the median of the 6 epochs of this sweep" in lines[-1]
    assert {path: path.stat().st_mtime_ns for path in copied_sweep.rglob("*")} == before
    new = copied_sweep.parent / "new"
    assert runs.call("sweep", "--plan", "--config", str(settings), "--sweep-dir", str(new)) == 0
    text = capsys.readouterr().out
    assert "steps that were timed now" in text
    assert "0:00:00" not in text
    assert "with one run at a time." in text
    assert "Not included, as no run here has done it: evaluate, classify." in text
    assert not new.exists()


def test_failed_runs_are_told_at_the_end_with_exit_code_1(broken: Path, capsys: Capture) -> None:
    assert runs.call("sweep", "--lams", "0,0.5", "--sweep-dir", str(broken)) == 1
    output = capsys.readouterr()
    reason = (
        "train: killed by SIGKILL; unless you did it, memory ran out: "
        "run fewer jobs at once, or take smaller batches."
    )
    lines = output.err.splitlines()
    assert lines[-2:] == [f"Error: lam{lam}-seed0 failed: {reason}" for lam in ("0", "0.5")]
    assert "lam0-seed0: train" in lines
    header, *rows, place = output.out.splitlines()
    assert header.split()[:3] == ["lam", "seed", "status"]
    assert [row.split()[:3] for row in rows] == [["0", "0", "failed"], ["0.5", "0", "failed"]]
    assert place == f"All of it is in {broken}: sweep.json and sweep.csv."


def test_json_is_the_summary_without_the_epochs(broken: Path, capsys: Capture) -> None:
    assert runs.call("sweep", "--lams", "2", "--sweep-dir", str(broken), "--json") == 1
    printed = json.loads(capsys.readouterr().out)
    summary = json.loads((broken / "sweep.json").read_text())
    for run in summary["runs"]:
        del run["history"]
    assert printed == summary


@pytest.mark.slow
def test_a_terminal_shows_a_table(tmp_path: Path) -> None:
    """On a pseudo-terminal; the run cannot begin, since a file is in its place."""
    (tmp_path / "lam2-seed0").write_text("")
    parent, child = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        [runs.script(), "sweep", "--lams", "2", "--sweep-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=child,
        env=environment,
    ) as process:
        os.close(child)
        shown = b""
        while True:
            try:
                shown += os.read(parent, 65536)
            except OSError:  # Linux's end of a pseudo-terminal
                break
    os.close(parent)
    assert process.returncode == 1
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"lam +seed +status +ELBO +log-lik\. +gap +time", text)
    assert re.search(r"2 +0 +failed", text)
    assert "0 of 1 runs done" in text
    assert shown.count(b"\x1b[?25h") >= shown.count(b"\x1b[?25l") >= 1  # the cursor is shown again
