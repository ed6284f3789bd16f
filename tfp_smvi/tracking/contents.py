"""What is sent of a directory: settings, the metrics of epochs, results and files."""

import functools
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tfp_smvi.classification.results import Classification, report_name
from tfp_smvi.config import RunConfig
from tfp_smvi.core.errors import SMVIError, name_fields
from tfp_smvi.core.records import flatten
from tfp_smvi.evaluation.results import Evaluation
from tfp_smvi.export.card import describe_run
from tfp_smvi.runs.data_file import read_data_file
from tfp_smvi.runs.directory import RunDirectory, read_run
from tfp_smvi.runs.records import EpochRecord, RunRecord, read_history
from tfp_smvi.runs.reports import read_report
from tfp_smvi.runs.warnings import run_warnings
from tfp_smvi.storage.atomic import write_json
from tfp_smvi.sweeps.results import DamagedSummaryError, read_summary, read_sweep
from tfp_smvi.tracking.base import Point

__all__ = ["Contents", "Figures", "read_contents"]

# Draws into a folder, and returns the files.
Figures = Callable[[Path], Sequence[Path]]
CARD = "model_card.json"
EVALUATION = "evaluation.json"
FILES = ("config.json", EVALUATION, "convergence.json", "convergence.png")


class Contents(NamedTuple):
    """What is sent of a directory.

    Attributes:
        settings: the settings by name, such as "train.lam".
        facts: what else is known: versions, the machine, warnings.
        points: the finished epochs.
        results: the evaluation and the classification of the last epoch, by name.
        files: the files to send, which exist.
        draw: draws the figures of these results; None if there are none.
        write_card: writes the model card to a path; None if there is none.
    """

    settings: Mapping[str, str]
    facts: Mapping[str, str]
    points: Sequence[Point]
    results: Mapping[str, float]
    files: Sequence[Path]
    draw: Figures | None
    write_card: Callable[[Path], None] | None = None


class _RunOnDisk(NamedTuple):
    """A `tfp_smvi.export.card.DescribedRun`, without its model."""

    config: RunConfig
    step: int
    history: tuple[EpochRecord, ...]
    data_fingerprint: str
    names: tuple[str, ...] | None
    warnings: tuple[str, ...]


def read_contents(folder: Path) -> Contents:
    """Reads what there is to send of a run or sweep directory.

    Raises:
        SMVIError: it is neither, or its files cannot be read.
    """
    if (folder / "sweep.json").exists():
        return _sweep_contents(folder)
    record, history = read_run(folder), read_history(RunDirectory(folder).metrics)
    return Contents(
        settings=_texts(record.config.to_json()),
        facts=_facts(record, folder),
        points=_points(history),
        results=_results(record, folder, history),
        files=_existing(folder, *FILES),
        draw=functools.partial(_draw_run, folder) if (folder / EVALUATION).exists() else None,
        write_card=functools.partial(_write_card, folder, record, history) if history else None,
    )


def _sweep_contents(folder: Path) -> Contents:
    try:
        summary = read_summary(folder)
    except (DamagedSummaryError, OSError) as error:
        raise SMVIError(
            f"{folder / 'sweep.json'} cannot be read ({error})",
            remedy="run the same tfp-smvi sweep again, which writes a new one",
        ) from error
    statuses = [entry.status for entry in summary.runs]
    counts = {f"runs.{status}": str(statuses.count(status)) for status in dict.fromkeys(statuses)}
    return Contents(
        settings=_texts(summary.config.all_values()),
        facts={"directory": str(folder), "command": " ".join(summary.command), **counts},
        points=(),
        results={},
        files=_existing(folder, "sweep.json", "sweep.csv"),
        draw=functools.partial(_draw_sweep, folder),
    )


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    """Settings as texts; those that are None are left out."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in flatten(values)
        if value is not None
    }


def _facts(record: RunRecord, folder: Path) -> dict[str, str]:
    facts = {f"version.{name}": version for name, version in record.versions.items()}
    if record.machine is not None:
        facts |= _texts({"machine": record.machine.to_json()})
    facts |= {"directory": str(folder), "data.fingerprint": record.data.fingerprint}
    if record.warnings:
        facts["warnings"] = "\n".join(map(name_fields, record.warnings))
    if record.stopped is not None:
        facts["stopped"] = record.stopped
    return facts


def _points(history: Sequence[EpochRecord]) -> list[Point]:
    ends = itertools.accumulate(record.seconds for record in history)
    return [
        Point(record.epoch, end, _metrics(record))
        for record, end in zip(history, ends, strict=True)
    ]


def _metrics(record: EpochRecord) -> dict[str, float]:
    """The finite numbers of an epoch: "test/elbo", "lam", "constraint/measured"."""
    values = {name.replace(".", "/"): value for name, value in flatten(record.to_json())}
    del values["epoch"]
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def _results(record: RunRecord, folder: Path, history: Sequence[EpochRecord]) -> dict[str, float]:
    """The results that belong to the last epoch."""
    if not history:
        return {}
    state = history[-1].step, record.data.fingerprint
    results = dict[str, float]()
    if evaluation := read_report(Evaluation, folder / EVALUATION, *state):
        results |= _evaluation_results(evaluation)
    if classification := read_report(Classification, folder / report_name(None), *state):
        results |= _classification_results(classification)
    return {name: value for name, value in results.items() if math.isfinite(value)}


def _evaluation_results(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    for row in evaluation.rows():
        name = f"evaluation/{row['split']}/{row['quantity']}"
        yield name, float(row["mean"])
        yield f"{name}/standard_error", float(row["standard_error"])


def _classification_results(classification: Classification) -> Iterator[tuple[str, float]]:
    for result in classification.results:
        name = f"accuracy/{result.features}/{result.kernel}/{result.num_labels}"
        yield name, result.mean
        yield f"{name}/standard_error", result.standard_error


def _existing(folder: Path, *names: str) -> list[Path]:
    return [folder / name for name in names if (folder / name).exists()]


def _write_card(
    folder: Path, record: RunRecord, history: tuple[EpochRecord, ...], path: Path
) -> None:
    """Writes the card of the run as `tfp-smvi export` does, without signatures."""
    names, _ = read_data_file(
        RunDirectory(folder).data, record.data.image_shape, record.data.standardized
    )
    warnings = run_warnings(record.warnings, record.config, history[-1])
    run = _RunOnDisk(
        record.config, history[-1].step, history, record.data.fingerprint, names, warnings
    )
    write_json(path, describe_run(run, folder, lambda line: None))


def _draw_run(folder: Path, output: Path) -> Sequence[Path]:
    from tfp_smvi.report.run_figures import plot_run

    return plot_run(folder, output)


def _draw_sweep(folder: Path, output: Path) -> Sequence[Path]:
    from tfp_smvi.report.figures import plot_sweep

    return plot_sweep(read_sweep(folder), output).files
