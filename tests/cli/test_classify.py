"""`tfp-smvi classify` as its users meet it."""

import dataclasses
import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfp_smvi
from tests.support import golden, runs
from tests.support.errors import refused
from tests.support.forked import run_forked
from tests.support.golden import GoldenCase
from tests.support.runs import ReferenceRun
from tests.support.signals import RunSignalled
from tfp_smvi.classification.results import Classification

SMALL = ("--labels", "50,100", "--repeats", "2", "--kernel", "rbf")


@pytest.fixture
def run_dir(reference: ReferenceRun, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference.run_dir, tmp_path / "run"))


def test_table_is_on_stdout_and_all_else_on_stderr(run_dir: Path) -> None:
    process = run_forked("classify", str(run_dir), *SMALL)
    assert process.returncode == 0, process.stderr
    report = json.loads((run_dir / "classification.json").read_text())
    lines = process.stdout.splitlines()
    assert lines[0].split() == ["labels", "50", "100"]
    for line, name, row in zip(
        lines[1:4], ("encoder means", "pixels", "PCA"), report["results"][::2], strict=True
    ):
        assert line.startswith(f"{name}, rbf ")
        assert f" {100 * row['mean']:.2f} +/- " in line
    assert lines[-1] == f"All of it is in {run_dir / 'classification.json'}."
    assert [
        line for line in process.stderr.splitlines() if not re.match(r"\d+ %, about ", line)
    ] == []


def test_json_is_the_report(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.call("classify", str(run_dir), *SMALL, "--epoch", str(runs.EPOCHS), "--json") == 0
    path = run_dir / f"classification-epoch{runs.EPOCHS:03d}.json"
    assert json.loads(capsys.readouterr().out) == json.loads(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_stopped_at_any_file_it_leaves_whole_ones_and_the_same_command_ends_the_work(
    number: signal.Signals,
    code: int,
    run_dir: Path,
    run_signalled: RunSignalled,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stopped where the second baseline, and where the report, is about to get its name."""
    for count, part in ((2, "baselines"), (1, "classification.json")):
        stopped = run_signalled("os.rename", part, count, number, "classify", str(run_dir), *SMALL)
        assert (stopped.code, stopped.out) == (code, "")
        assert "Traceback" not in stopped.err
        assert not (run_dir / "classification.json").exists()
        kept = {path: path.stat().st_mtime_ns for path in (run_dir / "baselines").glob("*.json")}
        assert kept
        for path in kept:
            json.loads(path.read_text())
    assert runs.call("classify", str(run_dir), *SMALL, "--json") == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((run_dir / "classification.json").read_text())


@pytest.fixture(scope="module")
def feature_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of features, good and bad: four classes on a circle, whose noise blurs them."""
    folder = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(0)

    def save(name: str, size: int, **changes: Any) -> None:
        labels = np.arange(size) % 4
        mean = np.stack([np.cos(labels * np.pi / 2), np.sin(labels * np.pi / 2)], axis=1)
        mean += 0.3 * rng.standard_normal(mean.shape)
        arrays = {"mean": mean.astype(np.float32), "labels": labels} | changes
        given = {key: array for key, array in arrays.items() if array is not None}
        np.savez(folder / f"{name}.npz", allow_pickle=True, **given)

    save("train", 200)
    save("test", 100)
    save("no_labels", 8, labels=None)
    save("objects", 8, mean=np.full((8, 2), None))
    save("nan", 8, mean=np.full((8, 2), np.nan))
    save("short", 8, labels=np.arange(7))
    save("texts", 8, labels=np.array([*"abcdabcd"]))
    save("images", 8, mean=np.zeros((8, 2, 2)))
    save("other_size", 8, mean=np.zeros((8, 3)))
    save("one_class", 80, labels=np.zeros(80, int))
    (folder / "text.npz").write_text("mean")
    return folder


def test_features_from_elsewhere_are_classified(
    feature_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The nearest of four means is right for 98.2 % of the examples; chance is 25 %."""
    names = ("--features", "--test-features")
    files = [feature_files / f"{part}.npz" for part in ("train", "test")]
    options = [word for pair in zip(names, map(str, files), strict=True) for word in pair]
    output = tmp_path / "new" / "report.json"
    arguments = ("classify", *options, "--labels", "40", "--repeats", "3", "--output", str(output))
    assert runs.call(*arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["labels", "40"]
    assert [line.partition("  ")[0] for line in lines[1:3]] == [
        "given features, rbf",
        "given features, linear",
    ]
    assert lines[-1] == f"All of it is in {output}."
    report = Classification.from_json(json.loads(output.read_text()))
    assert report.run is None
    assert report.given is not None
    assert report.given.files == tuple(map(str, files))
    assert min(result.mean for result in report.results) > 0.85
    # The same arrays in Python are the same in all that does not tell the time.
    train, test = (np.load(file) for file in files)
    found = tfp_smvi.classify_features(
        train["mean"], train["labels"], test["mean"], test["labels"], report.settings
    )
    assert found.results == report.results
    assert found.given == dataclasses.replace(report.given, files=())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_features": np.ones((8, 2))}, "has the same row for all examples"),
        ({"train_features": np.full((8, 2), 1e-200, np.float32)}, "has the same row for all"),
        ({"train_features": 1e-200 * np.eye(8)}, "column 0 that differ by 1e-200; multiply"),
        ({"train_features": np.diag([1e-99, *np.ones(7)])}, "column 0 that differ by 1e-99;"),
        ({"train_features": -1e200 * np.eye(8)}, r"has values of size 1e\+200; multiply"),
        ({"test_features": 1e307 * np.eye(8)}, r"has values of size 1e\+307; multiply"),
        ({"test_features": np.full((8, 8), np.nan)}, "has NaN or infinity in 8 of 8 rows"),
        ({"train_features": np.eye(8)[0]}, r"is float64 of shape \[8\]"),
        ({"test_labels": np.arange(7)}, r"is int64 of shape \[7\]"),
        ({"train_labels": np.zeros(8, int), "test_labels": np.zeros(8, int)}, "a single class"),
    ],
)
def test_arrays_that_cannot_be_classified_are_named(
    changes: dict[str, np.ndarray], message: str
) -> None:
    arrays = {"train_features": np.eye(8), "train_labels": np.arange(8) % 2}
    arrays |= {"test_features": np.eye(8), "test_labels": np.arange(8) % 2}
    with refused(next(iter(changes))) as caught:
        tfp_smvi.classify_features(**arrays | changes)
    assert re.search(message, str(caught.value))


@pytest.mark.parametrize(("train", "test"), [(1e-60, 1e60), (1e60, 1e-60), (1e60, 1e60)])
def test_sizes_at_the_ends_of_their_range_are_classified(train: float, test: float) -> None:
    labels = np.arange(40) % 2
    x = np.stack([labels - 0.5, np.linspace(-0.5, 0.5, 40)], axis=1)
    config = tfp_smvi.ClassifyConfig(labels=(20,), repeats=2)
    found = tfp_smvi.classify_features(train * x, labels, test * x, labels, config, threads=1)
    same = "The test features are the training features: the accuracy is not"
    assert any(line.startswith(same) for line in found.warnings) == (train == test)
    if train == test:
        assert [result.mean for result in found.results] == [1.0, 1.0]


@pytest.mark.parametrize("case", golden.cases("classify"))
def test_an_error_is_worded_as_in_the_golden_file(
    case: GoldenCase, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    golden.check(case, request, capsys)


def test_what_cannot_be_done_leaves_no_report(run_dir: Path) -> None:
    assert runs.call("classify", str(run_dir), "--labels", "55") == 2
    assert not (run_dir / "classification.json").exists()


def test_training_keeps_checkpoints_when_asked(tmp_path: Path) -> None:
    arguments = ("train", *runs.OPTIONS, "--epochs", "3", "--run-dir", str(tmp_path / "run"))
    assert runs.call(*arguments, "--keep-every", "1") == 0
    assert len(list((tmp_path / "run" / "checkpoints").glob("step-*.npz"))) == 3
    assert runs.call(*arguments, "--keep-every", "0") == 2
