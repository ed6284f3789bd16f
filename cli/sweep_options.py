"""The options of tfp-smvi sweep and the configuration that they stand for."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from tfp_smvi.config import CONSTRAINTS, ClassifyConfig, EvaluateConfig, SweepConfig
from tfp_smvi.config.base import Settings
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.storage.json_files import read_json

from .classify import classify
from .evaluate import evaluate
from .evaluation_options import refuse_needless
from .options import help_of, is_given, one_of, require_flow, usage_error
from .train import train

__all__ = [
    "build_sweep_config",
    "config_file_option",
    "shared_options",
]

# In a click context: the configuration that the options change.
BASE = "tfp_smvi.sweep.base"

Section = TypeVar("Section", bound=Settings)


def config_file_option() -> Callable[[Any], Any]:
    """Makes --config, whose settings become the defaults of the other options."""
    return click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=_load_config_file,
        help="JSON file of settings, such as the sweep.json of another sweep; other options "
        "override it.",
    )


def shared_options(own: set[str | None]) -> Iterator[click.Parameter]:
    """Yields the options of train, evaluate and classify that are settings of a sweep's runs.

    Args:
        own: the names of the sweep's own options, which take precedence.
    """
    # The grid gives lam and the seed of training; evaluation and labels keep their seeds, so that
    # runs can be compared.
    settings = _option_values(SweepConfig()).keys() - {"seed", "lam", *CONSTRAINTS}
    names = {*settings, "data_dir", "checkpoint_minutes"} - own
    for command in (train, evaluate, classify):
        for option in command.params:
            if option.name in names:
                names.discard(option.name)  # data_dir is there more than once
                shared = copy.copy(option)
                if isinstance(shared, click.Option) and option.name in ("split", "num_examples"):
                    shared.default = getattr(SweepConfig().evaluate, option.name)
                    shared.help, shared.show_default = help_of(EvaluateConfig, option.name), True
                yield shared


def build_sweep_config(context: click.Context, values: Mapping[str, object]) -> SweepConfig:
    """Makes the configuration from that of the file, or the default one, and the options' values.

    Raises:
        click.UsageError: a value is out of its range.
    """
    refuse_needless(values)
    if not values["with_classification"] and is_given("classify_every"):
        raise click.UsageError("--classify-every classifies; give it without --no-classify.")
    base: SweepConfig = context.meta[BASE]
    if values["num_examples"] == -1:  # the option's value for all
        values = {**values, "num_examples": None}
    try:
        sections = {
            f.name: _overlay(getattr(base.train, f.name), values) for f in fields(base.train)
        }
        ais = _overlay(base.evaluate.ais, values)
        evaluation = dataclasses.replace(_overlay(base.evaluate, values), ais=ais)
        classification = None
        if values["with_classification"]:
            classification = _overlay(base.classify or ClassifyConfig(), values)
        values = one_of(values, ("lams", "target_gaps"))
        names = ("classify_every", "lams", "target_gaps", "seeds")
        own = {name: values[name] for name in names}
        run = dataclasses.replace(base.train, **sections)
        config = SweepConfig(run, evaluation, classification, **own)  # type: ignore[arg-type]
    except SMVIError as error:
        # Those of a single run are not options here.
        raise usage_error(
            error, lam="--lams", target_gap="--target-gaps", seed="--seeds"
        ) from error
    require_flow(run.model)
    return config


def _overlay(section: Section, values: Mapping[str, object]) -> Section:
    """The settings with the values of those that are options."""
    names = [f.name for f in fields(section) if f.name in values]  # type: ignore[arg-type]
    return dataclasses.replace(section, **{name: values[name] for name in names})  # type: ignore[type-var]


def _load_config_file(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Makes the file's settings the defaults of the options."""
    config = SweepConfig()
    if path is not None:
        try:
            config = SweepConfig.from_summary(read_json(path))
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise click.UsageError(f"{path} is not a JSON object of settings: {error}") from error
        except SMVIError as error:
            raise click.UsageError(f"{path}: {error}") from error
    ctx.meta[BASE] = config
    ctx.default_map = {
        name: value for name, value in _option_values(config).items() if value is not None
    }


def _option_values(config: SweepConfig) -> dict[str, object]:
    """The options' values that stand for a configuration."""
    values = config.all_values()
    classification, evaluation = values.pop("classify"), values.pop("evaluate")
    options = {name: v for section in values.pop("train").values() for name, v in section.items()}
    options |= evaluation.pop("ais") | evaluation | (classification or {}) | values
    options |= {
        "with_classification": classification is not None,
        "num_examples": evaluation["num_examples"] or "all",
    }
    return options
