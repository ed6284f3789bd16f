"""tfp-smvi evaluate."""

import functools
import json
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from tfp_smvi.config import AISConfig, EvaluateConfig, LocalFamily
from tfp_smvi.core.errors import SMVIError, name_fields
from tfp_smvi.core.records import Record
from tfp_smvi.core.text import is_whole

from .groups import GroupedCommand, grouped
from .options import data_dir_option, help_of, option_name, setting, threads_option, usage_error
from .stopping import stop_at_once

if TYPE_CHECKING:
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


class _Families(click.ParamType):  # type: ignore[type-arg]
    """Names of families, with commas between."""

    name = "name,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Splits the text."""
        names = tuple(value.split(",") if isinstance(value, str) else value)
        allowed = typing.get_args(LocalFamily)
        if {*names} - {*allowed} or len({*names}) != len(names):
            self.fail(f"{value!r} is not a list of some of {', '.join(allowed)}.", param, ctx)
        return names


class _Temperatures(click.ParamType):  # type: ignore[type-arg]
    """Whole numbers that grow, with commas between."""

    name = "n,n,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Splits the text."""
        parts = str(value).split(",")
        numbers = [int(part) for part in parts if is_whole(part.strip())]
        if (
            len(numbers) != len(parts)
            or len(numbers) < 2
            or numbers[0] < 1
            or numbers != sorted({*numbers})
        ):
            self.fail(
                f"{value!r} is not a growing list of at least two numbers such as 10,32,100.",
                param,
                ctx,
            )
        return tuple(numbers)


@click.command(cls=GroupedCommand)
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path))
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
@setting(EvaluateConfig, "seed")
@setting(EvaluateConfig, "accuracy", group="Annealed importance sampling")
@setting(EvaluateConfig, "local", group="Local optimization")
@setting(EvaluateConfig, "local_steps", group="Local optimization")
@setting(EvaluateConfig, "local_objective", group="Local optimization")
@setting(
    EvaluateConfig,
    "local_families",
    group="Local optimization",
    type=_Families(),
    default=",".join(EvaluateConfig().local_families),
)
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
    help="Compare numbers of temperatures instead; print a table and draw a plot.",
)
@grouped(
    "Convergence",
    "--convergence-temperatures",
    type=_Temperatures(),
    default=CONVERGENCE_TEMPERATURES,
    show_default=True,
    help="Numbers of temperatures that --convergence compares.",
)
@data_dir_option
@threads_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout.")
def evaluate(
    run_dir: Path,
    shard: tuple[int, int] | None,
    merge: bool,
    convergence: bool,
    convergence_temperatures: tuple[int, ...],
    data_dir: Path | None,
    threads: int | None,
    as_json: bool,
    **settings: Any,
) -> int:
    """Estimate the ELBO, the log-likelihood and the gap between them, with errors and a bracket.

    The same command resumes where it was stopped. The report is written to evaluation.json in
    RUN_DIR, the values of each example to evaluation.npz.
    """
    if shard and merge:
        raise click.UsageError(
            "--shard does a part of the work and --merge none; give one of them."
        )
    _refuse_ignored(settings["local"], convergence)
    if settings["accuracy"] is not None and (convergence or _is_given("num_temperatures")):
        other = "--convergence" if convergence else "--num-temperatures"
        raise click.UsageError(
            f"--accuracy chooses the number of temperatures; give it without {other}."
        )
    config = _build_config(settings, CONVERGENCE_EXAMPLES if convergence else NUM_EXAMPLES)
    from .progress.evaluation import make_block_reporter

    reporter = make_block_reporter()
    message = f"Stopped; results are kept in {run_dir}. Run the same command again to continue."
    with stop_at_once(lambda: reporter.stop(message)):
        with reporter.loading_tensorflow(threads):
            from tfp_smvi.evaluation.blocks import Shard

        work = functools.partial(
            _measure_convergence if convergence else _evaluate,
            run_dir,
            config,
            data_dir=data_dir,
            shard=Shard(*shard) if shard else None,
            merge=merge,
            reporter=reporter,
        )
        with reporter:
            outcome = work(convergence_temperatures) if convergence else work()
    if outcome is None:
        reporter.note("This part is done. When all are, run the same command with --merge.")
        return 0
    _print_outcome(outcome, run_dir, reporter, as_json)
    return 0


class _Outcome(NamedTuple):
    """What a kind of evaluation found, and how it is shown."""

    result: Record
    table: str
    warnings: list[str]
    files: str


def _print_outcome(
    outcome: _Outcome, run_dir: Path, reporter: "BlockReporter", as_json: bool
) -> None:
    for warning in outcome.warnings:
        reporter.warn(warning)
    if as_json:
        click.echo(json.dumps(outcome.result.to_json()))
    else:
        click.echo(outcome.table)
        click.echo(f"Everything is in {run_dir}: {outcome.files}.")


def _evaluate(run_dir: Path, config: EvaluateConfig, **arguments: Any) -> _Outcome | None:
    from tfp_smvi.evaluation.pipeline import evaluate
    from tfp_smvi.evaluation.table import format_evaluation
    from tfp_smvi.evaluation.warnings import warnings_about

    result = evaluate(run_dir, config, **arguments)
    if result is None:
        return None
    # Here their settings have the names of options; those of the run are shown at the start.
    texts = warnings_about(result.splits, result.bracket, result.settings, result.calibration)
    warnings = [name_fields(text, option_name) for text in texts]
    return _Outcome(
        result, format_evaluation(result), warnings, "evaluation.json and evaluation.npz"
    )


def _measure_convergence(
    run_dir: Path, config: EvaluateConfig, num_temperatures: tuple[int, ...], **arguments: Any
) -> _Outcome | None:
    from tfp_smvi.evaluation.convergence import measure_convergence, warnings_about
    from tfp_smvi.evaluation.convergence_table import format_convergence
    from tfp_smvi.report.convergence_figure import write_convergence_figure

    result = measure_convergence(run_dir, config, num_temperatures, **arguments)
    if result is None:
        return None
    write_convergence_figure(result, run_dir / "convergence.png")
    texts = warnings_about(result.splits, result.brackets, result.settings)
    warnings = [name_fields(text, option_name) for text in texts]
    files = "convergence.json and convergence.png"
    return _Outcome(result, format_convergence(result), warnings, files)


def _is_given(name: str) -> bool:
    """Whether the option is in the command."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def _refuse_ignored(local: bool, convergence: bool) -> None:
    """Raises UsageError if an option was given that this kind of evaluation does not take."""
    if convergence and _is_given("num_temperatures"):
        raise click.UsageError(
            "--num-temperatures is not for --convergence; give --convergence-temperatures."
        )
    if not convergence and _is_given("convergence_temperatures"):
        raise click.UsageError("--convergence-temperatures is for --convergence; give both.")
    if convergence and local:
        raise click.UsageError("--local is not for --convergence; give one of them.")
    for name in ("local_steps", "local_objective", "local_families"):
        if not local and _is_given(name):
            raise click.UsageError(f"{option_name(name)} is for --local; give both.")


def _build_config(settings: dict[str, Any], num_examples: int | None) -> EvaluateConfig:
    """Makes the configuration from the options' values."""
    given = settings.pop("num_examples")
    settings["num_examples"] = num_examples if given is None else None if given < 0 else given
    names = AISConfig.__dataclass_fields__
    ais = {name: settings.pop(name) for name in list(settings) if name in names}
    try:
        return EvaluateConfig(ais=AISConfig(**ais), **settings)
    except SMVIError as error:
        raise usage_error(error) from error
