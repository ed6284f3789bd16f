"""Options made from the fields of the configuration, with their defaults and help."""

import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from tfp_smvi.config import (
    CONSTRAINTS,
    AISConfig,
    ClassifyConfig,
    DataConfig,
    EvaluateConfig,
    FeaturesConfig,
    ModelConfig,
    RunConfig,
    SweepConfig,
    TrainConfig,
)
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.text import parse_real
from tfp_smvi.storage.json_files import read_json

from .groups import GENERAL, grouped

__all__ = [
    "ListType",
    "build_config",
    "config_options",
    "data_dir_option",
    "help_of",
    "is_given",
    "is_setting",
    "one_of",
    "option_name",
    "setting",
    "threads_option",
    "usage_error",
]

Command = TypeVar("Command", bound=Callable[..., Any])

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of prepared data sets.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, 1 << 16), help="CPU threads.  [default: one per core]"
)


# The groups that the options of settings are listed in.
GROUPS: dict[Any, str] = {
    DataConfig: "Data",
    ModelConfig: "Model",
    TrainConfig: "Training",
    EvaluateConfig: "Evaluation",
    AISConfig: "Annealed importance sampling",
    ClassifyConfig: "Classification",
    SweepConfig: "Sweep",
    FeaturesConfig: "Requests",
}


# Options of one command alone that are not settings in a file.
_OWN = {"formats", "key", "label", "label_column", "part", "refine", "version", "weights"}


class ListType(click.ParamType):  # type: ignore[type-arg]  # click 8.1 takes no type argument
    """Values of one kind with commas between, such as 1024,1024.

    Args:
        kind: float, int or str.
        allowed: the values; None for any of the kind.
    """

    def __init__(self, kind: type, allowed: Sequence[str] | None = None) -> None:
        """Finds the words for the kind."""
        self._parse = parse_real if kind is float else kind
        self._what, self._example = _LISTS[kind]
        self.name = "names" if kind is str else "numbers"
        self._allowed = allowed
        if allowed is not None:
            self._what, self._example = f"some of {', '.join(allowed)},", ",".join(allowed[:2])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Splits the text."""
        if isinstance(value, list | tuple):
            return tuple(value)
        try:
            values = tuple(self._parse(part) for part in str(value).split(","))
        except ValueError:
            values = ()
        if not values or (self._allowed is not None and {*values} - {*self._allowed}):
            self.fail(
                f"{value!r} is not a list of {self._what} such as {self._example}.", param, ctx
            )
        return values


# The words for the items of a list, and an example.
_LISTS: dict[type, tuple[str, str]] = {
    float: ("numbers", "0,0.1,0.5"),
    int: ("whole numbers", "100,200"),
    str: ("names", "a,b"),
}


class _Real(click.types.FloatParamType):
    """A number, which is infinite only by its name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reads the text."""
        number = super().convert(value, param, ctx)
        try:
            return parse_real(value) if isinstance(value, str) else number
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


def help_of(config: Any, name: str) -> str:
    """The help text of a field of a configuration."""
    text: str = config.__dataclass_fields__[name].metadata["help"]
    return text


def setting(config: Any, name: str, **overrides: Any) -> Callable[[Any], Any]:
    """Makes the option of one field of a configuration, with its name, type, default and help.

    Args:
        config: the dataclass.
        name: the field.
        overrides: arguments of click.option that differ from what follows from the field, and
            `group`, the title of the group in the help.
    """
    field, hint = config.__dataclass_fields__[name], typing.get_type_hints(config)[name]
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    origin, default = typing.get_origin(hint), field.default
    assert default is not MISSING
    kind: Any = _Real() if hint is float else hint
    if origin is tuple:
        item = typing.get_args(hint)[0]
        names = typing.get_args(item) if typing.get_origin(item) is Literal else None
        kind = ListType(str if names else item, names)
        default = default and ",".join(str(item).removesuffix(".0") for item in default)
    elif origin is Literal:
        kind = click.Choice(typing.get_args(hint))
    options = {"type": kind, "default": default, "show_default": default is not None}
    if hint is bool:
        options = {"is_flag": True}
    settings = {**options, "help": help_of(config, name), **overrides}
    group = settings.pop("group", GROUPS.get(config, GENERAL))
    return grouped(group, "--" + name.replace("_", "-"), name, **settings)


def config_options(command: Command) -> Command:
    """Adds an option for each field of RunConfig, and --config for a file of them."""
    config_file = click.option(
        "--config",
        "config_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=_load_config_file,
        help="JSON file of settings, such as a run's config.json; other options override it.",
    )
    decorated: Any = command
    for section, name in reversed(list(_config_fields())):
        shown = {"metavar": "METRIC"} if name == "early_stopping" else {}  # it has many choices
        decorated = setting(section, name, **shown)(decorated)
    return config_file(decorated)


def build_config(values: Mapping[str, object]) -> RunConfig:
    """Makes the configuration from the options' values.

    Raises:
        click.UsageError: a value is out of its range.
    """
    values = one_of(values, ("lam", *CONSTRAINTS))
    sections = {
        section: {field.name: values[field.name] for field in fields(kind)}
        for section, kind in typing.get_type_hints(RunConfig).items()
    }
    try:
        config = RunConfig.from_json(sections)
        config.train.require_stopping_metric()
    except SMVIError as error:
        raise usage_error(error) from error
    require_flow(config.model)
    return config


def require_flow(config: ModelConfig) -> None:
    """Raises UsageError if an option of the flow was given, and q(z|x) is none."""
    for name in ("flow_layers", "flow_transform"):
        if is_given(name) and config.posterior != "flow":
            raise click.UsageError(
                f"{option_name(name)} is for --posterior flow, and the posterior is "
                f"{config.posterior}; give both."
            )


def one_of(values: Mapping[str, object], names: Sequence[str]) -> dict[str, object]:
    """The options' values if of some options one alone has a meaning.

    One that is given on the command line replaces another one of a --config file.

    Raises:
        click.UsageError: more than one is given on the command line.
    """
    context = click.get_current_context()
    given = [name for name in names if is_given(name)]
    if len(given) > 1:
        both = " and ".join(map(option_name, given))
        raise click.UsageError(f"{both} exclude each other; give one of them.", context)
    others = {
        option.name: option.type_cast_value(context, option.default)
        for option in context.command.params
        if option.name in names
    }
    return {
        name: others[name] if given and name in names and name not in given else value
        for name, value in values.items()
    }


def is_given(name: str) -> bool:
    """Whether the option is in the command that runs, and not only in a --config file."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def _config_fields() -> Iterator[tuple[Any, str]]:
    """Yields (dataclass, name) of all fields of a run's configuration."""
    for kind in typing.get_type_hints(RunConfig).values():
        for field in fields(kind):
            yield kind, field.name


def _load_config_file(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Makes the file's settings the defaults of the other options."""
    if path is None:
        return
    try:
        values = read_json(path)
        config = RunConfig.from_json(
            values.get("config", values) if isinstance(values, dict) else values
        )
    except (OSError, ValueError) as error:
        raise click.UsageError(
            f"--config = {str(path)!r} is not a JSON object of settings ({error}); "
            "give a file such as a run's config.json.",
            ctx,
        ) from error
    except SMVIError as error:
        raise click.UsageError(f"{path}: {error}", ctx) from error
    ctx.default_map = {
        name: value for section in config.to_json().values() for name, value in section.items()
    }


def option_name(field: str, command: click.Command | None = None) -> str:
    """The option or argument of a field: "batch_size" -> "--batch-size".

    Args:
        field: the field.
        command: the command that has it; None for the one that runs.
    """
    context = click.get_current_context(silent=True)
    command = command or (context.command if context else None)
    for parameter in command.params if command else ():
        if parameter.name == field:
            is_option = isinstance(parameter, click.Option)
            return parameter.opts[0] if is_option else parameter.human_readable_name
    return "--" + field.replace("_", "-")


def is_setting(field: str | None) -> bool:
    """Whether an error of this field is of a setting, and not of a file, a run or a server."""
    return field in _OWN or any(field in kind.__dataclass_fields__ for kind in GROUPS)


def usage_error(error: SMVIError, **names: str) -> click.UsageError:
    """Makes the usage error, with exit code 2, of a value that the library refuses.

    Args:
        error: the library's error.
        names: the options of fields whose names differ from their option.
    """
    message = error.render(lambda field: names.get(field) or option_name(field))
    return click.UsageError(message, click.get_current_context(silent=True))
