"""tfp-smvi plot."""

from pathlib import Path

import click

__all__ = ["plot"]


@click.command()
@click.argument("sweep_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the figures.  [default: SWEEP_DIR/figures]",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["png", "pdf", "both"]),
    default="both",
    show_default=True,
    help="PNG at 200 dots per inch (for a paper 300), PDF, or both.",
)
@click.option(
    "--style",
    type=click.Choice(["screen", "paper"]),
    default="screen",
    show_default=True,
    help="paper: a paper's widths and serif fonts, and the tables as .tex files (booktabs).",
)
@click.option(
    "--columns",
    type=click.IntRange(1, 2),
    help="Width in columns of a page; in one, panels are stacked. For a paper, 3.25 or 6.75 "
    "inches.  [default: 2; for a paper 1]",
)
def plot(
    sweep_dir: Path, output: Path | None, file_format: str, style: str, columns: int | None
) -> None:
    """Draw the figures of a sweep, or of an evaluated run.

    Those of a sweep: gap, likelihood and accuracy against lam, training, images. Runs that are not
    done are left out and listed. So are figures that the results do not allow. That of a run, in
    place of SWEEP_DIR: its calibration.
    """
    from tfp_smvi.report.figures import plot_sweep
    from tfp_smvi.report.run_figures import is_evaluated_run, plot_run
    from tfp_smvi.sweeps.results import read_sweep

    formats = ("png", "pdf") if file_format == "both" else (file_format,)
    directory = output or sweep_dir / "figures"
    if is_evaluated_run(sweep_dir):
        for path in plot_run(sweep_dir, directory, formats, style=style, columns=columns):
            click.echo(path)
        return
    sweep = read_sweep(sweep_dir)
    result = plot_sweep(sweep, directory, formats, style=style, columns=columns)
    for path in result.files:
        click.echo(path)
    for line in sweep.left_out:
        click.echo(f"Left out: {line}", err=True)
    for name, needs in result.missing.items():
        click.echo(f"Not drawn: {name}: {needs}", err=True)
