"""The progress of a sweep: a table on a terminal, a line now and then elsewhere; on stderr."""

import datetime
import math
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tfp_smvi.classification.results import ENCODER
from tfp_smvi.core.errors import name_fields
from tfp_smvi.core.quantities import QUANTITIES
from tfp_smvi.core.text import align, format_number
from tfp_smvi.sweeps.entries import Entry, format_lam

from ..options import option_name
from .base import print_note, stderr_console
from .pace import Pace

__all__ = ["SweepReporter", "format_runs", "make_sweep_reporter"]

# The time between two lines about the progress of a run if stderr is no terminal.
SECONDS_PER_LINE = 60.0
# The quantities with a column, and all columns before those of the accuracies.
COLUMNS = ("elbo", "log_likelihood", "gap")
MARK = "*"
LEGEND = f"{MARK} The training has warnings; a lam in brackets is the one that it reached."
TITLES = ("lam", "seed", "status", *(QUANTITIES[name].short for name in COLUMNS))


def make_sweep_reporter(*, table_follows: bool) -> "SweepReporter":
    """Makes the reporter for this process's stderr.

    Args:
        table_follows: whether the table is printed on the same terminal when all is done.
    """
    return SweepReporter(stderr_console(), table_follows=table_follows)


def format_runs(entries: Sequence[Entry]) -> str:
    """Lays the results out in columns that read the same on a terminal and in a pipe."""
    columns = _accuracies(entries)
    rows = [[*_cells(entry, columns), _time(entry)] for entry in entries]
    legend = [LEGEND] if any(entry.warnings for entry in entries) else []
    return "\n".join([*align([_titles(columns), *rows]), *legend])


class SweepReporter:
    """Shows the progress of a sweep; a `tfp_smvi.sweeps.reporters.SweepReporter`."""

    def __init__(self, console: Console, *, table_follows: bool = False) -> None:
        """Shows it on a console."""
        self._console, self._table_follows = console, table_follows
        self._entries: dict[str, Entry] = {}
        self._pace = Pace((), 1)
        self._texts: dict[str, str] = {}  # current activity, by run
        self._next_line: dict[str, float] = {}
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=2)

    def __enter__(self) -> Self:
        """Shows the table on a terminal."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        """Leaves the table as it is, unless it is empty or follows."""
        self._live.transient = not self._entries or (self._table_follows and kind is None)
        self._live.stop()

    def begin(self, entries: Sequence[Entry], stages: Sequence[str], jobs: int) -> None:
        """Reports what is done already."""
        self._entries, self._pace = {e.run_dir: e for e in entries}, Pace(stages, jobs)
        for entry in entries:
            self._pace.update(entry)
        done = sum(entry.done for entry in entries)
        if done:
            self.note(f"{done} of {len(entries)} runs are done already.")

    def stage(self, entry: Entry, stage: str) -> None:
        """Shows that a stage begins."""
        run = entry.run_dir
        self._pace.begin(run, stage)
        self._texts[run] = stage
        self._next_line[run] = time.monotonic() + SECONDS_PER_LINE
        self._note_in_pipe(f"{run}: {stage}")

    def progress(self, entry: Entry, fraction: float, text: str) -> None:
        """Shows the fraction of the stage that is done."""
        run = entry.run_dir
        stage = self._pace.progress(run, fraction)
        self._texts[run] = f"{stage} {100 * fraction:.0f} %" + (f", {text}" if text else "")
        now = time.monotonic()
        if now >= self._next_line[run]:
            self._next_line[run] = now + SECONDS_PER_LINE
            self._note_in_pipe(f"{run}: {self._texts[run]}; {self._describe_rest()}")

    def update(self, entry: Entry) -> None:
        """Shows new results."""
        self._entries[entry.run_dir] = entry
        self._pace.update(entry)
        if entry.done:
            columns = _accuracies([entry])
            pairs = zip(_titles(columns)[3:-1], _cells(entry, columns)[3:], strict=True)
            results = ", ".join(f"{title} {cell}" for title, cell in pairs)
            self._note_in_pipe(f"{entry.run_dir}: done; {results}; {self._describe_rest()}")
        elif entry.status == "failed":
            self.note(f"{entry.run_dir}: failed: {entry.error}")

    def note(self, message: str) -> None:
        """Prints one line."""
        print_note(self._console, message)

    def warn(self, message: str) -> None:
        """Prints one line that needs attention."""
        self.note(f"Warning: {name_fields(message, option_name)}")

    def _note_in_pipe(self, message: str) -> None:
        if not self._console.is_terminal:
            self.note(message)

    def _describe_rest(self) -> str:
        """Such as "3 of 8 runs done, about 1:10:00 left"."""
        entries = [*self._entries.values()]
        done = sum(entry.done for entry in entries)
        seconds, complete = self._pace.left(entries)
        about = "about" if complete else "more than"
        left = f", {about} {_duration(seconds)} left" if seconds else ""
        return f"{done} of {len(entries)} runs done{left}"

    def _render(self) -> RenderableType:
        """The table, as far as the terminal has room for it, and what is going on."""
        entries = [*self._entries.values()]
        if not entries:
            return Text("Checking the data")
        running = [entry.run_dir for entry in entries if entry.status == "running"]
        lines = [f"{run}: {self._texts.get(run, 'starting')}" for run in running]
        lines.append(self._describe_rest())
        width, height = self._console.size
        if any(entry.warnings for entry in entries):
            lines.insert(0, LEGEND)
        # Besides the rows: the titles, two lines about hidden columns and that of the cursor.
        room = height - sum(len(textwrap.wrap(line, width)) for line in lines) - 4
        shown = _most_telling(entries, max(1, room))
        if len(shown) < len(entries):
            lines[-1] += f" ({len(entries) - len(shown)} not shown)"
        columns = _accuracies(entries)
        rows = [
            [*_cells(entry, columns), _time(entry, self._pace.elapsed(entry.run_dir))]
            for entry in shown
        ]
        titles, rows, hidden = _fitting(_titles(columns), rows, width)
        if hidden:
            lines.append(f"no room for: {', '.join(hidden)}")
        table = Table(box=None, pad_edge=False)
        for title in titles:
            table.add_column(title, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        return Group(table, Text("\n".join(lines), overflow="fold", no_wrap=False))


def _most_telling(entries: Sequence[Entry], count: int) -> list[Entry]:
    """As many runs as there is room for, in their order: those at work first, pending ones last."""
    order = ("running", "failed", "done", "pending")
    ranked = sorted(entries, key=lambda entry: order.index(entry.status))[:count]
    return [entry for entry in entries if entry in ranked]


def _fitting(
    titles: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> tuple[list[str], list[list[str]], list[str]]:
    """Leaves out the columns that a line has no room for: those of results, the last ones first.

    Returns:
        The titles and rows that fit, and the titles that do not.
    """
    table = [list(column) for column in zip(titles, *rows, strict=True)]
    hidden: list[str] = []
    while sum(2 + max(map(len, column)) for column in table) - 2 > width and len(table) > 4:
        hidden.insert(0, table.pop(-2)[0])  # the last one is the time
    kept_titles, *kept_rows = (list(line) for line in zip(*table, strict=True))
    return kept_titles, kept_rows, hidden


def _titles(columns: Mapping[str, Sequence[int]]) -> list[str]:
    kernels = [f"{kernel} {'/'.join(map(str, sizes))}" for kernel, sizes in columns.items()]
    return [*TITLES, *kernels, "time"]


def _cells(entry: Entry, columns: Mapping[str, Sequence[int]]) -> list[str]:
    """The cells of a run except the time; of the training data if there are no test data."""
    percents = _encoder_percents(entry)
    accuracies = [
        "/".join(percents.get((kernel, size), "") for size in sizes) if percents else ""
        for kernel, sizes in columns.items()
    ]
    mark = MARK if entry.warnings else ""
    if entry.lam_reached not in (None, entry.lam):  # also of one that follows a target
        mark = f" ({entry.lam_reached:.2g}){mark}"
    target = "" if entry.target_gap is None else "gap "
    name = [target + format_lam(entry.level) + mark, str(entry.seed), entry.status]
    return [*name, *_likelihoods(entry), *accuracies]


def _likelihoods(entry: Entry) -> list[str]:
    """The cells of COLUMNS; the gap has its standard error."""
    splits = entry.evaluation.splits if entry.evaluation else {}
    summary = splits.get("test") or splits.get("train")
    if summary is None:
        return [""] * len(COLUMNS)
    estimates = [getattr(summary, name) for name in COLUMNS]
    *means, gap = (format_number(estimate.mean) for estimate in estimates)
    error = estimates[-1].standard_error
    return [*means, gap if math.isnan(error) else f"{gap} +/- {error:.2f}"]


def _accuracies(entries: Sequence[Entry]) -> dict[str, list[int]]:
    """The numbers of labels, by kernel: a column for each kernel."""
    columns: dict[str, list[int]] = {}
    keys = dict.fromkeys(key for entry in entries for key in _encoder_percents(entry))
    for kernel, size in keys:
        columns.setdefault(kernel, []).append(size)
    return columns


def _encoder_percents(entry: Entry) -> dict[tuple[str, int], str]:
    """The accuracies on the encoder's means, by kernel and number of labels."""
    results = entry.classification.results if entry.classification else ()
    return {
        (result.kernel, result.num_labels): f"{100 * result.mean:.1f}"
        for result in results
        if result.features == ENCODER
    }


def _time(entry: Entry, elapsed: float = 0.0) -> str:
    return _duration(sum(entry.seconds.values()) + elapsed)


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
