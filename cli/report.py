"""tfp-smvi report."""

from pathlib import Path

import click

__all__ = ["report"]


@click.command()
@click.argument("sweep_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of the page.  [default: SWEEP_DIR/report.html]",
)
def report(sweep_dir: Path, output: Path | None) -> None:
    """Write a page about a sweep: figures, tables, warnings, settings and command in one HTML file.

    It needs no network and no other file. Runs that are not done are left out and listed.
    """
    from tfp_smvi.report.page import write_report
    from tfp_smvi.sweeps.results import read_sweep

    path = output or sweep_dir / "report.html"
    write_report(read_sweep(sweep_dir), path)
    click.echo(path)
