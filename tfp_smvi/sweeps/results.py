"""What a sweep found: sweep.json, its one reader and its one writer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from tfp_smvi.config import SweepConfig
from tfp_smvi.core.errors import RUN_AGAIN, NotFoundError, SMVIError, explain_write_errors
from tfp_smvi.core.html import html_table
from tfp_smvi.core.records import Record, encode
from tfp_smvi.core.runtime import Environment
from tfp_smvi.runs.warnings import lam_reached, run_warnings
from tfp_smvi.storage.atomic import write_atomically, write_json
from tfp_smvi.storage.json_files import read_json
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.table import COLUMNS, Row, format_csv, rows_of

__all__ = ["DamagedSummaryError", "Summary", "Sweep", "read_summary", "read_sweep", "write_summary"]

FORMAT = 1


class DamagedSummaryError(Exception):
    """A sweep.json that exists and cannot be read; the message is one line."""


@dataclass(frozen=True)
class Summary:
    """The content of sweep.json.

    Attributes:
        command: the last command line that worked in the directory; empty if not recorded.
        earlier_commands: the other command lines, oldest first.
        config: the settings of all runs; its grid is that of the runs.
        runs: all runs, in any state, ordered by lam and seed.
        environment: of the first run that has begun; None if there is none.
    """

    command: tuple[str, ...]
    earlier_commands: tuple[tuple[str, ...], ...]
    config: SweepConfig
    runs: tuple[Entry, ...]
    environment: Environment | None = None

    def to_json(self) -> dict[str, object]:
        """Returns the JSON object of sweep.json."""
        return {
            "format": FORMAT,
            "command": list(self.command),
            "earlier_commands": [list(command) for command in self.earlier_commands],
            "config": self.config.settings(),
            self.config.level_field: encode([*dict.fromkeys(entry.level for entry in self.runs)]),
            "seeds": sorted({entry.seed for entry in self.runs}),
            "environment": self.environment.to_json() if self.environment else {},
            "runs": [entry.to_json() for entry in self.runs],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """Builds a summary from the JSON object of sweep.json.

        Raises:
            SMVIError, ValueError: it is damaged or has another format.
        """
        content = _Content.from_json(values)
        if content.format != FORMAT:
            raise ValueError(f"its format is {content.format!r}, and this version reads {FORMAT}")
        runs = tuple(sorted(content.runs, key=lambda entry: (entry.level, entry.seed)))
        if len({(entry.level, entry.seed) for entry in runs}) < len(runs):
            raise ValueError("a lam and seed are there twice")
        config = dict(content.config)
        if runs:
            kind = "lams" if runs[0].target_gap is None else "target_gaps"
            config[kind] = [*dict.fromkeys(entry.level for entry in runs)]
            config["seeds"] = sorted({entry.seed for entry in runs})
        here = content.environment
        environment = Environment.from_json(here) if here.get("machine") else None
        settings = SweepConfig.from_json(config)
        runs = tuple(_completed(run, settings) for run in runs)
        return cls(content.command, content.earlier_commands, settings, runs, environment)


@dataclass(frozen=True)
class _Content(Record):
    """The parts of sweep.json that are not derived from others."""

    format: int
    command: tuple[str, ...]
    config: Mapping[str, object]
    runs: tuple[Entry, ...]
    earlier_commands: tuple[tuple[str, ...], ...] = ()
    environment: Mapping[str, object] = field(default_factory=dict)


def _completed(run: Entry, config: SweepConfig) -> Entry:
    """Adds the warnings of a training and the lam it reached, which files of version 0.1 lack."""
    if not run.done or not run.history or run.lam_reached is not None:
        return run
    settings, last = config.run(run.level, run.seed), run.history[-1]
    return run.changed(
        warnings=run_warnings(run.warnings, settings, last),
        lam_reached=lam_reached(settings.train, last),
    )


class Sweep(NamedTuple):
    """A sweep directory and its summary. A notebook shows it as a table.

    Attributes:
        path: the directory.
        summary: the content of its sweep.json.
    """

    path: Path
    summary: Summary

    @property
    def runs(self) -> tuple[Entry, ...]:
        """All runs, in any state, ordered by lam and seed."""
        return self.summary.runs

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """The command lines that made it, oldest first."""
        lines = (*self.summary.earlier_commands, self.summary.command)
        return tuple(line for line in lines if line)

    @property
    def finished(self) -> tuple[Entry, ...]:
        """The runs that are done, the only ones that are shown."""
        return tuple(run for run in self.runs if run.done)

    @property
    def compared(self) -> tuple[Entry, ...]:
        """The finished runs with a seed that every finished lam has; all if there is no such seed.

        A mean over different seeds at different lams would compare seeds and not lams.
        """
        by_lam: dict[float, set[int]] = {}
        for run in self.finished:
            by_lam.setdefault(run.level, set()).add(run.seed)
        common = set.intersection(*by_lam.values())
        return tuple(run for run in self.finished if run.seed in common or not common)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The different seeds of `compared`, in ascending order."""
        return tuple(sorted({run.seed for run in self.compared}))

    @property
    def left_out(self) -> list[str]:
        """A line for each run that is not done: "lam 0.5, seed 0: failed (no space left)"."""
        return [
            f"{run.label}: {run.status}" + (f" ({run.error})" if run.error else "")
            for run in self.runs
            if not run.done
        ]

    def is_growing(self, lam: float) -> bool:
        """Whether a compared run had not reached its lam at its end."""
        return None in self.epochs_growing(lam)

    def epochs_growing(self, lam: float) -> frozenset[int | None]:
        """The epochs at whose end a compared run had not reached its lam; None for its last one."""
        epochs: set[int | None] = set()
        for run in self.compared:
            # Of a target gap, the table of likelihood and gap says what it reached.
            if run.target_gap is None and run.lam == lam and run.history:
                config = self.summary.config.run(run.level, run.seed).train
                early = [r.epoch for r in run.history if lam_reached(config, r) != lam]
                epochs.update(early)
                if run.history[-1].epoch in early:
                    epochs.add(None)
        return frozenset(epochs)

    def run_path(self, run: Entry) -> Path:
        """The run directory of a run."""
        return self.path / run.run_dir

    def rows(self) -> list[Row]:
        """The rows of sweep.csv, for `pandas.DataFrame(sweep.rows())`; None is not known."""
        empty: Row = dict.fromkeys(COLUMNS)
        return [empty | row for entry in self.runs for row in rows_of(entry)]

    def __repr__(self) -> str:
        """Such as "Sweep(runs/mnist-sweep: 8 of 8 runs done, lam 0 to 10)"."""
        levels = sorted({entry.level for entry in self.runs})
        name = self.summary.config.level_field.removesuffix("s").replace("_", " ")
        done = f"{len(self.finished)} of {len(self.runs)} runs done"
        return f"Sweep({self.path}: {done}, {name} {levels[0]:g} to {levels[-1]:g})"

    def _repr_html_(self) -> str:
        """A row for each run and split, for notebooks."""
        rows = []
        for entry in self.runs:
            if entry.evaluation is None:
                rows.append([entry.label, entry.status])
                continue
            for split, summary in entry.evaluation.splits.items():
                values = (summary.elbo, summary.log_likelihood, summary.gap)
                rows.append([entry.label, split, *map(str, values)])
        header = ["nats +/- one standard error", "split", "ELBO", "log p(x)", "gap"]
        return html_table(header, rows)


def read_sweep(path: Path | str) -> Sweep:
    """Reads the summary of a sweep directory, for figures and tables.

    Raises:
        SMVIError: there is no sweep, its sweep.json is damaged, or no run is done yet.
    """
    path = Path(path)
    try:
        sweep = Sweep(path, read_summary(path))
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{path} is not a sweep directory: it has no sweep.json",
            remedy="make one with tfp-smvi sweep",
        ) from error
    except DamagedSummaryError as error:
        raise SMVIError(
            f"{path / 'sweep.json'} cannot be read ({error})",
            remedy="run the same tfp-smvi sweep again, which writes a new one",
        ) from error
    if not sweep.finished:
        states = "; ".join(sweep.left_out) or "it lists none"
        raise SMVIError(
            f"no run of {path} is done yet ({states})", remedy="let tfp-smvi sweep finish one"
        )
    return sweep


def read_summary(sweep_dir: Path) -> Summary:
    """Reads sweep.json.

    Raises:
        FileNotFoundError: there is none.
        DamagedSummaryError: it cannot be read.
    """
    try:
        return Summary.from_json(read_json(sweep_dir / "sweep.json"))
    except FileNotFoundError:
        raise
    except SMVIError as error:
        raise DamagedSummaryError(str(error).removesuffix(".")) from error
    except (OSError, ValueError) as error:
        raise DamagedSummaryError(str(error)) from error


def write_summary(sweep_dir: Path, summary: Summary) -> None:
    """Writes sweep.json and sweep.csv.

    Raises:
        SMVIError: they cannot be written.
    """
    table = format_csv(summary.runs).encode()
    with explain_write_errors(f"to {sweep_dir}", f"what the runs did is kept: {RUN_AGAIN}"):
        write_json(sweep_dir / "sweep.json", summary.to_json())
        write_atomically(sweep_dir / "sweep.csv", lambda file: file.write(table))
