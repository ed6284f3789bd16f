"""Progress: bars at any width of a terminal, and lines in their place if stderr is no terminal."""

import io
import re
import time
from collections.abc import Callable

import pytest
from rich.console import Console
from tfp_smvi_cli.features import FeaturesProgress
from tfp_smvi_cli.progress.evaluation import BlockReporter
from tfp_smvi_cli.progress.sweep import LEGEND, SweepReporter, format_runs
from tfp_smvi_cli.progress.training import TrainingReporter

from tfp_smvi.runs.records import EpochRecord, TrainMetrics
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.stages import STAGES
from tfp_smvi.training.reporter import TrainingProgress


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
        "Going on after 10 of 100 examples.",
        "46 of 100 examples, 3 examples/s",
        "82 of 100 examples, 3 examples/s",
    ]


# On a terminal.


def frame(console: Console) -> list[str]:
    """The lines that a console's file has, without codes; the last ones are the last frame."""
    assert isinstance(console.file, io.StringIO)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    return [line.rstrip() for line in text.replace("\r", "\n").splitlines()]


def terminal(width: int) -> Console:
    """A terminal as the commands use it."""
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        width=width,
        height=12,
        soft_wrap=True,
        no_color=True,
    )


METRICS = TrainMetrics(-128.39, -119.38, -90.0, 25.0, 18.02, 40.0)


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_bars_keep_their_amount_and_the_time_left_at_any_width(width: int) -> None:
    console = terminal(width)
    with TrainingReporter(console) as training:
        training.begin(300, 57_000, 468)
        training.progress(TrainingProgress(57_400, 121, 123.4, METRICS, 0.5))
    lines = frame(console)
    (line,) = {line for line in lines if "57400" in line}
    assert re.fullmatch(r"training ━\S* *━* +57400/140400 ETA [-\d:]+", line.replace("╸", "━"))
    assert len(line) <= width
    # The metrics are below it, and whole.
    words = " ".join(lines[lines.index(line) + 1 :])
    values = "lam 0.5, ELBO -119.38, D_SM 18.02, objective -128.39"
    assert f"epoch 122/300, 123.4 steps/s, {values}" in words
    weighted = TrainingReporter(console, "weighted")._values(METRICS)
    assert weighted == "ELBO -119.38, D_w 18.02, objective -128.39"
    for reporter, amount in (
        (BlockReporter(terminal(width), "classifying"), "50 %"),
        (FeaturesProgress(terminal(width)), "50000/100000"),
    ):
        with reporter:
            if isinstance(reporter, BlockReporter):
                reporter.begin(2, 2.0, 0.0)
                reporter.advance(1.0)
            else:
                reporter.begin(100_000, 0)
                reporter.advance(50_000)
        lines = frame(reporter._console)
        (line,) = {line for line in lines if amount in line}
        assert re.search(rf"{amount} ETA [-\d:]+$", line)
        assert len(line) <= width


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_the_line_of_an_epoch_has_no_torn_number(width: int) -> None:
    console = terminal(width)
    record = EpochRecord(122, 57_096, METRICS, METRICS, 18.2, 0.5)
    reporter = TrainingReporter(console)
    reporter.epoch(record)
    lines = frame(console)
    assert len(lines) == {40: 5, 160: 1}.get(width, 3)
    assert max(map(len, lines)) <= width
    assert " ".join(lines).split().count("-128.39") == 2
    assert " ".join(lines).split().count("objective") == 2


def test_a_warning_breaks_at_words_and_leaves_a_path_whole() -> None:
    console, path = terminal(20), "/a/path/that-is/longer/than/a/line"
    TrainingReporter(console).warn(f"the log in {path} has no checkpoint")
    assert frame(console) == ["Warning: the log in", path, "has no checkpoint"]


def test_a_table_of_a_sweep_has_whole_cells_and_always_says_what_is_going_on() -> None:
    """In a terminal of 40 columns and 12 lines, with more runs and results than fit."""
    console = terminal(40)
    lams = [0.001 * number for number in range(20)]
    entries = [
        Entry(lam, 0, f"lam{lam:g}-seed0", status="pending", seconds=dict.fromkeys(STAGES, 0.0))
        for lam in lams
    ]
    with SweepReporter(console) as reporter:
        reporter.begin(entries, tuple(STAGES), 1)
        reporter.update(entries[17].changed(status="running"))
        reporter.stage(entries[17], "train")
        reporter.progress(entries[17], 0.25, "epoch 3/10")
    lines = frame(console)
    last = lines[
        len(lines) - lines[::-1].index(next(x for x in lines[::-1] if "status" in x)) - 1 :
    ]
    assert last[0].split() == ["lam", "seed", "status", "ELBO", "time"]
    assert [line.split()[:3] for line in last if "running" in line] == [["0.017", "0", "running"]]
    assert "lam0.017-seed0: train 25 %, epoch 3/10" in last
    assert "0 of 20 runs done (14 not shown)" in last
    assert "no room for: log-lik., gap" in last
    assert len(last) <= 12


@pytest.mark.parametrize(("follows", "warnings"), [(False, ("lam grows",)), (True, ())])
def test_the_table_marks_warnings_of_a_training_and_stays_unless_another_follows(
    follows: bool, warnings: tuple[str, ...]
) -> None:
    console = terminal(80)
    entries = [
        Entry(lam, 0, f"lam{lam:g}-seed0", seconds=dict.fromkeys(STAGES, 0.0), warnings=lines)
        for lam, lines in ((0.1, ()), (0.5, warnings))
    ]
    assert (LEGEND in format_runs(entries)) == bool(warnings)
    grown = entries[1].changed(lam_reached=0.03125)
    assert ("0.5 (0.031)*" in format_runs([grown])) == bool(warnings)
    with SweepReporter(console, table_follows=follows) as reporter:
        reporter.begin(entries, tuple(STAGES), 1)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("0.5*" in text, LEGEND in text) == (bool(warnings),) * 2
    assert "0.1*" not in text
    # After it comes the code that shows the cursor, or those that delete the table before.
    assert text.removesuffix("\x1b[?25h").rstrip().endswith("0 of 2 runs done") != follows
