"""The bar of a training, in a notebook's form."""

import dataclasses
from typing import Any

import pytest
from tqdm.notebook import tqdm

from tfp_smvi.runs.records import EpochRecord
from tfp_smvi.training import bar as module
from tfp_smvi.training.bar import ProgressBar
from tfp_smvi.training.callbacks import call_reporters
from tfp_smvi.training.reporter import TrainingReporter
from tfp_smvi.training.results import FitResult


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The bars that were made, each as a notebook has it."""
    made = []

    def make(**options: Any) -> Any:
        made.append(tqdm(**options, display=False))
        return made[-1]

    monkeypatch.setattr(module, "tqdm", make)
    return made


@pytest.fixture
def record(trained: FitResult) -> EpochRecord:
    return dataclasses.replace(trained.history[0], epoch=2, step=20)


def widget(bar: Any) -> Any:
    return bar.container.children[1]


def test_a_training_that_stops_early_completes_its_bar(
    bars: list[Any], record: EpochRecord
) -> None:
    """Catches a bar that a notebook shows in red, as of an error."""

    def work(reporter: TrainingReporter, _: object) -> None:
        reporter.begin(num_epochs=5, step=0, steps_per_epoch=10)
        reporter.epoch(record)

    call_reporters(work, None, progress=True)
    (bar,) = bars
    assert (bar.n, bar.total, widget(bar).value, widget(bar).max) == (20, 20, 20, 20)
    assert widget(bar).bar_style == "success"
    text = bar.container.children[2].value.replace("\u2007", " ")  # a space as wide as a digit
    assert "20/20 [" in text
    assert "epoch 2/5, test ELBO -" in text


def test_a_training_that_fails_leaves_its_bar_in_red(bars: list[Any], record: EpochRecord) -> None:
    def work(reporter: TrainingReporter, _: object) -> None:
        reporter.begin(num_epochs=5, step=0, steps_per_epoch=10)
        reporter.epoch(record)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_reporters(work, None, progress=True)
    (bar,) = bars
    assert (bar.n, bar.total) == (20, 50)
    assert widget(bar).bar_style == "danger"


def test_a_training_that_ends_before_it_begins_has_no_bar(bars: list[Any]) -> None:
    call_reporters(lambda reporter, warn: None, None, progress=True)
    ProgressBar().close()
    assert bars == []
