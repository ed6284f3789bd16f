"""What an export says of itself, for people and programs: model_card.json."""

import datetime
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfp_smvi.core.runtime import environment
from tfp_smvi.data import DATASETS
from tfp_smvi.runs.loading import LoadedRun

__all__ = ["MODEL_CARD", "describe_run"]

MODEL_CARD = "model_card.json"


def describe_run(run: LoadedRun, run_dir: Path, note: Callable[[str], None]) -> dict[str, Any]:
    """Returns what is known of a run, as JSON values.

    Args:
        run: the run.
        run_dir: its directory, where evaluation.json may be.
        note: receives a line when there is one and it is of another state of the run.
    """
    dataset, config = run.config.data.dataset, run.config.to_json()
    if run.config.data.is_file:  # where it lies is nobody else's business
        config["data"]["dataset"] = dataset = Path(dataset).name
    licence = (
        DATASETS[dataset].licence if dataset in DATASETS else "unknown: see where the data are from"
    )
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "lam": config["train"]["lam"],
        "epochs": len(run.history),
        "step": run.step,
        "metrics": run.history[-1].to_json() if run.history else None,
        "evaluation": _read_evaluation(run, run_dir / "evaluation.json", note),
        "config": config,
        "data": {"name": dataset, "fingerprint": run.data_fingerprint, "licence": licence},
        "licence": "The weights are made from the data above; respect the data's licence.",
        "precision": "float32",
        "versions": environment().to_json()["versions"],
    }


def _read_evaluation(
    run: LoadedRun, path: Path, note: Callable[[str], None]
) -> dict[str, Any] | None:
    """Reads the results for each split and the bracket, if they are of this very state of the run."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        evaluated, results = (
            report["run"],
            {name: report[name] for name in ("splits", "bracket", "warnings")},
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        note(f"{path} cannot be read ({error}); the model card goes without it.")
        return None
    if not _is_state(evaluated, run):
        note(
            f"{path} is of another state of the run; the model card goes without it: evaluate again."
        )
        return None
    return results


def _is_state(evaluated: Mapping[str, Any], run: LoadedRun) -> bool:
    here = {
        "config": run.config.to_json(),
        "step": run.step,
        "data_fingerprint": run.data_fingerprint,
    }
    return {name: evaluated.get(name) for name in here} == here
