"""The options of tfp-smvi evaluate for a model without a training run."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from tfp_smvi.config import DataConfig
from tfp_smvi.config.model import require_function_name
from tfp_smvi.core.errors import SMVIError

from .groups import grouped
from .options import is_given, option_name, setting, usage_error

if TYPE_CHECKING:
    from tfp_smvi.evaluation.outside import OutsideModel

__all__ = ["Source", "outside_options", "take_source"]

Command = TypeVar("Command", bound=Callable[..., Any])

GROUP = "Without a training run"
_DATA = [field.name for field in fields(DataConfig)]
_OWN = ("model", "output", "binarize")


class Source(NamedTuple):
    """What is to be evaluated.

    Attributes:
        folder: the folder of the results.
        make: returns the run directory, or the model without a run; loads TensorFlow.
    """

    folder: Path
    make: "Callable[[], Path | OutsideModel]"


def outside_options(command: Command) -> Command:
    """Adds --model, the options of its data and results, and those of train for data."""
    decorated: Any = command
    for name in reversed(_DATA):
        overrides = {"default": None, "show_default": False} if name == "dataset" else {}
        decorated = setting(DataConfig, name, group=GROUP, **overrides)(decorated)
    for option in (
        grouped(
            GROUP,
            "--binarize",
            is_flag=True,
            help="Draw bits from intensities in [0, 1], as train does for bernoulli.",
        ),
        grouped(
            GROUP,
            "--output",
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder of the results.  [default: runs/<dataset>-<function>]",
        ),
        grouped(
            GROUP,
            "--model",
            help="In place of RUN_DIR: a function of your own that returns a model, as "
            "package.module:function; it is imported from the Python path or the current folder.",
        ),
    ):
        decorated = option(decorated)
    return decorated


def take_source(run_dir: Path | None, values: dict[str, Any]) -> Source:
    """Takes these options out of the options' values, and checks them before TensorFlow loads.

    Args:
        run_dir: the argument.
        values: the options' values by name; those of `outside_options` are removed.

    Raises:
        click.UsageError: they do not go together, or a value is out of its range.
    """
    own = {name: values.pop(name) for name in _OWN}
    data = {name: values.pop(name) for name in _DATA}
    if own["model"] is None:
        given = [name for name in (*_OWN, *_DATA) if is_given(name)]
        if given:
            remedy = "give both" if run_dir is None else "give --model in place of RUN_DIR"
            raise click.UsageError(f"{option_name(given[0])} is for --model; {remedy}.")
        if run_dir is None:
            raise click.UsageError("give RUN_DIR, or --model and --dataset.")
        path = run_dir
        return Source(path, lambda: path)
    try:
        require_function_name(own["model"])
    except SMVIError as error:
        raise usage_error(error) from error
    if run_dir is not None:
        raise click.UsageError(
            "--model is evaluated without RUN_DIR; give one of them, and --output for the results."
        )
    if data["dataset"] is None:
        raise click.UsageError("--model needs --dataset, the data to evaluate it on; give both.")
    try:
        config = DataConfig(**data)
    except SMVIError as error:
        raise usage_error(error) from error
    output = own["output"] or _default_output(own["model"], config)

    def make() -> "OutsideModel":
        from tfp_smvi.evaluation.outside import OutsideModel

        return OutsideModel(own["model"], config, output, own["binarize"])

    return Source(output, make)


def _default_output(model: str, data: DataConfig) -> Path:
    """Such as runs/digits-my_model.build."""
    name = Path(data.dataset).stem if data.is_file else data.dataset.replace("/", "-")
    return Path("runs") / f"{name}-{model.replace(':', '.')}"
