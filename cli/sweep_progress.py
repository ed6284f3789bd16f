"""What a user sees of a sweep: a table that grows on a terminal, a line now and then elsewhere; on stderr."""

import datetime
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from tfp_smvi.core.text import align, format_number

__all__ = ["SweepReporter", "format_runs", "make_sweep_reporter"]

Entry = Mapping[str, Any]
# Between two lines on the progress of a run where stderr is no terminal.
SECONDS_PER_LINE = 60.0


def make_sweep_reporter() -> "SweepReporter":
    """Makes the reporter for this process's stderr."""
    return SweepReporter(Console(stderr=True, highlight=False, soft_wrap=True))


def format_runs(entries: Sequence[Entry]) -> str:
    """Lays the results out in columns that read the same on a terminal and in a pipe."""
    columns = _accuracies(entries)
    return "\n".join(
        align([_titles(entries), *([*_cells(entry, columns), _time(entry)] for entry in entries)])
    )


class SweepReporter:
    """Shows the progress of a sweep; a `tfp_smvi.core.reporters.SweepReporter`."""

    def __init__(self, console: Console) -> None:
        """Shows it on a console."""
        self._console = console
        self._entries: Sequence[Entry] = ()
        self._pace = _Pace((), 1)
        self._texts: dict[str, str] = {}  # of a run: what goes on
        self._next_line: dict[str, float] = {}
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=2)

    def __enter__(self) -> Self:
        """Shows the table on a terminal."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Leaves the table as it is."""
        self._live.stop()

    def begin(self, entries: Sequence[Entry], stages: Sequence[str], jobs: int) -> None:
        """Says what there is to do."""
        self._entries, self._pace = entries, _Pace(stages, jobs)
        for entry in entries:
            self._pace.update(entry)
        done = sum(entry["status"] == "done" for entry in entries)
        if done:
            self.note(f"{done} of {len(entries)} runs are done already.")

    def stage(self, entry: Entry, stage: str) -> None:
        """Shows that a stage begins."""
        run = entry["run_dir"]
        self._pace.begin(run, stage)
        self._texts[run] = stage
        self._next_line[run] = time.monotonic() + SECONDS_PER_LINE
        self._note_in_pipe(f"{run}: {stage}")

    def progress(self, entry: Entry, fraction: float, text: str) -> None:
        """Shows how far it is."""
        run = entry["run_dir"]
        stage = self._pace.progress(run, fraction)
        self._texts[run] = f"{stage} {100 * fraction:.0f} %" + (f", {text}" if text else "")
        now = time.monotonic()
        if now >= self._next_line[run]:
            self._next_line[run] = now + SECONDS_PER_LINE
            self._note_in_pipe(f"{run}: {self._texts[run]}; {self._describe_rest()}")

    def update(self, entry: Entry) -> None:
        """Shows new results."""
        self._pace.update(entry)
        if entry["status"] == "done":
            pairs = zip(
                _titles([entry])[3:-1], _cells(entry, _accuracies([entry]))[3:], strict=True
            )
            results = ", ".join(f"{title} {cell}" for title, cell in pairs)
            self._note_in_pipe(f"{entry['run_dir']}: done; {results}; {self._describe_rest()}")
        elif entry["status"] == "failed":
            self.note(f"{entry['run_dir']}: failed: {entry['error']}")

    def note(self, message: str) -> None:
        """Prints one line."""
        self._console.print(message, markup=False)

    def warn(self, message: str) -> None:
        """Prints one line that needs attention."""
        self.note(f"Warning: {message}")

    def _note_in_pipe(self, message: str) -> None:
        if not self._console.is_terminal:
            self.note(message)

    def _describe_rest(self) -> str:
        """Such as "3 of 8 runs done, about 1:10:00 left"."""
        done = sum(entry["status"] == "done" for entry in self._entries)
        seconds, whole = self._pace.left(self._entries)
        about = "about" if whole else "more than"
        left = f", {about} {_duration(seconds)} left" if seconds else ""
        return f"{done} of {len(self._entries)} runs done{left}"

    def _render(self) -> RenderableType:
        running = [entry["run_dir"] for entry in self._entries if entry["status"] == "running"]
        lines = [f"{run}: {self._texts.get(run, 'starting')}" for run in running]
        caption = "\n".join([*lines, self._describe_rest()])
        table = Table(caption=caption, caption_justify="left", box=None, pad_edge=False)
        columns = _accuracies(self._entries)
        for title in _titles(self._entries):
            table.add_column(title, justify="right", overflow="fold")
        for entry in self._entries:
            elapsed = self._pace.elapsed(entry["run_dir"])
            table.add_row(*_cells(entry, columns), _time(entry, elapsed))
        return table


class _Pace:
    """Estimates the time that is left from the stages that are done or under way."""

    def __init__(self, stages: Sequence[str], jobs: int) -> None:
        self._stages, self._jobs = stages, jobs
        self._current: dict[str, _Current] = {}  # of a run
        self._seconds: dict[tuple[str, str], float] = {}  # that the whole stage of a run takes

    def begin(self, run: str, stage: str) -> None:
        self._current[run] = _Current(stage, time.monotonic())

    def progress(self, run: str, fraction: float) -> str:
        current, now = self._current[run], time.monotonic()
        if current.first is None:  # what an earlier process did took no time of this one
            current.first, current.since = fraction, now
        current.fraction = fraction
        if fraction > current.first:
            self._seconds[run, current.stage] = (now - current.since) / (fraction - current.first)
        return current.stage

    def update(self, entry: Entry) -> None:
        if entry["status"] != "running":
            self._current.pop(entry["run_dir"], None)
        if entry["status"] == "done":
            for stage in self._stages:
                self._seconds[entry["run_dir"], stage] = entry["seconds"][stage]

    def elapsed(self, run: str) -> float:
        current = self._current.get(run)
        return time.monotonic() - current.began if current else 0.0

    def left(self, entries: Sequence[Entry]) -> tuple[float, bool]:
        """The seconds for all runs, and whether each stage has been seen, so that none is left out."""
        stages = [stage for entry in entries for stage in self._rest(entry)]
        means = {stage: self._mean(stage) for stage, _ in stages}
        seconds = sum(share * (means[stage] or 0.0) for stage, share in stages) / self._jobs
        return seconds, None not in means.values()

    def _rest(self, entry: Entry) -> list[tuple[str, float]]:
        """The stages of a run that are not done, each with the fraction that is left."""
        if entry["status"] in ("done", "failed"):
            return []
        current = self._current.get(entry["run_dir"])
        if current is None:
            return [(stage, 1.0) for stage in self._stages]
        later = self._stages[self._stages.index(current.stage) + 1 :]
        return [(current.stage, 1.0 - current.fraction), *((stage, 1.0) for stage in later)]

    def _mean(self, stage: str) -> float | None:
        # A copy: the table is drawn by another thread.
        seconds = [value for (_, name), value in [*self._seconds.items()] if name == stage]
        return sum(seconds) / len(seconds) if seconds else None


@dataclass
class _Current:
    """The stage that a run is in; `since` is when the fraction was `first`."""

    stage: str
    began: float
    fraction: float = 0.0
    first: float | None = None
    since: float = 0.0


def _titles(entries: Sequence[Entry]) -> list[str]:
    kernels = [
        f"{kernel} {'/'.join(map(str, sizes))}" for kernel, sizes in _accuracies(entries).items()
    ]
    return ["lam", "seed", "status", "ELBO", "log-lik.", "gap", *kernels, "time"]


def _cells(entry: Entry, columns: Mapping[str, Sequence[int]]) -> list[str]:
    """The cells of a run but the last: values of the test data, or of the training data where there is no other."""
    splits = (entry["evaluation"] or {"splits": {}})["splits"]
    summary = splits.get("test") or splits.get("train")
    names = ("elbo", "log_likelihood", "gap")
    elbo, likelihood, gap = (
        format_number(summary[name]["mean"]) if summary else "" for name in names
    )
    if summary and summary["gap"]["standard_error"] is not None:
        gap += f" +/- {summary['gap']['standard_error']:.2f}"
    found = _encoder_results(entry)
    accuracies = [
        "/".join(found.get((kernel, size), "") for size in sizes)
        for kernel, sizes in columns.items()
    ]
    accuracies = accuracies if found else [""] * len(columns)
    return [
        f"{float(entry['lam']):g}",
        str(entry["seed"]),
        entry["status"],
        elbo,
        likelihood,
        gap,
        *accuracies,
    ]


def _accuracies(entries: Sequence[Entry]) -> dict[str, list[int]]:
    """The numbers of labels, by kernel: a column each."""
    columns: dict[str, list[int]] = {}
    for kernel, size in dict.fromkeys(key for entry in entries for key in _encoder_results(entry)):
        columns.setdefault(kernel, []).append(size)
    return columns


def _encoder_results(entry: Entry) -> dict[tuple[str, int], str]:
    """Percentages by kernel and number of labels."""
    results = (entry["classification"] or {"results": []})["results"]
    return {
        (r["kernel"], r["num_labels"]): f"{100 * r['mean']:.1f}"
        for r in results
        if r["features"] == "encoder"
    }


def _time(entry: Entry, elapsed: float = 0.0) -> str:
    return _duration(sum(entry["seconds"].values()) + elapsed)


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
