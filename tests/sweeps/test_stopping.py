"""A sweep that is stopped by signals or killed goes on where it was."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest

from tests.support.forked import ForkedProcess, fork_children, start_forked
from tests.support.kills import RANDOM, RandomKills
from tests.support.small_sweep import (
    BEGIN,
    CONFIG,
    DONE,
    Recorder,
    WholeSweep,
    assert_same_sweep,
    entries,
    fake_stage,
    read,
    result_times,
)
from tfp_smvi.sweeps.driver import SweepInterrupted, sweep
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.stages import STAGES

# Those of the whole sweep but the one that diverges.
LAMS = (0.0, 0.5)


def start(sweep_dir: Path) -> ForkedProcess:
    """Starts the command line in a process group of its own, on LAMS, one after the other."""
    file = sweep_dir.with_suffix(".json")
    grid = {"lams": LAMS, "seeds": CONFIG.seeds}
    file.write_text(json.dumps({"config": CONFIG.settings(), **grid}))
    # One thread, as in the whole sweep.
    options = ("--sweep-dir", str(sweep_dir), "--threads", "1")
    return start_forked("sweep", "--config", str(file), *options, before=begin_a_group)


def begin_a_group() -> None:
    os.setsid()
    fork_children()


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

    def stage(self, entry: Entry, stage: str) -> None:
        self._action()


def stop(number: int, times: int) -> None:
    for _ in range(times):
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("rest", "times"), [("cat > /dev/null; exit 143", 1), ("exec sleep 600", 2)]
)
def test_a_signal_stops_the_runs_in_order_and_a_second_one_at_once(
    number: int, rest: str, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first script ends when its stdin is closed, the second ignores it."""
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


@pytest.mark.kills
def test_a_sweep_that_is_stopped_and_killed_ends_with_the_results_of_one_that_is_not(
    whole_sweep: WholeSweep, tmp_path: Path, random_kills: RandomKills
) -> None:
    """The end of the terminal, of memory and of power, at random moments within each stage.

    SIGINT and SIGTERM to the leading process have a test above.
    """
    seconds = entries(whole_sweep.summary)[DONE[0]].seconds
    while not random_kills.done:
        sweep_dir = tmp_path / f"sweep-{random_kills.kills}"
        # A whole sweep takes time: most starts end in a kill.
        hung_up, alone = RANDOM.sample([*STAGES], 2)
        for stage in STAGES:
            number = signal.SIGHUP if stage == hung_up else signal.SIGKILL
            wait = RANDOM.uniform(0.0, 0.3) * seconds[stage]
            stop_in_stage(sweep_dir, number, stage, wait, all_of_them=stage != alone)
            random_kills.kills += number == signal.SIGKILL
            before = result_times(sweep_dir)
            finished = {path for path in before if path.parts[0] in DONE}
        process = start(sweep_dir)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
        after = result_times(sweep_dir)
        random_kills.losses += sum(after[path] != before[path] for path in finished)
        random_kills.check()
        assert_same_sweep(sweep_dir, whole_sweep)


def stop_in_stage(
    sweep_dir: Path, number: int, stage: str, wait: float, *, all_of_them: bool
) -> None:
    """Starts a sweep and sends it, or all of its processes, a signal within a stage."""
    process = start(sweep_dir)
    process.wait_for(f"{DONE[0]}: {stage}", 2)
    assert process.returncode is None
    time.sleep(wait)
    (os.killpg if all_of_them else os.kill)(process.pid, number)
    _, errors = process.communicate()
    assert processes_end(sweep_dir)
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number
        assert errors.endswith("Run the same command again to continue.\n")
        assert "running" not in {entry["status"] for entry in read(sweep_dir)["runs"]}
