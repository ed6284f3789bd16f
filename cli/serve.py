"""tfp-smvi serve."""

from typing import Any

import click

from tfp_smvi.config import ServeConfig
from tfp_smvi.core.errors import SMVIError

from .options import setting, usage_error

__all__ = ["serve"]


@click.command()
@setting(ServeConfig, "models", metavar="FOLDER")
@setting(ServeConfig, "model_name", metavar="NAME")
@setting(ServeConfig, "num_versions")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=VERSION",
    help=ServeConfig.__dataclass_fields__["labels"].metadata["help"],
)
@setting(ServeConfig, "host", metavar="ADDRESS")
@setting(ServeConfig, "grpc_port")
@setting(ServeConfig, "rest_port")
@setting(ServeConfig, "docker")
@setting(ServeConfig, "wait")
@click.option(
    "--dry-run", is_flag=True, help="Write the server's files and print its command; start nothing."
)
def serve(dry_run: bool, **settings: Any) -> int:
    """Serve exported models with TF Serving, until Ctrl-C.

    Runs its Docker image; with --host 0.0.0.0 it runs tensorflow_model_server if that is on the
    PATH, as it always listens on all addresses. The files and the log of the server are in the
    folder _server beside the models.
    """
    try:
        config = ServeConfig(**settings)
    except SMVIError as error:
        raise usage_error(error) from error
    from tfp_smvi.core.text import printable
    from tfp_smvi.serving import server
    from tfp_smvi.serving.plan import plan_server

    def note(line: str) -> None:
        click.echo(printable(line), err=True)

    plan = plan_server(config)
    for line in plan.notes:
        note(line)
    if dry_run:
        server.write_files(plan)
        note(f"The files of the server are in {plan.folder}; nothing is started.")
        click.echo(plan.shell_command)
        return 0
    note(f"Starting {plan.command[0]} with {', '.join(plan.models)}")
    server.serve(plan, note=note, ready=lambda text: click.echo(text + "\nStop it with Ctrl-C."))
    return 0
