"""What a sweep has done so far, read from its run directories and written to sweep.json and sweep.csv.

A stage is done when its file says that it was made with the settings asked for, at the end of the
training asked for.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfp_smvi.config import RunConfig, SweepConfig
from tfp_smvi.core.errors import RUN_AGAIN, SMVIError, explain_write_errors
from tfp_smvi.runs.checkpoint import list_steps
from tfp_smvi.runs.directory import RunDirectory, read_run, with_epochs
from tfp_smvi.runs.records import read_history
from tfp_smvi.storage.atomic import write_atomically, write_json
from tfp_smvi.sweeps.table import format_csv

__all__ = ["STAGES", "missing_epochs", "open_summary", "refresh", "run_name", "write_summary"]

JSON = dict[str, Any]

FORMAT = 1
STAGES = ("train", "evaluate", "classify")
# What an entry holds of a stage that can be done again.
RESULTS = {"evaluate": "evaluation", "classify": "classification"}


def run_name(lam: float, seed: int) -> str:
    """The run directory of a lam and a seed, such as "lam0.5-seed0"; no two lams share one."""
    return f"lam{repr(lam).removesuffix('.0')}-seed{seed}"


def open_summary(
    sweep_dir: Path,
    config: SweepConfig,
    command: Sequence[str],
    warn: Callable[[str], None],
    *,
    redo: bool = False,
) -> JSON:
    """Makes the summary of a sweep directory as it is: of the runs that are asked for and of those that are there.

    Args:
        sweep_dir: the sweep directory, which may be empty.
        config: what is asked for.
        command: the command line to record.
        warn: is called with one line if the sweep.json that is there is damaged.
        redo: lets go of evaluations and classifications that were made with other settings.

    Returns:
        The summary, as in sweep.json.

    Raises:
        SMVIError: it holds a sweep with other settings, whose results would be lost, or without the
            checkpoints that are to be classified.
    """
    earlier = _read_summary(sweep_dir, warn)
    settings = config.settings()
    _check_settings(sweep_dir, earlier, settings, redo)
    for entry in earlier.get("runs", []):
        _check_checkpoints(sweep_dir, entry, config)
    previous = {(float(entry["lam"]), entry["seed"]): entry for entry in earlier.get("runs", [])}
    grid = sorted({*previous, *((lam, seed) for lam in config.lams for seed in config.seeds)})
    entries = []
    for lam, seed in grid:
        entry = _make_entry(lam, seed, previous.get((lam, seed)))
        entries.append(entry)
        left = refresh(entry, sweep_dir, config)
        if not left:
            entry.update(status="done", error=None)
        elif previous.get((lam, seed), {}).get("status") == "done":
            again = [
                stage for stage, result in RESULTS.items() if stage in left and not entry[result]
            ]
            entry["seconds"].update(dict.fromkeys(again, 0.0))
    return {
        "format": FORMAT,
        "command": list(command),
        "earlier_commands": _earlier_commands(earlier, list(command)),
        "config": settings,
        "lams": list(dict.fromkeys(entry["lam"] for entry in entries)),
        "seeds": sorted({entry["seed"] for entry in entries}),
        "environment": {},
        "runs": entries,
    }


def refresh(entry: JSON, sweep_dir: Path, config: SweepConfig) -> list[str]:
    """Reads an entry's results anew from its run directory.

    Args:
        entry: the entry, which is changed.
        sweep_dir: the sweep directory.
        config: what is asked for.

    Returns:
        The stages that are left to do; where it is the training, results of an earlier one are not
        shown.
    """
    run_dir, wanted = sweep_dir / entry["run_dir"], config.run(float(entry["lam"]), entry["seed"])
    entry["history"] = history = _read_history(run_dir, wanted)
    entry["seconds"]["train"] = round(sum(record["seconds"] for record in history), 3)
    entry.update(evaluation=None, classification=None, classification_by_epoch={})
    if not _is_trained(run_dir, history, wanted.train.epochs):
        return list(config.stages)
    steps = {record["epoch"]: record["step"] for record in history}
    last, left = wanted.train.epochs, []
    entry["evaluation"] = _read_report(
        run_dir / "evaluation.json", config.evaluate.to_json(), steps[last]
    )
    if entry["evaluation"] is None:
        left.append("evaluate")
    if config.classify is not None:
        settings = config.classify.to_json()
        entry["classification"] = _read_report(
            run_dir / "classification.json", settings, steps[last]
        )
        for epoch in config.epochs_to_classify:
            report = _read_report(
                run_dir / f"classification-epoch{epoch:03d}.json", settings, steps[epoch]
            )
            if report is not None:
                entry["classification_by_epoch"][str(epoch)] = report
        if missing_epochs(entry, config):
            left.append("classify")
    return left


def missing_epochs(entry: Mapping[str, Any], config: SweepConfig) -> list[int | None]:
    """The epochs that are still to be classified; None stands for the last."""
    done = entry["classification_by_epoch"]
    missing: list[int | None] = [
        epoch for epoch in config.epochs_to_classify if str(epoch) not in done
    ]
    return missing if entry["classification"] is not None else [*missing, None]


def write_summary(sweep_dir: Path, summary: JSON) -> None:
    """Writes sweep.json and sweep.csv, with the environment that the runs have recorded by now.

    Raises:
        SMVIError: they cannot be written.
    """
    summary["environment"] = _environment(sweep_dir, summary["runs"])
    with explain_write_errors(f"to {sweep_dir}", f"what the runs did is kept: {RUN_AGAIN}"):
        write_json(sweep_dir / "sweep.json", summary)
        write_atomically(
            sweep_dir / "sweep.csv", lambda file: file.write(format_csv(summary).encode())
        )


def _read_summary(sweep_dir: Path, warn: Callable[[str], None]) -> JSON:
    """Reads sweep.json; empty where there is none, or a damaged one, of which the run directories know most."""
    file = sweep_dir / "sweep.json"
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
        if summary["format"] != FORMAT:
            raise ValueError(f"format {summary['format']!r}")
        for entry in summary["runs"]:
            _make_entry(float(entry["lam"]), entry["seed"], entry)
        int(summary["config"]["train"]["train"]["epochs"])
        return summary
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        warn(f"{file} is damaged ({error}) and is written anew from the run directories.")
        return {}


def _earlier_commands(earlier: JSON, command: list[str]) -> list[list[str]]:
    """The other command lines that worked here, each once, in their order: a grid may have grown by several."""
    commands = [*earlier.get("earlier_commands", []), earlier.get("command", [])]
    return [other for n, other in enumerate(commands) if other not in ([], command, *commands[:n])]


def _make_entry(lam: float, seed: int, previous: Mapping[str, Any] | None) -> JSON:
    """Makes the entry of a run in sweep.json, with what only an earlier sweep.json can know of it."""
    previous = previous or {}
    failed = previous.get("status") == "failed"
    return {
        "lam": "inf" if lam == float("inf") else lam,
        "seed": seed,
        "run_dir": run_name(lam, seed),
        "status": "failed" if failed else "pending",
        "error": previous.get("error") if failed else None,
        "seconds": dict.fromkeys(STAGES, 0.0) | previous.get("seconds", {}),
        "history": [],
        "evaluation": None,
        "classification": None,
        "classification_by_epoch": {},
    }


def _check_settings(sweep_dir: Path, earlier: JSON, given: JSON, redo: bool) -> None:
    """Raises SMVIError where results that are there were made with other settings."""
    here, runs = {**earlier.get("config", given)}, earlier.get("runs", [])
    # What no run has come to yet may change; of the checkpoints to classify, see
    # `_check_checkpoints`.
    for section, result in RESULTS.items():
        if redo or not any(entry.get(result) for entry in runs):
            here[section] = given[section]
    here["classify_every"] = given["classify_every"]
    old, new = dict(_flatten(here)), dict(_flatten(given))
    # A training may go on for longer, or end at once.
    trained = max((_epochs_begun(sweep_dir, entry) for entry in runs), default=0)
    old["train.train.epochs"] = max(trained, new["train.train.epochs"])
    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    if changed:
        differences = [
            f"{name}: {json.dumps(old.get(name))} here, {json.dumps(new.get(name))} given"
            for name in changed
        ]
        of_training = any(name.startswith("train.") for name in changed)
        advice = (
            "choose another --sweep-dir"
            if of_training
            else "to evaluate and classify anew with these, give --redo"
        )
        raise SMVIError(
            f"{sweep_dir} holds a sweep with other settings ({'; '.join(differences)}); {advice}. "
            "More --lams, --seeds and --epochs may be added to a sweep."
        )


def _epochs_begun(sweep_dir: Path, entry: JSON) -> int:
    """How many epochs a run has had, one that has begun included."""
    history = entry["history"] or [{"epoch": 0, "step": 0}]
    newest = next(iter(list_steps(RunDirectory(sweep_dir / entry["run_dir"]).checkpoints)), 0)
    return int(history[-1]["epoch"]) + (newest > history[-1]["step"])


def _check_checkpoints(sweep_dir: Path, entry: JSON, config: SweepConfig) -> None:
    """Raises SMVIError where an epoch that is to be classified has passed without its checkpoint being kept."""
    run_dir = sweep_dir / entry["run_dir"]
    kept = list_steps(RunDirectory(run_dir).checkpoints)
    for record in entry["history"]:
        there = (
            record["step"] in kept
            or (run_dir / f"classification-epoch{record['epoch']:03d}.json").exists()
        )
        if record["epoch"] in config.epochs_to_classify and not there:
            raise SMVIError(
                f"--classify-every {config.classify_every} asks for epoch {record['epoch']}, and {run_dir} has kept no "
                "checkpoint of it; give what the sweep was made with, or choose another --sweep-dir."
            )


def _flatten(values: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of nested JSON objects by names such as "train.model.latent_dim"."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _flatten(value, f"{name}.{key}" if name else key)
    else:
        yield name, values


def _environment(sweep_dir: Path, entries: Sequence[Mapping[str, Any]]) -> JSON:
    """The versions and the machine of the first run that has begun."""
    for entry in entries:
        with contextlib.suppress(SMVIError):
            recorded = read_run(sweep_dir / entry["run_dir"]).to_json()
            return {name: recorded[name] for name in ("versions", "machine")}
    return {}


def _read_history(run_dir: Path, wanted: RunConfig) -> list[JSON]:
    """The epochs of the run that is there; none if it is another one."""
    try:
        stored = read_run(run_dir).config
        history = [record.to_json() for record in read_history(RunDirectory(run_dir).metrics)]
    except SMVIError:
        return []
    # Neither a likelihood that followed from the data nor another number of epochs makes another
    # run.
    model = dataclasses.replace(
        wanted.model, likelihood=wanted.model.likelihood or stored.model.likelihood
    )
    stored = with_epochs(stored, wanted.train.epochs)
    return history if stored == dataclasses.replace(wanted, model=model) else []


def _is_trained(run_dir: Path, history: Sequence[JSON], epochs: int) -> bool:
    if not history or history[-1]["epoch"] != epochs:
        return False
    step = history[-1]["step"]
    # After a kill the log may be an epoch ahead of the checkpoints.
    if list_steps(RunDirectory(run_dir).checkpoints)[:1] != [step]:
        return False
    try:
        with (
            (run_dir / "gallery.npz").open("rb") as file,
            np.load(file, allow_pickle=False) as gallery,
        ):
            return int(gallery["step"]) == step
    except Exception:  # garbled bytes make zipfile and NumPy raise nearly anything
        return False


def _read_report(path: Path, settings: JSON, step: int) -> JSON | None:
    """Reads a stage's report; None if there is none with these settings after that step of training."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        wanted = report["settings"] == settings and report["run"]["step"] == step
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return report if wanted else None
