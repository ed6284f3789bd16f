"""What tfp-smvi sweep --plan prints."""

import datetime
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfp_smvi.config import SweepConfig
from tfp_smvi.core.text import align

from .json_output import echo_json
from .terminal import echo

if TYPE_CHECKING:
    from tfp_smvi.engines.base import StoppableEngine
    from tfp_smvi.sweeps.planning import PlannedRun, SweepPlan

__all__ = ["show_plan"]


def show_plan(
    sweep_dir: Path,
    config: SweepConfig,
    jobs: int,
    engine: "StoppableEngine | None",
    shared: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    """Prints what a sweep would do.

    Args:
        sweep_dir: the sweep directory.
        config: the settings.
        jobs: the runs at once in processes of this machine.
        engine: a cluster; None for this machine.
        shared: more arguments of `plan_sweep`.
        as_json: whether to print JSON.
    """
    from tfp_smvi.sweeps.planning import plan_sweep

    plan = plan_sweep(
        sweep_dir,
        config,
        jobs=jobs,
        engine=engine,
        warn=lambda line: echo(f"Warning: {line}", err=True),
        **shared,
    )
    if as_json:
        echo_json(plan.to_json())
    else:
        click.echo(_format(plan))


def _format(plan: "SweepPlan") -> str:
    """The plan as text."""
    left = [run for run in plan.runs if run.stages]
    lines = [f"{len(plan.runs) - len(left)} of {len(plan.runs)} runs are done."]
    if not left:
        return lines[0]
    rows = [["run", "left to do", "about"]]
    rows += [[run.run_dir, _stages(run), _duration(run.seconds)] for run in left]
    at_once = "one run" if plan.workers == 1 else f"{plan.workers} runs"
    lines += [*align(rows), f"About {_duration(plan.seconds)} with {at_once} at a time."]
    if plan.epoch_seconds is not None:
        lines.append(f"An epoch takes {plan.epoch_seconds:.3g} s: {plan.source}.")
    if plan.unknown:
        lines.append(f"Not included, as no run here has done it: {', '.join(plan.unknown)}.")
    return "\n".join(lines)


def _stages(run: "PlannedRun") -> str:
    """Such as "train 3 epochs, evaluate"."""
    words = {"train": f"train {run.epochs} epoch{'s' if run.epochs != 1 else ''}"}
    return ", ".join(words.get(stage, stage) for stage in run.stages)


def _duration(seconds: float | None) -> str:
    # Rounded up: no work takes 0:00:00.
    return "?" if seconds is None else str(datetime.timedelta(seconds=math.ceil(seconds)))
