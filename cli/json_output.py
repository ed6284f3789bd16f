"""--json: a result that programs read, alone on stdout."""

import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any

import click

__all__ = ["echo_json", "json_option"]

# Where the stdout of a command with --json is kept.
_STDOUT = f"{__name__}.stdout"


def json_option(what: str) -> Callable[[Any], Any]:
    """Adds --json, with which stdout holds what `echo_json` prints alone.

    All else goes to stderr, such as what a model of the user's prints.

    Args:
        what: what is printed, for the help.
    """
    text = f"Print {what} as JSON on stdout."
    return click.option("--json", "as_json", is_flag=True, callback=_take_stdout, help=text)


def _take_stdout(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    if value and not ctx.resilient_parsing:
        ctx.meta[_STDOUT] = sys.stdout
        ctx.with_resource(contextlib.redirect_stdout(sys.stderr))
    return value


def echo_json(value: object, indent: int | None = None) -> None:
    """Prints the result of a command with --json."""
    stdout = click.get_current_context().meta[_STDOUT]
    click.echo(json.dumps(value, indent=indent), file=stdout)
