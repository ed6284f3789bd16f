"""The entry point: finds the command, and turns every failure into one line and an exit code."""

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import click

from tfp_smvi.errors import SMVIError
from tfp_smvi.version import __version__

__all__ = ["COMMANDS", "main"]

# name: (module, help); the module is imported when its command is called.
COMMANDS = {
    "train": ("train", "Train a model into a run directory, or go on with one."),
    "evaluate": ("evaluate", "Estimate log-likelihoods and the ELBO gap of a run."),
    "datasets": ("datasets", "List the data sets at hand."),
}


class _LazyGroup(click.Group):
    """A group that imports a command's module only when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names, in the order of a user's work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f".{COMMANDS[cmd_name][0]}", __package__)
        return getattr(module, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tfp-smvi")
def cli() -> None:
    """Score-matching variational inference: trade likelihood for inference in deep latent variable models.

    Start with: tfp-smvi train --lam 0.5
    """


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 1 failure, 2 usage, 128 + n stopped by signal n."""
    with _stop_signals():
        code = _run(arguments)
    sys.exit(code)


class _Stopped(BaseException):
    """A signal came where the library does not mind it, such as while TensorFlow loads."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextlib.contextmanager
def _stop_signals() -> Iterator[None]:
    """Lets SIGINT and SIGTERM end the program in order; long commands handle them in their own way."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped(number)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _run(arguments: list[str] | None) -> int:
    try:
        code: Any = cli.main(arguments, prog_name="tfp-smvi", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except SMVIError as error:
        click.echo(f"Error: {error}", err=True)
        return 1
    except (_Stopped, click.Abort) as stop:
        click.echo("Stopped.", err=True)
        return 128 + getattr(stop, "signum", signal.SIGINT)
    except BrokenPipeError:
        # The reader of our output is gone; Python must not try to flush to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0
