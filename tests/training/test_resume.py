"""An interrupted run ends with the bits of one that was not.

Faults of the process and of the machine are in test_faults.py.
"""

import os
import shutil
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support import runs
from tests.support.runs import (
    CONFIG,
    EPOCHS,
    STEPS_PER_EPOCH,
    Recorder,
    assert_same_run,
    config,
    newest,
)
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import Dataset
from tfp_smvi.runs.directory import read_run
from tfp_smvi.runs.loading import load_run
from tfp_smvi.training import running, schedule
from tfp_smvi.training.loop import fit
from tfp_smvi.training.results import FitResult, TrainingInterrupted


class KilledError(BaseException):
    """Stands for a death in the middle."""


def die() -> None:
    raise KilledError


def metrics(result: FitResult) -> list[dict[str, Any]]:
    """The history without the times."""
    return [
        {key: value for key, value in record.to_json().items() if key != "seconds"}
        for record in result.history
    ]


@pytest.fixture
def step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets every call take one step, so that a run can be stopped after any."""
    monkeypatch.setattr(schedule, "CALL_SECONDS", 0.0)


def test_same_configuration_gives_the_same_bits_and_another_seed_others(
    digits: Dataset, trained: FitResult, tmp_path: Path
) -> None:
    again = fit(CONFIG, digits, tmp_path / "again")
    assert_same_run(again.run_dir, trained.run_dir)
    other = fit(config(seed=1, epochs=1), digits, tmp_path / "other")
    assert other.history[0].test.elbo != trained.history[0].test.elbo


@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_bits_do_not_depend_on_how_steps_are_grouped_into_calls(
    digits: Dataset,
    trained: FitResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
) -> None:
    monkeypatch.setattr(schedule, "CALL_SECONDS", seconds)
    recorder = Recorder()
    result = fit(CONFIG, digits, tmp_path / "run", reporter=recorder)
    one_by_one = list(range(1, EPOCHS * STEPS_PER_EPOCH + 1))
    assert (recorder.steps == one_by_one) == (seconds == 0.0)
    assert len(recorder.steps) >= EPOCHS
    assert_same_run(result.run_dir, trained.run_dir)


def send(number: int) -> None:
    """Sends this process a signal; a terminal that closes sends two of them."""
    for _ in range(2 if number == signal.SIGHUP else 1):
        os.kill(os.getpid(), number)


@pytest.mark.slow
@pytest.mark.usefixtures("step_by_step")
def test_signal_in_the_middle_of_an_epoch_saves_that_step_and_the_run_goes_on_from_it(
    digits: Dataset, trained: FitResult, tmp_path: Path
) -> None:
    run_dir, steps = (
        tmp_path / "run",
        (STEPS_PER_EPOCH + 17, 2 * STEPS_PER_EPOCH, 3 * STEPS_PER_EPOCH + 1),
    )
    for step, number in zip(steps, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP), strict=True):
        before = signal.getsignal(number)
        recorder = Recorder(step, partial(send, number))
        with pytest.raises(TrainingInterrupted) as stop:
            fit(CONFIG, digits, run_dir, reporter=recorder)
        assert (stop.value.signum, stop.value.step) == (number, step)
        assert newest(run_dir).step == step
        assert signal.getsignal(number) is before
    recorder = Recorder()
    fit(CONFIG, digits, run_dir, reporter=recorder)
    assert recorder.begins == [steps[-1]]
    assert recorder.warnings == []
    assert_same_run(run_dir, trained.run_dir)


@pytest.mark.slow
@pytest.mark.usefixtures("step_by_step")
def test_death_in_the_middle_of_an_epoch_costs_no_more_than_the_time_since_the_last_checkpoint(
    digits: Dataset, trained: FitResult, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    # Saves after every step.
    with pytest.raises(KilledError):
        fit(
            CONFIG,
            digits,
            run_dir,
            checkpoint_minutes=1e-9,
            reporter=Recorder(STEPS_PER_EPOCH + 5, die),
        )
    assert newest(run_dir).step == STEPS_PER_EPOCH + 4
    # Saves at the end of an epoch.
    with pytest.raises(KilledError):
        fit(CONFIG, digits, run_dir, reporter=Recorder(3 * STEPS_PER_EPOCH + 9, die))
    assert newest(run_dir).step == 3 * STEPS_PER_EPOCH
    fit(CONFIG, digits, run_dir)
    assert_same_run(run_dir, trained.run_dir)


def test_signal_at_the_end_of_the_last_epoch_is_not_lost(
    digits: Dataset, trained: FitResult, tmp_path: Path
) -> None:
    """A program that trains one model after the other must receive it."""
    end = EPOCHS * STEPS_PER_EPOCH
    recorder = Recorder(end, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(TrainingInterrupted) as stop:
        fit(CONFIG, digits, tmp_path / "run", reporter=recorder)
    assert stop.value.step == end
    assert metrics(fit(CONFIG, digits, tmp_path / "run")) == metrics(trained)
    assert_same_run(tmp_path / "run", trained.run_dir)


def test_damaged_newest_checkpoint_costs_one_interval_and_a_warning(
    digits: Dataset, trained: FitResult, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(trained.run_dir, run_dir)
    path = run_dir / "checkpoints" / f"step-{EPOCHS * STEPS_PER_EPOCH:010d}.npz"
    path.write_bytes(path.read_bytes()[:-1000])
    recorder = Recorder()
    result = fit(CONFIG, digits, run_dir, reporter=recorder)
    assert recorder.begins == [(EPOCHS - 1) * STEPS_PER_EPOCH]
    assert len(recorder.warnings) == 1
    assert "damaged" in recorder.warnings[0]
    assert result.warnings == read_run(run_dir).warnings == tuple(recorder.warnings)
    assert recorder.epochs == [EPOCHS]
    assert_same_run(run_dir, trained.run_dir)


def test_all_checkpoints_damaged_is_an_error_and_changes_nothing(
    digits: Dataset, trained: FitResult, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(trained.run_dir, run_dir)
    for path in (run_dir / "checkpoints").iterdir():
        path.write_bytes(b"garbled")
    with pytest.raises(SMVIError, match="none of the 2 checkpoints"):
        fit(CONFIG, digits, run_dir)
    assert runs.records(run_dir) == runs.records(trained.run_dir)
    assert len(list((run_dir / "checkpoints").iterdir())) == 2


def test_checkpoint_with_other_arrays_is_refused(
    digits: Dataset, trained: FitResult, tmp_path: Path
) -> None:
    """Such as that of another version of the program."""
    from tfp_smvi.runs.checkpoint import save_checkpoint

    run_dir = tmp_path / "run"
    shutil.copytree(trained.run_dir, run_dir)
    checkpoint = newest(run_dir)
    name, _ = checkpoint.arrays.popitem()
    save_checkpoint(run_dir / "checkpoints", checkpoint.step, checkpoint.arrays, checkpoint.state)
    with pytest.raises(SMVIError, match=f"does not fit its config.json .{name} is missing"):
        fit(CONFIG, digits, run_dir)


def test_finished_run_takes_more_epochs_as_if_they_had_been_asked_for_at_once(
    digits: Dataset, trained: FitResult, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    fit(config(epochs=2), digits, run_dir)
    recorder = Recorder()
    done = fit(config(epochs=2), digits, run_dir, reporter=recorder)
    assert (recorder.begins, recorder.steps, recorder.epochs) == ([2 * STEPS_PER_EPOCH], [], [])
    assert metrics(done) == metrics(trained)[:2]
    fit(CONFIG, digits, run_dir)
    assert_same_run(run_dir, trained.run_dir)
    assert load_run(run_dir).config == load_run(trained.run_dir).config


@pytest.mark.slow
def test_run_ends_at_any_number_of_epochs_that_it_has_not_passed(
    digits: Dataset, trained: FitResult, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(KilledError):
        fit(config(epochs=5000), digits, run_dir, reporter=Recorder(2 * STEPS_PER_EPOCH + 5, die))
    with pytest.raises(KilledError):  # in the third epoch, of which a checkpoint is written now
        fit(
            CONFIG,
            digits,
            run_dir,
            checkpoint_minutes=1e-9,
            reporter=Recorder(2 * STEPS_PER_EPOCH + 5, die),
        )
    before = (run_dir / "config.json").read_bytes()
    with pytest.raises(SMVIError, match="give at least 3") as caught:
        fit(config(epochs=2), digits, run_dir)
    assert (caught.value.field, caught.value.value) == ("epochs", 2)
    assert (run_dir / "config.json").read_bytes() == before
    fit(CONFIG, digits, run_dir)
    assert_same_run(run_dir, trained.run_dir)


@pytest.mark.slow
def test_fresh_starts_over(digits: Dataset, trained: FitResult, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    fit(config(lam=2.0, epochs=1), digits, run_dir)
    with pytest.raises(SMVIError, match=r"train.lam: 2.0 here, 0.5 given"):
        fit(CONFIG, digits, run_dir)
    fit(CONFIG, digits, run_dir, fresh=True)
    assert_same_run(run_dir, trained.run_dir)


def test_fit_outside_of_the_main_thread_gives_the_same_bits(
    digits: Dataset, trained: FitResult, tmp_path: Path
) -> None:
    """Only the main thread can handle signals; a notebook's or a server's worker trains without."""
    thread = threading.Thread(target=fit, args=(CONFIG, digits, tmp_path / "run"))
    thread.start()
    thread.join()
    assert_same_run(tmp_path / "run", trained.run_dir)


@pytest.mark.slow
def test_kill_between_the_last_step_of_an_epoch_and_its_record_loses_no_record(
    trained: FitResult, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint of an epoch's last step without its record would end the epoch unrecorded."""
    with monkeypatch.context() as patch:
        patch.setattr(running.Run, "_finish_epoch", lambda *arguments: die())
        with pytest.raises(KilledError):
            fit(CONFIG, digits, tmp_path / "run", checkpoint_minutes=1e-9)
    result = fit(CONFIG, digits, tmp_path / "run")
    assert metrics(result) == metrics(trained)
    assert_same_run(tmp_path / "run", trained.run_dir)


@pytest.mark.slow
def test_xla_trains_and_resumes_to_the_same_bits(
    digits: Dataset, trained: FitResult, tmp_path: Path
) -> None:
    """The second run starts from what a death in the second epoch of the first would leave."""
    settings = config(xla="on")
    copy = partial(shutil.copytree, tmp_path / "one", tmp_path / "two")
    one = fit(settings, digits, tmp_path / "one", reporter=Recorder(STEPS_PER_EPOCH + 1, copy))
    # Other noise, the same quality: the ELBOs of two seeds differ by about 0.1.
    expected = trained.history[-1].test.elbo
    assert one.history[-1].test.elbo == pytest.approx(expected, rel=0.03)
    assert newest(tmp_path / "two").step == STEPS_PER_EPOCH
    fit(settings, digits, tmp_path / "two")
    assert_same_run(tmp_path / "one", tmp_path / "two")
