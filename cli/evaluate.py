"""tfp-smvi evaluate."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from tfp_smvi.config import AISConfig, EvaluateConfig
from tfp_smvi.core.errors import name_fields
from tfp_smvi.core.records import Record
from tfp_smvi.core.text import is_whole

from .engines import engine_option
from .evaluation_options import build_config, refuse_ignored, refuse_needless
from .groups import GroupedCommand, grouped
from .json_output import echo_json, json_option
from .options import (
    ListType,
    data_dir_option,
    help_of,
    option_name,
    setting,
    threads_option,
)
from .outside import outside_options, take_source
from .stopping import stop_at_once
from .tracking import track_option, tracking

if TYPE_CHECKING:
    from tfp_smvi.evaluation.outside import OutsideModel

    from .progress.evaluation import BlockReporter

__all__ = ["evaluate"]

CONVERGENCE_TEMPERATURES = "10,32,100,316,1000"
NUM_EXAMPLES = EvaluateConfig().num_examples
# They cost thirty times as much as an evaluation at the defaults.
CONVERGENCE_EXAMPLES = 100


class _NumExamples(click.ParamType):  # type: ignore[type-arg]  # click 8.1 takes no type argument
    """A whole number, or "all"."""

    name = "integer|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reads the text; -1 means all."""
        if value == "all":
            return -1
        if not is_whole(str(value)) or int(value) < 1:
            self.fail(f"{value!r} is not a whole number of at least 1, nor all.", param, ctx)
        return int(value)


class _ShardType(click.ParamType):  # type: ignore[type-arg]
    """i/n, with i from 1 to n."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Splits the text."""
        number, _, count = str(value).partition("/")
        if not (is_whole(number) and is_whole(count) and 1 <= int(number) <= int(count)):
            self.fail(f"{value!r} is not a part such as 2/4, the second of four.", param, ctx)
        return int(number), int(count)


def _require_growing(
    context: click.Context, option: click.Parameter, numbers: tuple[int, ...]
) -> tuple[int, ...]:
    """Raises BadParameter unless the numbers are positive and grow."""
    if len(numbers) < 2 or numbers[0] < 1 or [*numbers] != sorted({*numbers}):
        text = ",".join(map(str, numbers))
        raise click.BadParameter(
            f"{text!r} is not a growing list of at least two numbers such as 10,32,100."
        )
    return numbers


@click.command(cls=GroupedCommand)
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path), required=False)
@setting(EvaluateConfig, "split")
@setting(
    EvaluateConfig,
    "num_examples",
    type=_NumExamples(),
    default=None,
    help=f"{help_of(EvaluateConfig, 'num_examples')}  "
    f"[default: {NUM_EXAMPLES}; with --convergence {CONVERGENCE_EXAMPLES}]",
)
@setting(AISConfig, "num_chains")
@setting(AISConfig, "num_temperatures")
@setting(AISConfig, "num_leapfrog_steps")
@setting(AISConfig, "leapfrog_precision")
@setting(AISConfig, "initial")
@setting(AISConfig, "initial_scale")
@setting(AISConfig, "schedule")
@setting(AISConfig, "num_segments")
@setting(AISConfig, "num_pilot_chains")
@setting(AISConfig, "num_pilot_temperatures")
@setting(AISConfig, "target_acceptance_rate")
@setting(EvaluateConfig, "num_elbo_samples")
@setting(EvaluateConfig, "num_divergence_samples")
@setting(EvaluateConfig, "num_importance_samples")
@setting(EvaluateConfig, "num_simulated")
@setting(EvaluateConfig, "num_calibration")
@setting(EvaluateConfig, "block_size")
@setting(EvaluateConfig, "seed")
@setting(EvaluateConfig, "accuracy", group="Annealed importance sampling")
@setting(EvaluateConfig, "local", group="Local optimization")
@setting(EvaluateConfig, "local_steps", group="Local optimization")
@setting(EvaluateConfig, "local_objective", group="Local optimization")
@setting(EvaluateConfig, "local_families", group="Local optimization")
@grouped(
    "Parts of the work",
    "--shard",
    type=_ShardType(),
    help="Do only the i-th of n parts of the work; write no report.",
)
@grouped(
    "Parts of the work",
    "--merge",
    is_flag=True,
    help="Compute nothing; write the report from the results of all shards.",
)
@grouped(
    "Convergence",
    "--convergence",
    is_flag=True,
    help="Compare numbers of temperatures instead; print a table and draw a plot (which needs the "
    "extra plot).",
)
@grouped(
    "Convergence",
    "--convergence-temperatures",
    type=ListType(int),
    callback=_require_growing,
    default=CONVERGENCE_TEMPERATURES,
    show_default=True,
    help="Numbers of temperatures that --convergence compares.",
)
@outside_options
@data_dir_option
@engine_option
@track_option
@threads_option
@json_option("the report")
def evaluate(
    run_dir: Path | None,
    shard: tuple[int, int] | None,
    merge: bool,
    convergence: bool,
    convergence_temperatures: tuple[int, ...],
    data_dir: Path | None,
    engine: str,
    track: tuple[str, ...],
    threads: int | None,
    as_json: bool,
    **settings: Any,
) -> int:
    """Estimate the ELBO, the log-likelihood and the gap between them, with errors and a bracket.

    The same command resumes where it was stopped. The report is written to evaluation.json in
    RUN_DIR, the values of each example to evaluation.npz. A model that was trained elsewhere needs
    no RUN_DIR: give --model and --dataset.
    """
    source = take_source(run_dir, settings)
    if track and run_dir is None:
        raise click.UsageError("--track is for a run of train; give RUN_DIR in place of --model.")
    if shard and merge:
        raise click.UsageError(
            "--shard does a part of the work and --merge none; give one of them."
        )
    refuse_ignored(settings["local"], convergence)
    if settings["accuracy"] is not None and convergence:
        raise click.UsageError(
            "--accuracy chooses the number of temperatures; give it without --convergence."
        )
    refuse_needless(settings)
    config = build_config(settings, CONVERGENCE_EXAMPLES if convergence else NUM_EXAMPLES)
    from .progress.evaluation import make_block_reporter

    reporter = make_block_reporter()
    note = f"Stopped; results are kept in {source.folder}. Run the same command again to continue."
    with stop_at_once(lambda: reporter.stop(note)):
        with reporter.loading_tensorflow(threads):
            from tfp_smvi.engines.opening import open_engine
            from tfp_smvi.evaluation.blocks import Shard

        work = functools.partial(
            _measure_convergence if convergence else _evaluate,
            source.make(),
            config,
            data_dir=data_dir,
            shard=Shard(*shard) if shard else None,
            merge=merge,
            reporter=reporter,
        )
        opening = open_engine(engine, threads=threads, note=reporter.note)
        with opening as runner, reporter, tracking(track, source.folder, reporter):
            outcome = work(*[convergence_temperatures] * convergence, engine=runner)
    if outcome is None:
        reporter.note("This part is done. When all are, run the same command with --merge.")
        return 0
    _print_outcome(outcome, source.folder, reporter, as_json)
    return 0


class _Outcome(NamedTuple):
    """What a kind of evaluation found, and how it is shown."""

    result: Record
    table: str
    warnings: list[str]
    files: str


def _print_outcome(
    outcome: _Outcome, folder: Path, reporter: "BlockReporter", as_json: bool
) -> None:
    for warning in outcome.warnings:
        reporter.warn(warning)
    if as_json:
        echo_json(outcome.result.to_json())
    else:
        click.echo(outcome.table)
        click.echo(f"Everything is in {folder}: {outcome.files}.")


def _evaluate(
    source: "Path | OutsideModel", config: EvaluateConfig, **arguments: Any
) -> _Outcome | None:
    from tfp_smvi.evaluation.pipeline import evaluate
    from tfp_smvi.evaluation.table import format_evaluation
    from tfp_smvi.evaluation.warnings import warnings_about

    result = evaluate(source, config, **arguments)
    if result is None:
        return None
    # Here their settings have the names of options; those of the run are shown at the start.
    texts = warnings_about(result.splits, result.bracket, result.settings, result.calibration)
    warnings = [name_fields(text, option_name) for text in texts]
    return _Outcome(
        result, format_evaluation(result), warnings, "evaluation.json and evaluation.npz"
    )


def _measure_convergence(
    source: "Path | OutsideModel",
    config: EvaluateConfig,
    num_temperatures: tuple[int, ...],
    **arguments: Any,
) -> _Outcome | None:
    from tfp_smvi.evaluation.convergence import measure_convergence, warnings_about
    from tfp_smvi.evaluation.convergence_table import format_convergence
    from tfp_smvi.report.convergence_figure import write_convergence_figure

    result = measure_convergence(source, config, num_temperatures, **arguments)
    if result is None:
        return None
    folder = Path(source if isinstance(source, Path) else source.output)
    write_convergence_figure(result, folder / "convergence.png")
    texts = warnings_about(result.splits, result.brackets, result.settings)
    warnings = [name_fields(text, option_name) for text in texts]
    files = "convergence.json and convergence.png"
    return _Outcome(result, format_convergence(result), warnings, files)
