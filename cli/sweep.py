"""tfp-smvi sweep."""

import copy
import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from tfp_smvi.config import ClassifyConfig, EvaluateConfig, SweepConfig
from tfp_smvi.core.errors import SMVIError

from .classify import classify
from .evaluate import evaluate
from .options import usage_error
from .train import train

__all__ = ["sweep"]

# Of a click context: the settings that the options change, as JSON.
BASE = "tfp_smvi.sweep.base"


class _Numbers(click.ParamType):  # type: ignore[type-arg]  # click 8.1 takes no type argument
    """Numbers with commas between."""

    def __init__(self, kind: type[float] | type[int], example: str) -> None:
        """Takes numbers of one kind."""
        self._kind, self._example = kind, example
        self.name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Splits the text."""
        if isinstance(value, list | tuple):
            return tuple(value)
        try:
            return tuple(self._kind(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list such as {self._example}.", param, ctx)


def _load_config_file(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Makes the file's settings the defaults of the options."""
    config = SweepConfig()
    if path is not None:
        try:
            config = SweepConfig.from_summary(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise click.UsageError(f"{path} is not a JSON object of settings: {error}") from error
        except SMVIError as error:
            raise click.UsageError(f"{path}: {error}") from error
    ctx.meta[BASE] = config.to_json()
    ctx.default_map = _defaults(config)


def _grid_option(name: str, kind: _Numbers) -> Callable[[Any], Any]:
    default = ",".join(f"{value:g}" for value in getattr(SweepConfig(), name))
    return click.option(
        f"--{name}", type=kind, default=default, show_default=True, help=_help(name)
    )


def _help(name: str) -> str:
    return SweepConfig.__dataclass_fields__[name].metadata["help"]


@click.command()
@_grid_option("lams", _Numbers(float, "0,0.1,0.5"))
@_grid_option("seeds", _Numbers(int, "0,1,2"))
@click.option(
    "--sweep-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the runs and the summary live; runs/<dataset>-sweep unless given.",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=_load_config_file,
    help="JSON file of settings, such as the sweep.json of another sweep; options given beside it win.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Runs to work on at once.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="CPU threads of each run; the cores divided by --jobs unless given.",
)
@click.option(
    "--classify/--no-classify",
    "with_classification",
    help="Whether to classify at all; data without labels need --no-classify.",
)
@click.option(
    "--classify-every",
    type=int,
    metavar="N",
    help=_help("classify_every"),
)
@click.option(
    "--redo",
    is_flag=True,
    help="Evaluate and classify again where their settings are others than before; without it, these are refused.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the summary as JSON on stdout, without the epochs.",
)
@click.pass_context
def sweep(
    ctx: click.Context,
    /,
    sweep_dir: Path | None,
    jobs: int,
    threads: int | None,
    data_dir: Path | None,
    checkpoint_minutes: float,
    redo: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Train, evaluate and classify at each lam and seed; the options of the three commands hold for all runs.

    A run directory each, lam<LAM>-seed<SEED>, and one summary, sweep.json and sweep.csv. The same
    command again goes on where it was stopped and tries again what failed; more lams, seeds and
    epochs can be added.
    """
    config = _build_config(ctx.meta[BASE], values)
    sweep_dir = sweep_dir or _default_directory(config)
    from tfp_smvi.sweeps import driver as library

    from .sweep_progress import format_runs, make_sweep_reporter

    reporter = make_sweep_reporter()
    try:
        with reporter:
            summary = library.sweep(
                sweep_dir,
                config,
                jobs=jobs,
                threads=threads,
                data_dir=data_dir,
                checkpoint_minutes=checkpoint_minutes,
                command=["tfp-smvi", *sys.argv[1:]],
                redo=redo,
                reporter=reporter,
            )
    except library.SweepInterrupted as stop:
        reporter.note(
            f"Stopped by {signal.Signals(stop.signum).name}; what is done is kept in {sweep_dir}."
        )
        reporter.note("Run the same command again to go on.")
        return 128 + stop.signum
    asked = [
        e for e in summary["runs"] if float(e["lam"]) in config.lams and e["seed"] in config.seeds
    ]
    failed = [entry for entry in asked if entry["status"] != "done"]
    if as_json:
        runs = [{name: v for name, v in e.items() if name != "history"} for e in summary["runs"]]
        click.echo(json.dumps(summary | {"runs": runs}))
    else:
        click.echo(format_runs(summary["runs"]))
        click.echo(f"All of it is in {sweep_dir}: sweep.json and sweep.csv.")
    for entry in failed:
        click.echo(f"Error: {entry['run_dir']} failed: {entry['error']}", err=True)
    return 1 if failed else 0


def _build_config(base: Mapping[str, Any], values: Mapping[str, Any]) -> SweepConfig:
    """Makes the configuration from that of the file, or the default one, and the options' values."""
    settings = {name: values[name] for name in ("lams", "seeds", "classify_every")}
    settings["train"] = {name: _overlay(section, values) for name, section in base["train"].items()}
    settings["evaluate"] = _overlay(base["evaluate"], values) | {
        "ais": _overlay(base["evaluate"]["ais"], values)
    }
    # The option says -1 for all.
    settings["evaluate"]["num_examples"] = (
        None if values["num_examples"] == -1 else values["num_examples"]
    )
    settings["classify"] = None
    if values["with_classification"]:
        settings["classify"] = _overlay(base["classify"] or ClassifyConfig().to_json(), values)
    try:
        return SweepConfig.from_json(settings)
    except SMVIError as error:
        # Those of a single run are not options here.
        raise usage_error(error, lam="--lams", seed="--seeds") from error


def _overlay(section: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values.get(name, value) for name, value in section.items()}


def _defaults(config: SweepConfig) -> dict[str, Any]:
    """The options' values that stand for a configuration."""
    values = config.to_json()
    classify, evaluate = values.pop("classify"), values.pop("evaluate")
    defaults = {name: v for section in values.pop("train").values() for name, v in section.items()}
    defaults |= evaluate.pop("ais") | evaluate | (classify or {}) | values
    defaults |= {
        "with_classification": classify is not None,
        "num_examples": evaluate["num_examples"] or "all",
    }
    return {name: value for name, value in defaults.items() if value is not None}


def _default_directory(config: SweepConfig) -> Path:
    """Such as runs/mnist-sweep."""
    from tfp_smvi.runs.directory import run_directory_name

    name = run_directory_name(config.run(0.0, 0)).removesuffix("-lam0-seed0")
    return Path("runs") / f"{name}-sweep"


def _shared_options() -> Iterator[click.Parameter]:
    """Yields the options of the three commands that are settings of a sweep's runs."""
    # The grid gives lam and the seed of training; evaluation and labels keep theirs, so that runs
    # can be compared.
    settings = _defaults(SweepConfig()).keys() - {"seed", "lam"}
    own = {param.name for param in sweep.params}
    names = {*settings, "likelihood", "data_dir", "checkpoint_minutes"} - own
    for command in (train, evaluate, classify):
        for option in command.params:
            if option.name in names:
                names.discard(option.name)  # data_dir is there more than once
                shared = copy.copy(option)
                if isinstance(shared, click.Option) and option.name in ("split", "num_examples"):
                    field = EvaluateConfig.__dataclass_fields__[option.name]
                    shared.default = getattr(SweepConfig().evaluate, option.name)
                    shared.help, shared.show_default = field.metadata["help"], True
                yield shared


sweep.params.extend(_shared_options())
