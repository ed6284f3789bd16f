"""`tfp-smvi evaluate` as its users meet it."""

import dataclasses
import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.support import golden, runs
from tests.support.forked import run_forked
from tests.support.golden import GoldenCase
from tests.support.runs import ReferenceRun, forget_data
from tests.support.signals import RunSignalled
from tfp_smvi.config import AISConfig, EvaluateConfig

SMALL = (
    *(
        "--num-examples",
        "70",
        "--num-chains",
        "3",
        "--num-temperatures",
        "6",
        "--num-leapfrog-steps",
        "2",
    ),
    *(
        "--num-importance-samples",
        "50",
        "--num-elbo-samples",
        "50",
        "--num-simulated",
        "20",
        "--num-calibration",
        "60",
    ),
)


@pytest.fixture(scope="module")
def evaluated(
    reference: ReferenceRun, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str, str]:
    """A run evaluated in one go: its directory, stdout and stderr."""
    run_dir = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(reference.run_dir, run_dir)
    process = run_forked("evaluate", str(run_dir), *SMALL)
    assert process.returncode == 0, process.stderr
    return run_dir, process.stdout, process.stderr


def test_table_is_on_stdout_and_all_else_on_stderr(evaluated: tuple[Path, str, str]) -> None:
    run_dir, stdout, stderr = evaluated
    report = json.loads((run_dir / "evaluation.json").read_text())
    rows = {line.split("  ")[0]: line for line in stdout.splitlines()}
    for label, name in (("ELBO", "elbo"), ("log-likelihood (AIS)", "log_likelihood")):
        assert f"{report['splits']['test'][name]['mean']:.3f} +/- " in rows[label]
    assert "On 20 examples simulated from the model, in nats:" in rows
    assert f"Everything is in {run_dir}: evaluation.json and evaluation.npz." in rows
    # Warnings of so few chains may be; TensorFlow's chatter not.
    lines = [line for line in stderr.splitlines() if not re.match(r"Warning: |\d+ %, about ", line)]
    assert lines == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_stopped_evaluation_goes_on_and_ends_with_the_same_bits(
    number: signal.Signals,
    code: int,
    evaluated: tuple[Path, str, str],
    reference: ReferenceRun,
    tmp_path: Path,
    run_signalled: RunSignalled,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stopped when the third result is about to get its name; no litter stays.

    Two results are kept and not made again. A thread may finish the third before the process ends.
    """
    run_dir = Path(shutil.copytree(reference.run_dir, tmp_path / "run"))
    arguments = ("evaluate", str(run_dir), *SMALL)
    stopped = run_signalled("os.rename", ".test-", 3, number, *arguments)
    assert (stopped.code, stopped.out) == (code, "")
    assert "Traceback" not in stopped.err
    assert (code < 0) or "results are kept" in stopped.err
    kept = {path: path.stat().st_mtime_ns for path in run_dir.glob("evaluation/*/test-*.npz")}
    assert len(kept) == 2 or (len(kept) == 3 and number != signal.SIGKILL)
    assert number != signal.SIGKILL or [*run_dir.rglob(".*.partial")]
    assert runs.call(*arguments, "--json") == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert [*run_dir.rglob(".*.partial")] == []
    for name in ("evaluation.npz", "evaluation.json"):
        assert (run_dir / name).read_bytes() == (evaluated[0] / name).read_bytes()
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((run_dir / "evaluation.json").read_text())


@pytest.mark.slow
def test_convergence_prints_table_and_answer(
    evaluated: tuple[Path, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = Path(shutil.copytree(evaluated[0], tmp_path / "run"))
    without = SMALL.index("--num-temperatures")
    small = (*SMALL[:without], *SMALL[without + 2 :])
    arguments = (*small, "--convergence", "--convergence-temperatures", "2,6")
    assert runs.call("evaluate", str(run_dir), *arguments) == 0
    output = capsys.readouterr().out
    assert "test, 70 examples:" in output
    assert re.search("The estimate (still moves|stops moving at 2 |is not known: the br)", output)
    assert (run_dir / "convergence.png").exists()
    # An evaluation is not replaced by it.
    with np.load(run_dir / "evaluation.npz") as arrays:
        assert len(arrays["test_elbo"]) == 70


@pytest.fixture
def fresh(reference: ReferenceRun, tmp_path: Path) -> Path:
    """A run that is not evaluated."""
    return Path(shutil.copytree(reference.run_dir, tmp_path / "fresh"))


@pytest.fixture
def other_data(fresh: Path) -> Path:
    """A run that was trained on data of another content."""
    forget_data(fresh)
    return fresh


@pytest.mark.parametrize("case", golden.cases("evaluate"))
def test_wrong_usage_and_failures_are_one_line(
    case: GoldenCase, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    golden.check(case, request, capsys)


def test_every_setting_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.call("evaluate", "--help") == 0
    text = capsys.readouterr().out
    names = {
        field.name for kind in (EvaluateConfig, AISConfig) for field in dataclasses.fields(kind)
    } - {"ais"}
    assert len(names) > 10
    assert [name for name in sorted(names) if f"--{name.replace('_', '-')} " not in text] == []
