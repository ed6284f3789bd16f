"""tfp-smvi serve."""

from collections.abc import Callable
from typing import Any

import click

from tfp_smvi.config import ServeConfig
from tfp_smvi.errors import SMVIError

from .options import as_option

__all__ = ["serve"]


def _option(name: str, **options: Any) -> Callable[[Any], Any]:
    """An option with the default and the help of a field of the configuration."""
    field = ServeConfig.__dataclass_fields__[name]
    shown = field.default not in (None, (), False)
    return click.option(
        "--" + name.replace("_", "-"),
        **{"default": field.default, "show_default": shown, "help": field.metadata["help"], **options},
    )


@click.command()
@_option("models", metavar="FOLDER")
@_option("model_name", metavar="NAME")
@_option("num_versions", type=int)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=VERSION",
    help=ServeConfig.__dataclass_fields__["labels"].metadata["help"],
)
@_option("host", metavar="ADDRESS")
@_option("grpc_port", type=int)
@_option("rest_port", type=int)
@_option("docker", is_flag=True)
@_option("wait", type=float)
@click.option(
    "--dry-run", is_flag=True, help="Write the server's files and print its command; start nothing."
)
def serve(dry_run: bool, **settings: Any) -> int:
    """Serve exported models with TF Serving, until Ctrl-C.

    Runs tensorflow_model_server from the PATH, or else its Docker image. The server's files and its log are in the
    folder _server beside the models.
    """
    try:
        config = ServeConfig(**settings)
    except SMVIError as error:
        raise click.UsageError(as_option(str(error)).replace("--labels", "--label")) from error
    from tfp_smvi.server import serve as run
    from tfp_smvi.server_plan import plan_server

    def note(line: str) -> None:
        click.echo(line, err=True)

    plan = plan_server(config)
    if dry_run:
        plan.write_files()
        note(f"Its files are in {plan.folder}; nothing is started.")
        click.echo(plan.shell_command)
        return 0
    if plan.bind == "0.0.0.0":
        note(
            "Warning: the server listens on all interfaces, without a password; --docker keeps it to 127.0.0.1."
        )
    note(f"Starting {plan.command[0]} with {', '.join(plan.models)}")
    run(plan, note=note, ready=lambda text: click.echo(text + "\nStop it with Ctrl-C."))
    return 0
