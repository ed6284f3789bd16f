"""tfp-smvi sweep."""

import dataclasses
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfp_smvi.config import SweepConfig
from tfp_smvi.tracking.addresses import without_password

from .engines import engine_option
from .groups import GroupedCommand, grouped
from .json_output import echo_json, json_option
from .options import setting
from .plan import show_plan
from .sweep_options import (
    build_sweep_config,
    config_file_option,
    shared_options,
)
from .terminal import echo
from .tracking import track_option, tracking_sweep

if TYPE_CHECKING:
    from tfp_smvi.sweeps.driver import SweepInterrupted
    from tfp_smvi.sweeps.results import Summary

    from .progress.sweep import SweepReporter

__all__ = ["sweep"]


@click.command(cls=GroupedCommand)
@setting(SweepConfig, "lams")
@setting(SweepConfig, "target_gaps")
@setting(SweepConfig, "seeds")
@grouped(
    "Sweep",
    "--sweep-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the runs and the summary.  [default: runs/<dataset>-sweep]",
)
@config_file_option()
@grouped(
    "Sweep",
    "--jobs",
    type=click.IntRange(1, 1 << 16),
    help="Number of runs to work on at once.  [default: 1; on a cluster, as many as it takes]",
)
@engine_option
@track_option
@click.option(
    "--threads",
    type=click.IntRange(1, 1 << 16),
    help="CPU threads of each run.  [default: the cores divided by the runs at once]",
)
@grouped(
    "Classification",
    "--classify/--no-classify",
    "with_classification",
    help="Whether to classify at all; data without labels need --no-classify.",
)
@setting(SweepConfig, "classify_every", metavar="N", group="Classification")
@grouped(
    "Sweep",
    "--redo",
    is_flag=True,
    help="Evaluate and classify again if their settings have changed; without it, changed settings "
    "are refused.",
)
@grouped(
    "Sweep",
    "--plan",
    "only_plan",
    is_flag=True,
    help="Do nothing; print what would be done and about how long it would take.",
)
@json_option("the summary, without the records of the epochs,")
@click.pass_context
def sweep(
    ctx: click.Context,
    /,
    sweep_dir: Path | None,
    jobs: int | None,
    engine: str,
    track: tuple[str, ...],
    threads: int | None,
    data_dir: Path | None,
    checkpoint_minutes: float,
    redo: bool,
    only_plan: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Train, evaluate and classify at each lam and seed.

    The options of the three commands apply to all runs. Each run has a run directory,
    lam<LAM>-seed<SEED> or gap<NATS>-seed<SEED>, and all share one summary, sweep.json and
    sweep.csv. The same command resumes where it was stopped and repeats runs that failed. You can
    add lams or target gaps, seeds and epochs.
    """
    config = build_sweep_config(ctx, values)
    sweep_dir = sweep_dir or _default_directory(config)
    from tfp_smvi.engines.opening import open_engine
    from tfp_smvi.sweeps import driver

    from .progress.sweep import make_sweep_reporter

    reporter = make_sweep_reporter(table_follows=not as_json and sys.stdout.isatty())
    shared: dict[str, Any] = {"threads": threads, "data_dir": data_dir, "redo": redo}
    opening = open_engine(engine, jobs=jobs, threads=threads, note=reporter.note)
    if only_plan:
        with opening as runner:
            show_plan(sweep_dir, config, jobs or 1, runner, shared, as_json=as_json)
        return 0
    try:
        with opening as runner, reporter, tracking_sweep(track, sweep_dir, reporter) as tracked:
            summary = driver.sweep(
                sweep_dir,
                config,
                jobs=jobs or 1,
                engine=runner,
                checkpoint_minutes=checkpoint_minutes,
                command=["tfp-smvi", *map(without_password, sys.argv[1:])],
                reporter=tracked,
                **shared,
            )
    except driver.SweepInterrupted as stop:
        return _note_stop(reporter, stop, sweep_dir)
    _print_summary(summary, sweep_dir, as_json=as_json)
    failed = [entry for entry in summary.runs if entry.is_in(config) and not entry.done]
    for entry in failed:
        echo(f"Error: {entry.run_dir} failed: {entry.error}", err=True)
    return 1 if failed else 0


def _note_stop(reporter: "SweepReporter", stop: "SweepInterrupted", sweep_dir: Path) -> int:
    """Prints what is kept and how to continue; returns the exit code."""
    name = signal.Signals(stop.signum).name
    reporter.note(f"Stopped by {name}; what is done is kept in {sweep_dir}.")
    reporter.note("Run the same command again to continue.")
    return 128 + stop.signum


def _print_summary(summary: "Summary", sweep_dir: Path, *, as_json: bool) -> None:
    """Prints what all runs of a sweep found."""
    from .progress.sweep import format_runs

    if as_json:
        values = summary.to_json()
        values["runs"] = [
            {name: value for name, value in entry.to_json().items() if name != "history"}
            for entry in summary.runs
        ]
        echo_json(values)
    else:
        click.echo(format_runs(summary.runs))
        click.echo(f"All of it is in {sweep_dir}: sweep.json and sweep.csv.")
    doubtful = [entry.run_dir for entry in summary.runs if entry.done and entry.all_warnings]
    if doubtful:
        echo(
            f"Warning: {len(doubtful)} of {len(summary.runs)} runs have warnings, which are in "
            f"sweep.json and in the report (tfp-smvi report {sweep_dir}): {', '.join(doubtful)}.",
            err=True,
        )


def _default_directory(config: SweepConfig) -> Path:
    """Such as runs/mnist-sweep."""
    from tfp_smvi.runs.directory import run_directory_name

    zero_sweep = dataclasses.replace(config, lams=(0.0,), target_gaps=None)
    name = run_directory_name(zero_sweep.run(0.0, 0)).removesuffix("-lam0-seed0")
    return Path("runs") / f"{name}-sweep"


sweep.params.extend(shared_options({param.name for param in sweep.params}))
