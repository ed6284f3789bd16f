"""Which options of an evaluation go together, and the configuration that they make."""

from collections.abc import Mapping
from typing import Any

import click

from tfp_smvi.config import AISConfig, EvaluateConfig
from tfp_smvi.core.errors import SMVIError

from .options import is_given, option_name, usage_error

__all__ = ["build_config", "refuse_ignored", "refuse_needless"]


def refuse_ignored(local: bool, convergence: bool) -> None:
    """Raises UsageError if an option was given that this kind of evaluation does not take."""
    if convergence and is_given("num_temperatures"):
        problem = "--num-temperatures is not for --convergence"
        raise click.UsageError(f"{problem}; give --convergence-temperatures.")
    if not convergence and is_given("convergence_temperatures"):
        raise click.UsageError("--convergence-temperatures is for --convergence; give both.")
    if convergence and local:
        raise click.UsageError("--local is not for --convergence; give one of them.")


def refuse_needless(settings: Mapping[str, object]) -> None:
    """Raises UsageError if an option was given that others leave without effect; also of a sweep.

    Args:
        settings: the options' values by name.
    """
    for name in ("local_steps", "local_objective", "local_families"):
        if not settings["local"] and is_given(name):
            raise click.UsageError(f"{option_name(name)} is for --local; give both.")
    if settings["accuracy"] is not None and is_given("num_temperatures"):
        raise click.UsageError(
            "--accuracy chooses the number of temperatures; give it without --num-temperatures."
        )


def build_config(settings: dict[str, Any], num_examples: int | None) -> EvaluateConfig:
    """Makes the configuration from the options' values."""
    given = settings.pop("num_examples")
    settings["num_examples"] = num_examples if given is None else None if given < 0 else given
    names = AISConfig.__dataclass_fields__
    ais = {name: settings.pop(name) for name in list(settings) if name in names}
    try:
        return EvaluateConfig(ais=AISConfig(**ais), **settings)
    except SMVIError as error:
        raise usage_error(error) from error
