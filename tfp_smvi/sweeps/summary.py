"""The summary of a sweep directory at the start: what is there, and whether it fits."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from tfp_smvi.classification.results import report_name
from tfp_smvi.config import LENGTH, SweepConfig
from tfp_smvi.config.classify import DEFAULT_LABELS
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.records import flatten
from tfp_smvi.core.runtime import Environment
from tfp_smvi.runs.checkpoint import list_steps
from tfp_smvi.runs.directory import RunDirectory, read_run
from tfp_smvi.sweeps.entries import Entry, run_name
from tfp_smvi.sweeps.results import DamagedSummaryError, Summary, read_summary
from tfp_smvi.sweeps.stages import STAGES, refresh

__all__ = ["open_summary", "read_environment"]


def open_summary(
    sweep_dir: Path,
    config: SweepConfig,
    command: Sequence[str],
    warn: Callable[[str], None],
    *,
    redo: bool = False,
) -> Summary:
    """Makes the summary of a sweep directory, with the runs that are asked for and those there.

    Args:
        sweep_dir: the sweep directory, which may be empty.
        config: what is asked for.
        command: the command line to record.
        warn: is called with one line if an existing sweep.json is damaged.
        redo: drops evaluations and classifications that were made with other settings.

    Raises:
        SMVIError: the directory holds a sweep with other settings, whose results would be lost, or
            lacks the checkpoints that have to be classified.
    """
    earlier = _read_earlier(sweep_dir, warn)
    config = _planned(config, earlier)
    runs = earlier.runs if earlier else ()
    if earlier:
        _check_settings(sweep_dir, earlier, config, redo)
        for entry in runs:
            _check_checkpoints(sweep_dir, entry, config)
    previous = {(entry.level, entry.seed): entry for entry in runs}
    asked = ((level, seed) for level in config.levels for seed in config.seeds)
    grid = sorted({*previous, *asked})
    entries = [
        _make_entry(level, seed, previous.get((level, seed)), sweep_dir, config)
        for level, seed in grid
    ]
    levels, seeds = ([*dict.fromkeys(values)] for values in zip(*grid, strict=True))
    return Summary(
        command=tuple(command),
        earlier_commands=_earlier_commands(earlier, tuple(command)),
        config=config.with_grid(levels, sorted(seeds)),
        runs=tuple(entries),
    )


def _planned(config: SweepConfig, earlier: Summary | None) -> SweepConfig:
    """Completes what all runs are planned for: more epochs or lams later follow the same plan."""
    run, before = config.train, earlier.config.train if earlier else None
    train = run.train if before is None else run.train.completed_by(before.train)
    model = run.model.with_activation(before.model if before else None)
    if train.planned_epochs is None and train.needs_plan:
        train = dataclasses.replace(train, planned_epochs=train.epochs)
    return dataclasses.replace(config, train=dataclasses.replace(run, model=model, train=train))


def read_environment(sweep_dir: Path, entries: Sequence[Entry]) -> Environment | None:
    """The versions and the machine of the first run that has begun; None if there is none."""
    for entry in entries:
        with contextlib.suppress(SMVIError):
            run = read_run(sweep_dir / entry.run_dir)
            return Environment(run.versions, run.machine) if run.machine else None
    return None


def _read_earlier(sweep_dir: Path, warn: Callable[[str], None]) -> Summary | None:
    """Reads sweep.json; None if there is none, or a damaged one: the runs know most of it."""
    try:
        return read_summary(sweep_dir)
    except FileNotFoundError:
        return None
    except DamagedSummaryError as error:
        file = sweep_dir / "sweep.json"
        warn(f"{file} is damaged ({error}) and is written again from the run directories.")
        return None


def _earlier_commands(
    earlier: Summary | None, command: tuple[str, ...]
) -> tuple[tuple[str, ...], ...]:
    """The other command lines that worked here, each once, in their order."""
    if earlier is None:
        return ()
    commands = dict.fromkeys((*earlier.earlier_commands, earlier.command))
    return tuple(other for other in commands if other not in ((), command))


def _make_entry(
    level: float, seed: int, previous: Entry | None, sweep_dir: Path, config: SweepConfig
) -> Entry:
    """Makes the entry of a run: from its directory, and what only sweep.json can know of it."""
    seconds = dict.fromkeys(STAGES, 0.0)
    if config.target_gaps is None:
        entry = Entry(level, seed, run_name(level, seed), seconds=seconds)
    else:
        name = run_name(level, seed, "gap")
        entry = Entry(None, seed, name, seconds=seconds, target_gap=level)
    if previous is not None:
        entry = entry.changed(seconds={**seconds, **previous.seconds})
        if previous.status == "failed":
            entry = entry.changed(status="failed", error=previous.error)
    entry, left = refresh(entry, sweep_dir, config)
    if not left:
        return entry.changed(status="done", error=None)
    if previous is not None and previous.done:
        again = [name for name in left if not _has_result(entry, name)]
        return entry.changed(seconds={**entry.seconds, **dict.fromkeys(again, 0.0)})
    return entry


def _has_result(entry: Entry, stage: str) -> bool:
    result = STAGES[stage].result
    return result is None or getattr(entry, result) is not None


def _check_settings(sweep_dir: Path, earlier: Summary, config: SweepConfig, redo: bool) -> None:
    """Raises SMVIError if existing results were made with other settings."""
    if earlier.runs and earlier.config.level_field != config.level_field:
        raise SMVIError(
            f"is what {sweep_dir} is a sweep over",
            field=earlier.config.level_field,
            remedy=f"give it in place of {{{config.level_field}}}, or choose another {{sweep_dir}}",
        )
    given, here = config.settings(), earlier.config.settings()
    # What no run has come to yet may change; for the checkpoints to classify see
    # `_check_checkpoints`.
    for section, stage in STAGES.items():
        if stage.result is not None and (
            redo or not any(_has_result(entry, section) for entry in earlier.runs)
        ):
            here[section] = given[section]
    here["classify_every"] = given["classify_every"]
    for settings in (here, given):  # the default numbers of labels may be spelled out
        if settings["classify"] and settings["classify"]["labels"] is None:
            settings["classify"]["labels"] = [*DEFAULT_LABELS]
    old, new = dict(flatten(here)), dict(flatten(given))
    # A training may continue, or end at once; early stopping decides on nothing else.
    for name in LENGTH:
        old[f"train.train.{name}"] = new.get(f"train.train.{name}")
    trained = max((_epochs_begun(sweep_dir, entry) for entry in earlier.runs), default=0)
    old["train.train.epochs"] = max(trained, config.train.train.epochs)
    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    if changed:
        differences = "; ".join(
            f"{name}: {json.dumps(old.get(name))} here, {json.dumps(new.get(name))} given"
            for name in changed
        )
        of_training = any(name.startswith("train.") for name in changed)
        remedy = (
            "choose another {sweep_dir}"
            if of_training
            else "to evaluate and classify again with these, give {redo}"
        )
        raise SMVIError(
            f"{sweep_dir} holds a sweep with other settings ({differences})",
            remedy=f"{remedy}. More {{{config.level_field}}}, {{seeds}} and {{epochs}} may be "
            "added to a sweep",
        )


def _epochs_begun(sweep_dir: Path, entry: Entry) -> int:
    """The number of epochs that a run has begun."""
    epoch, step = (entry.history[-1].epoch, entry.history[-1].step) if entry.history else (0, 0)
    newest = next(iter(list_steps(RunDirectory(sweep_dir / entry.run_dir).checkpoints)), 0)
    return epoch + (newest > step)


def _check_checkpoints(sweep_dir: Path, entry: Entry, config: SweepConfig) -> None:
    """Raises SMVIError if a checkpoint that has to be classified was not kept."""
    run_dir = sweep_dir / entry.run_dir
    steps = list_steps(RunDirectory(run_dir).checkpoints)
    for record in entry.history:
        report = run_dir / report_name(record.epoch)
        available = record.step in steps or report.exists()
        if record.epoch in config.epochs_to_classify and not available:
            raise SMVIError(
                f"asks for epoch {record.epoch}, and {run_dir} has kept no checkpoint of it",
                field="classify_every",
                value=config.classify_every,
                remedy="give what the sweep was made with, or choose another {sweep_dir}",
            )
