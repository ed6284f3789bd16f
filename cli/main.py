"""The entry point: finds the command, and turns each failure into one line and an exit code."""

import difflib
import functools
import importlib
import os
import signal
import sys
from typing import Any

import click

from tfp_smvi.core.errors import NotFoundError, SMVIError, plain_reason, shorten_words
from tfp_smvi.core.signals import handle_stop_signals
from tfp_smvi.version import __version__

from .options import is_setting, option_name
from .stopping import Stopped, raise_stopped
from .streams import prepare_streams
from .terminal import leave_closed_terminal

__all__ = ["COMMANDS", "main"]

# name: (module, help); the module is imported when its command is called.
COMMANDS = {
    "train": ("train", "Train a model into a run directory, or continue a run."),
    "evaluate": (
        "evaluate",
        "Estimate log-likelihoods and the ELBO gap of a run or another model.",
    ),
    "classify": ("classify", "Classify with few labels: a run's features against baselines."),
    "sweep": ("sweep", "Train, evaluate and classify over a grid of lam and seeds."),
    "plot": ("plot", "Draw the figures of a sweep, or of an evaluated run."),
    "report": ("report", "Write a page about a sweep: figures, tables, warnings, settings."),
    "export": ("export", "Publish a run's model for TF Serving, or check a published one."),
    "serve": ("serve", "Serve exported models with TF Serving."),
    "features": (
        "features",
        "Write the features of many examples to a file: from an export or a server.",
    ),
    "datasets": ("datasets", "List the data sets that are known by name."),
}


class _LazyGroup(click.Group):
    """A group that imports a command's module only when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names, in the order of a user's work."""
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command; for one that does not exist the error names the nearest ones."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS)
            hint = (
                f"did you mean {' or '.join(near)}?"
                if near
                else f"give one of {', '.join(COMMANDS)}."
            )
            raise click.UsageError(f"There is no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f".{COMMANDS[cmd_name][0]}", __package__)
        return getattr(module, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; errors of the library name its options and arguments."""
        try:
            return super().invoke(ctx)
        except SMVIError as error:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            message = error.render(functools.partial(option_name, command=command))
            is_usage = isinstance(error, NotFoundError) or is_setting(error.field)
            kind = click.UsageError if is_usage else click.ClickException
            raise kind(message) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tfp-smvi")
def cli() -> None:
    """Score-matching variational inference for deep latent variable models.

    It trades likelihood for inference, by the weight lam of a divergence in the objective.

    Start with: tfp-smvi train --lam 0.5
    """


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 1 failure, 2 usage, 128 + n stopped by signal n."""
    prepare_streams()
    with handle_stop_signals(raise_stopped):  # long commands handle them by themselves
        try:
            code = _run(arguments)
        except Stopped as stopped:  # by a second signal, while the first one was reported
            code = 128 + stopped.signum
    sys.exit(code)


def _run(arguments: list[str] | None) -> int:
    try:
        code: Any = cli.main(arguments, prog_name="tfp-smvi", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.message = shorten_words(error.message)  # type: ignore[misc]  # of its class alone
        error.show()
        return error.exit_code
    except (Stopped, click.Abort) as stop:
        leave_closed_terminal()
        click.echo("Stopped.", err=True)
        return 128 + getattr(stop, "signum", signal.SIGINT)
    except Exception as error:
        line = _explain(error)
        if line is None:
            raise
        if isinstance(error, OSError) and error.filename is None:
            # The output is lost or has no reader; Python must not try to flush it again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            click.echo(f"Error: {shorten_words(line)}", err=True)
        return 1
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> str | None:
    """Returns the message for the user; None if the failure is a defect of this program."""
    if isinstance(error, SMVIError):
        return error.render(option_name)
    if isinstance(error, OSError):
        return f"{error.filename or 'the output'}: {plain_reason(error)}."
    # TensorFlow's error is known by its name, because importing it takes seconds.
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return "there is not enough memory; choose a smaller model, batch or number of chains."
    return None
