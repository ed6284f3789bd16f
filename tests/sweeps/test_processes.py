"""The processes of a sweep: what becomes of those that die, and how many there are at once."""

import dataclasses
from pathlib import Path

import filelock
import pytest

from tests.support.small_sweep import BEGIN, CONFIG, Recorder, fake_stage, read
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.engines.base import Task
from tfp_smvi.engines.processes import Processes
from tfp_smvi.sweeps import orders
from tfp_smvi.sweeps.driver import sweep
from tfp_smvi.sweeps.orders import Order


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (
            f"{BEGIN}; kill -9 $$",
            "evaluate: killed by SIGKILL; unless you did it, memory ran out",
        ),
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
    for entry in summary.runs:
        assert entry.status == "failed"
        assert str(entry.error).startswith(error)
        assert "\n" not in str(entry.error)
    assert read(tmp_path / "sweep") == summary.to_json()


def test_a_run_without_a_place_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_stage(monkeypatch, tmp_path, "kill -9 $$")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "lam0-seed0").write_text("a file where a directory should be")
    first, second = sweep(tmp_path / "sweep", dataclasses.replace(CONFIG, lams=(0.0, 1.0))).runs
    assert first.error == f"cannot write to {tmp_path / 'sweep' / 'lam0-seed0'} (File exists)"
    assert "SIGKILL" in str(second.error)


def test_as_many_runs_as_asked_for_go_on_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits until it has seen another one; a run that is alone waits for a minute."""
    seen = 'for i in $(seq 600); do [ $(ls "$0".d | wc -l) -ge 2 ] && exit 7; sleep 0.1; done'
    fake_stage(monkeypatch, tmp_path, f'mkdir -p "$0".d; touch "$0".d/$$; {seen}')
    reporter = Recorder()
    summary = sweep(tmp_path / "sweep", CONFIG, jobs=2, reporter=reporter)
    assert {entry.error for entry in summary.runs} == {
        "start: ended with exit code 7 (see sweep.log)"
    }
    running: set[str] = set()
    for run, status in reporter.updates:
        running = running | {run} if status == "running" else running - {run}
        assert len(running) <= 2


class Counting(Processes):
    """An engine that keeps the names of its tasks."""

    def __init__(self) -> None:
        super().__init__(1)
        self.names: list[str] = []

    def start(self, task: Task) -> None:
        self.names.append(task.name)
        super().start(task)


def test_the_engine_that_is_given_does_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine without tasks has the length 0, and is false."""
    fake_stage(monkeypatch, tmp_path, "exit 7")
    with Counting() as engine:
        summary = sweep(tmp_path / "sweep", CONFIG, engine=engine)
    assert engine.names == [entry.run_dir for entry in summary.runs]


@pytest.mark.parametrize(("jobs", "threads"), [(1, None), (2, 3), (3, 2), (16, 1)])
def test_cores_are_divided_between_the_runs(
    jobs: int,
    threads: int | None,
    tmp_path: Path,
    sweep_orders: list[Order],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(orders, "_num_cores", lambda: 7)
    sweep(tmp_path, CONFIG, jobs=jobs)
    assert {order.threads for order in sweep_orders} == {threads}
    sweep(tmp_path, CONFIG, jobs=jobs, threads=5)
    assert sweep_orders[-1].threads == 5


def test_no_job_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SMVIError) as caught:
        sweep(tmp_path, CONFIG, jobs=0)
    assert (caught.value.field, caught.value.value) == ("jobs", 0)


def test_another_sweep_in_the_directory_is_refused(tmp_path: Path) -> None:
    with (
        filelock.FileLock(tmp_path / ".lock"),
        pytest.raises(SMVIError, match="another sweep works in"),
    ):
        sweep(tmp_path, CONFIG)


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SMVIError, match=r"cannot write to .*file") as caught:
        sweep(tmp_path / "file", CONFIG)
    assert "\n" not in str(caught.value)
