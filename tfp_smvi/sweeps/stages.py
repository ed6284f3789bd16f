"""The stages of a run, each in one place: how it is done, and how its results are read.

A stage is done when its file says that it was made with the settings asked for, at the end of the
training asked for.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tfp_smvi.classification.results import Classification, report_name
from tfp_smvi.config import RunConfig, SweepConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.engines.base import Context
from tfp_smvi.evaluation.results import Evaluation
from tfp_smvi.runs.checkpoint import list_steps
from tfp_smvi.runs.directory import RunDirectory, read_run
from tfp_smvi.runs.early_stopping import has_ended
from tfp_smvi.runs.records import EpochRecord, read_history
from tfp_smvi.runs.reports import read_report
from tfp_smvi.runs.warnings import lam_reached, run_warnings
from tfp_smvi.storage.arrays import DamagedFileError, read_arrays
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.orders import Order
from tfp_smvi.sweeps.running import classify_run, evaluate_run, train_run

__all__ = ["STAGES", "Stage", "missing_epochs", "refresh"]


class Stage(NamedTuple):
    """A part of the work on a run.

    Attributes:
        run: does it, in the task of the run.
        read: returns an entry with the stage's results, as the run directory has them.
        is_done: whether an entry's results are those that are asked for.
        result: the entry's field with the result of a stage that can be done again; None for a
            stage that all later ones depend on.
    """

    run: Callable[[Order, Context], None]
    read: Callable[[Entry, Path, SweepConfig], Entry]
    is_done: Callable[[Entry, Path, SweepConfig], bool]
    result: str | None


def refresh(entry: Entry, sweep_dir: Path, config: SweepConfig) -> tuple[Entry, list[str]]:
    """Reads an entry's results again from its run directory.

    Args:
        entry: the entry.
        sweep_dir: the sweep directory.
        config: what is asked for.

    Returns:
        The entry with its results, and the stages that are left to do. If the training is left to
        do, results of an earlier training are not in the entry.
    """
    run_dir, left = sweep_dir / entry.run_dir, []
    entry = entry.changed(evaluation=None, classification=None, classification_by_epoch={})
    for name in config.stages:
        stage = STAGES[name]
        entry = stage.read(entry, run_dir, config)
        if not stage.is_done(entry, run_dir, config):
            if stage.result is None:
                return entry, list(config.stages)
            left.append(name)
    return entry, left


def missing_epochs(entry: Entry, config: SweepConfig) -> list[int | None]:
    """The epochs that still have to be classified; None means the last.

    Those after an early end of the training are among them; `classify_run` leaves them out.
    """
    done = entry.classification_by_epoch
    missing: list[int | None] = [e for e in config.epochs_to_classify if e not in done]
    return missing if entry.classification is not None else [*missing, None]


def _read_training(entry: Entry, run_dir: Path, config: SweepConfig) -> Entry:
    history = _read_history(run_dir, config.run(entry.level, entry.seed))
    ended = _has_ended(history, run_dir, config.run(entry.level, entry.seed))
    seconds = round(sum(record.seconds for record in history), 3)
    warnings: tuple[str, ...] = ()
    reached = None
    if ended:
        record = read_run(run_dir)
        warnings = run_warnings(record.warnings, record.config, history[-1])
        reached = lam_reached(record.config.train, history[-1])
    return entry.changed(
        history=history,
        seconds={**entry.seconds, "train": seconds},
        warnings=warnings,
        lam_reached=reached,
    )


def _is_trained(entry: Entry, run_dir: Path, config: SweepConfig) -> bool:
    if not _has_ended(entry.history, run_dir, config.run(entry.level, entry.seed)):
        return False
    step = entry.history[-1].step
    # After a kill the log may be an epoch ahead of the checkpoints.
    if list_steps(RunDirectory(run_dir).checkpoints)[:1] != [step]:
        return False
    try:
        return int(read_arrays(run_dir / "gallery.npz")["step"]) == step
    except (OSError, DamagedFileError, KeyError):
        return False


def _read_evaluation(entry: Entry, run_dir: Path, config: SweepConfig) -> Entry:
    path = run_dir / "evaluation.json"
    data = read_run(run_dir).data
    report = read_report(Evaluation, path, entry.history[-1].step, data.fingerprint)
    return entry.changed(
        evaluation=report if report and report.settings.answers(config.evaluate) else None
    )


def _read_classifications(entry: Entry, run_dir: Path, config: SweepConfig) -> Entry:
    assert config.classify is not None
    data = read_run(run_dir).data
    steps, reports = _steps(entry.history), {}
    for epoch in (*_epochs_to_classify(entry, config), None):
        step = steps[entry.history[-1].epoch if epoch is None else epoch]
        path = run_dir / report_name(epoch)
        report = read_report(Classification, path, step, data.fingerprint)
        if report is not None and report.answers(config.classify):
            reports[epoch] = report
    final = reports.pop(None, None)
    return entry.changed(classification=final, classification_by_epoch=reports)


STAGES: dict[str, Stage] = {
    "train": Stage(train_run, _read_training, _is_trained, None),
    "evaluate": Stage(
        evaluate_run,
        _read_evaluation,
        lambda entry, run_dir, config: entry.evaluation is not None,
        "evaluation",
    ),
    "classify": Stage(
        classify_run,
        _read_classifications,
        lambda entry, run_dir, config: (
            entry.classification is not None
            and entry.classification_by_epoch.keys() >= {*_epochs_to_classify(entry, config)}
        ),
        "classification",
    ),
}


def _epochs_to_classify(entry: Entry, config: SweepConfig) -> list[int]:
    """Those before the last of a trained run, which early stopping may have ended."""
    return [epoch for epoch in config.epochs_to_classify if epoch < entry.history[-1].epoch]


def _has_ended(history: Sequence[EpochRecord], run_dir: Path, wanted: RunConfig) -> bool:
    """Whether the training in a directory, of that run, has come to its end."""
    if not history:
        return False
    return has_ended(wanted.train.completed_by(read_run(run_dir).config.train), history)


def _steps(history: Sequence[EpochRecord]) -> dict[int, int]:
    """The training steps at the end of each epoch."""
    return {record.epoch: record.step for record in history}


def _read_history(run_dir: Path, wanted: RunConfig) -> tuple[EpochRecord, ...]:
    """The epochs of the run in a directory; none if it is another run."""
    try:
        stored = read_run(run_dir).config
        history = read_history(RunDirectory(run_dir).metrics)
    except SMVIError:
        return ()
    # Neither what followed from the data nor another end makes another run.
    wanted = dataclasses.replace(
        wanted,
        model=wanted.model.completed_by(stored.model),
        train=wanted.train.completed_by(stored.train),
    )
    same = stored.with_length_of(wanted) == wanted
    return history if same else ()
