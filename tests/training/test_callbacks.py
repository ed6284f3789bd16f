"""Callbacks of the user's: what they receive, what their errors do, and the bar."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.errors import refused
from tests.support.runs import CONFIG, STEPS_PER_EPOCH, Recorder, assert_same_run, config, newest
from tfp_smvi import Callback, EpochRecord, TrainingProgress
from tfp_smvi.data import Dataset
from tfp_smvi.training import schedule
from tfp_smvi.training.callbacks import call_reporters, saving_at_errors
from tfp_smvi.training.loop import fit
from tfp_smvi.training.reporter import TrainingReporter
from tfp_smvi.training.results import FitResult


class Epochs(Callback):
    """Overrides one method."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def epoch(self, record: EpochRecord) -> None:
        self.epochs.append(record.epoch)


class Failing(Callback):
    """Raises an error in an epoch, or after a step."""

    def __init__(self, error: BaseException, *, epoch: int = -1, step: int = 10**9) -> None:
        self.error, self.at_epoch, self.at_step = error, epoch, step

    def epoch(self, record: EpochRecord) -> None:
        if record.epoch == self.at_epoch:
            raise self.error

    def progress(self, progress: TrainingProgress) -> None:
        if progress.step >= self.at_step:
            raise self.error


@pytest.mark.slow
# The second is one that `fit` explains if it is its own.
@pytest.mark.parametrize(
    "error",
    [ValueError("mine"), ConnectionRefusedError(111, "refused"), SystemExit(3), StopIteration(1)],
)
def test_an_error_of_a_callback_leaves_fit_as_it_is_and_loses_no_step(
    error: BaseException,
    digits: Dataset,
    trained: FitResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schedule, "CALL_SECONDS", 0.0)
    run_dir, step = tmp_path / "run", STEPS_PER_EPOCH + 5
    with pytest.raises(type(error)) as raised:
        fit(CONFIG, digits, run_dir, reporter=Failing(error, step=step))
    assert raised.value is error
    assert error.__notes__ == [
        f"A callback raised this. Step {step} of the training is saved in {run_dir}; the same call "
        "continues it."
    ]
    assert newest(run_dir).step == step
    with pytest.raises(type(error)):
        fit(CONFIG, digits, run_dir, reporter=Failing(error, epoch=3))
    assert newest(run_dir).step == 3 * STEPS_PER_EPOCH
    fit(CONFIG, digits, run_dir)
    assert_same_run(run_dir, trained.run_dir)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, StopIteration])
def test_any_exception_leaves_as_it_is(kind: type[BaseException], tmp_path: Path) -> None:
    error = kind("mine")
    callback, record = Failing(error, epoch=1), EpochRecord(1, 1, *[None] * 3)  # type: ignore[arg-type]

    def work(joined: TrainingReporter, _: object) -> None:
        with saving_at_errors(lambda: 7, tmp_path):
            joined.epoch(record)

    with pytest.raises(kind) as raised:
        call_reporters(work, callback)
    assert raised.value is error
    assert "Step 7 of the training is saved" in error.__notes__[0]


def test_an_error_at_the_begin_has_a_note(digits: Dataset, tmp_path: Path) -> None:
    class Refusing(Callback):
        def begin(self, num_epochs: int, step: int, steps_per_epoch: int) -> None:
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as raised:
        fit(config(epochs=1), digits, tmp_path / "run", reporter=Refusing())
    assert "Step 0 of the training is saved" in raised.value.__notes__[0]


@pytest.mark.parametrize("reporter", [5, ["x"], Callback, [Callback(), object()]])
def test_what_is_no_reporter_is_refused(reporter: Any, digits: Dataset, tmp_path: Path) -> None:
    with refused("reporter"):
        fit(config(epochs=1), digits, tmp_path / "run", reporter=reporter)
    assert not [*tmp_path.iterdir()]


def test_several_callbacks_are_called_in_their_order_and_a_bar_is_shown(
    digits: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder, epochs = Recorder(), Epochs()
    short = config(epochs=1, lam=0.0)
    result = fit(short, digits, tmp_path / "run", reporter=[recorder, epochs], progress=True)
    assert epochs.epochs == recorder.epochs == [1]
    shown = capsys.readouterr().err
    elbo = result.history[-1].test.elbo
    assert f"epoch 1/1, test ELBO {elbo:.2f}" in shown
    assert f"{STEPS_PER_EPOCH}/{STEPS_PER_EPOCH}" in shown


def test_an_error_keeps_its_own_context() -> None:
    error = ValueError("mine")
    record = EpochRecord(1, 1, *[None] * 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mine"):
        call_reporters(lambda joined, warn: joined.epoch(record), Failing(error, epoch=1))
    assert error.__context__ is error.__cause__ is None


def test_warnings_go_to_those_who_receive_them_or_to_python() -> None:
    recorder = Recorder()

    def heard(joined: TrainingReporter, warn: Callable[[str], None] | None) -> None:
        assert warn is not None
        warn("a")

    call_reporters(heard, [Callback(), recorder])
    assert recorder.warnings == ["a"]

    def unheard(joined: TrainingReporter, warn: Callable[[str], None] | None) -> None:
        assert warn is None
        joined.warn("not twice")

    for deaf in (None, Epochs(), [Epochs()], []):
        with warnings.catch_warnings():
            call_reporters(unheard, deaf)
