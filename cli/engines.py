"""The option of commands whose work a cluster can do."""

from typing import Any

import click

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.engines.addresses import ENGINE_TEXTS, LOCAL, check_address

__all__ = ["engine_option"]


class _EngineType(click.ParamType):  # type: ignore[type-arg]  # click 8.1 takes no type argument
    """This machine, or the address of a cluster."""

    name = "engine"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Checks the text."""
        if value != LOCAL:
            try:
                check_address(value)
            except SMVIError:
                self.fail(f"{value!r} is not an engine; give {ENGINE_TEXTS}.", param, ctx)
        return value


# Give its value to `tfp_smvi.engines.opening.open_engine`.
engine_option = click.option(
    "--engine",
    type=_EngineType(),
    default=LOCAL,
    show_default=True,
    help="Where to work: local, or the scheduler of a Dask cluster: tcp://HOST:PORT, "
    "tls://HOST:PORT or file:/PATH/scheduler.json.",
)
