"""What a sweep found: its sweep.json, read and checked once, for figures and tables."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tfp_smvi.core.errors import SMVIError

__all__ = [
    "Accuracy",
    "Epoch",
    "Estimate",
    "Evaluation",
    "Run",
    "Sweep",
    "format_lam",
    "read_sweep",
]

FORMAT = 1
# Of the summary of each split in evaluation.json.
QUANTITIES = ("elbo", "iwae_bound", "log_likelihood", "gap", "kl", "divergence")


class Estimate(NamedTuple):
    """A mean and its standard error; NaN stands for what is not known."""

    mean: float
    standard_error: float


class Epoch(NamedTuple):
    """The test ELBO (nats) and divergence at the end of a training epoch."""

    epoch: int
    elbo: float
    divergence: float


class Accuracy(NamedTuple):
    """How well a classifier did on the test set.

    Attributes:
        epoch: the training epoch of the encoder.
        features: "encoder", "pixels" or "pca".
        kernel: "rbf" or "linear".
        num_labels: the labelled examples it saw.
        values: the accuracy, a fraction, with each subset of labels; subset i is the same in all
            runs.
        estimate: their mean, with its standard error over the subsets.
    """

    epoch: int
    features: str
    kernel: str
    num_labels: int
    values: tuple[float, ...]
    estimate: Estimate


class Evaluation(NamedTuple):
    """What `evaluate` says of a run, in nats.

    Attributes:
        splits: by split and quantity (those of QUANTITIES), means over examples.
        num_examples: by split.
        active_units: by split, such as "12 of 50".
        bracket: upper minus lower bound of log p(x) on images simulated from the model.
        warnings: why the numbers should not be trusted.
    """

    splits: Mapping[str, Mapping[str, Estimate]]
    num_examples: Mapping[str, int]
    active_units: Mapping[str, str]
    bracket: Estimate
    warnings: tuple[str, ...]


class Run(NamedTuple):
    """One run of the sweep.

    Attributes:
        lam: the weight of the divergence, which may be infinite.
        seed: the seed of the training.
        path: its run directory.
        status: "done", "failed", "running" or "pending".
        error: why it failed, in one line.
        seconds: by part of the work.
        history: the training, epoch by epoch.
        evaluation: None where it was not evaluated.
        accuracies: at every epoch that was classified; empty where none was.
        last_epoch: the epoch of the final classification, None without one.
        warnings: those of the classification.
    """

    lam: float
    seed: int
    path: Path
    status: str
    error: str | None
    seconds: Mapping[str, float]
    history: tuple[Epoch, ...]
    evaluation: Evaluation | None
    accuracies: tuple[Accuracy, ...]
    last_epoch: int | None
    warnings: tuple[str, ...]

    @property
    def done(self) -> bool:
        """Whether all of its parts are done."""
        return self.status == "done"


class Sweep(NamedTuple):
    """A grid of runs, ordered by lam and seed.

    Attributes:
        path: the sweep directory.
        commands: the command lines that made it, the last one last.
        config: the settings of its three commands, as JSON values.
        environment: versions and machine, as JSON values.
        runs: all runs, in any state.
    """

    path: Path
    commands: tuple[tuple[str, ...], ...]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    runs: tuple[Run, ...]

    @property
    def finished(self) -> tuple[Run, ...]:
        """The runs that are done, the only ones that count."""
        return tuple(run for run in self.runs if run.done)

    @property
    def compared(self) -> tuple[Run, ...]:
        """The finished runs with a seed that every finished lam has; all finished ones where there is no such seed.

        A mean over other seeds at one lam than at the next would compare seeds and not lams.
        """
        by_lam: dict[float, set[int]] = {}
        for run in self.finished:
            by_lam.setdefault(run.lam, set()).add(run.seed)
        common = set.intersection(*by_lam.values())
        return tuple(run for run in self.finished if run.seed in common or not common)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The different seeds of `compared`, in ascending order."""
        return tuple(sorted({run.seed for run in self.compared}))

    @property
    def left_out(self) -> list[str]:
        """A line for each run that is not done, such as "lam 0.5, seed 0: failed (no space left)"."""
        return [
            f"lam {format_lam(run.lam)}, seed {run.seed}: {run.status}"
            + (f" ({run.error})" if run.error else "")
            for run in self.runs
            if not run.done
        ]


def read_sweep(path: Path | str) -> Sweep:
    """Reads the summary of a sweep directory.

    Raises:
        SMVIError: there is no sweep, its sweep.json is damaged, or no run is done yet.
    """
    path = Path(path)
    file = path / "sweep.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ValueError(f"its format is {values['format']!r}, and this version reads {FORMAT}")
        runs = sorted(
            (_read_run(path, run) for run in values["runs"]), key=lambda run: (run.lam, run.seed)
        )
        if len({(run.lam, run.seed) for run in runs}) < len(runs):
            raise ValueError("a lam and seed are there twice")
        lines = (*values.get("earlier_commands", ()), values["command"])
        commands = tuple(tuple(map(str, line)) for line in lines if line)
        sweep = Sweep(path, commands, {**values["config"]}, {**values["environment"]}, tuple(runs))
    except FileNotFoundError as error:
        raise SMVIError(
            f"{path} is not a sweep directory: it has no sweep.json; make one with tfp-smvi sweep."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise SMVIError(
            f"{file} cannot be read ({reason}); run the same tfp-smvi sweep again, which writes it anew."
        ) from error
    if not sweep.finished:
        raise SMVIError(
            f"no run of {path} is done yet ({'; '.join(sweep.left_out) or 'it lists none'}); "
            "let tfp-smvi sweep finish one."
        )
    return sweep


def format_lam(lam: float) -> str:
    """Such as "0.001", "-1" or "inf"."""
    return f"{lam:g}"


def _read_run(path: Path, run: Mapping[str, Any]) -> Run:
    final, evaluation = run["classification"], run["evaluation"]
    # The last one also where it is among the others.
    reports = [*(run.get("classification_by_epoch") or {}).values(), *([final] if final else [])]
    by_epoch = {int(report["epoch"]): report for report in reports}
    return Run(
        lam=_not_nan(float(run["lam"])),
        seed=int(run["seed"]),
        path=path / run["run_dir"],
        status=str(run["status"]),
        error=None if run["error"] is None else str(run["error"]),
        seconds={name: float(value) for name, value in run["seconds"].items() if value is not None},
        history=tuple(_read_epoch(record) for record in run["history"] or ()),
        evaluation=_read_evaluation(evaluation) if evaluation else None,
        accuracies=tuple(
            _read_accuracy(epoch, result)
            for epoch in sorted(by_epoch)
            for result in by_epoch[epoch]["results"]
        ),
        last_epoch=int(final["epoch"]) if final else None,
        warnings=tuple(map(str, final.get("warnings", ()))) if final else (),
    )


def _read_epoch(record: Mapping[str, Any]) -> Epoch:
    return Epoch(
        int(record["epoch"]), *(_number(record["test"][name]) for name in ("elbo", "divergence"))
    )


def _read_evaluation(report: Mapping[str, Any]) -> Evaluation:
    splits = report["splits"]
    return Evaluation(
        splits={
            split: {name: _estimate(s[name]) for name in QUANTITIES} for split, s in splits.items()
        },
        num_examples={split: int(s["num_examples"]) for split, s in splits.items()},
        active_units={split: _active_units(s) for split, s in splits.items()},
        bracket=_estimate(report["bracket"]["width"]),
        warnings=tuple(map(str, report["warnings"])),
    )


def _read_accuracy(epoch: int, result: Mapping[str, Any]) -> Accuracy:
    return Accuracy(
        epoch,
        str(result["features"]),
        str(result["kernel"]),
        int(result["num_labels"]),
        tuple(map(float, result["values"])),
        _estimate(result),
    )


def _estimate(values: Mapping[str, Any]) -> Estimate:
    return Estimate(_number(values["mean"]), _number(values["standard_error"]))


def _number(value: Any) -> float:
    """A number of the JSON, where null stands for one that is not finite or not known."""
    return math.nan if value is None else float(value)


def _not_nan(value: float) -> float:
    if math.isnan(value):
        raise ValueError("a lam is not a number")
    return value


def _active_units(summary: Mapping[str, Any]) -> str:
    """Such as "12 of 50"."""
    active = summary["active_units"]
    return f"{'?' if active is None else active} of {summary['latent_dim']}"
