"""The lines that stand in for a bar where stderr is no terminal."""

import io
import time
from collections.abc import Callable

import pytest
from rich.console import Console
from tfp_smvi_cli.features import FeaturesProgress
from tfp_smvi_cli.progress.evaluation import BlockReporter


@pytest.fixture
def sleep(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets the clock, which stands still, go on by some seconds."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def go_on(seconds: float) -> None:
        now[0] += seconds

    return go_on


def test_blocks_are_a_line_every_ten_seconds(sleep: Callable[[float], None]) -> None:
    output = io.StringIO()
    with BlockReporter(Console(file=output), "evaluating") as reporter:
        reporter.begin(5, 200.0, 40.0)
        for seconds in (4.0, 8.0, 4.0, 400.0):
            sleep(seconds)
            reporter.advance(30.0)
    assert output.getvalue().splitlines() == [
        "20 % of the work is done already.",
        "50 %, about 0:20 left",  # 60 in 12 seconds, and 100 are left
        "80 %, about 2:19 left",  # 120 in 416 seconds, and 40 are left
    ]


def test_features_are_a_line_every_ten_seconds(sleep: Callable[[float], None]) -> None:
    output = io.StringIO()
    with FeaturesProgress(Console(file=output)) as reporter:
        reporter.begin(100, 10)
        for _ in range(4):
            sleep(6.0)
            reporter.advance(18)
    assert output.getvalue().splitlines() == [
        "Going on after 10 of 100 images.",
        "46 of 100 images, 3 images/s",
        "82 of 100 images, 3 images/s",
    ]
