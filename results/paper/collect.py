"""Keeps of a sweep what this folder publishes, also of one that still runs.

    python collect.py SWEEP_DIR NAME

writes NAME/sweep.json and NAME/sweep.csv here, without the folder of the sweep and host names, and
of each run that is done the ELBO and log p(x) of each image, for paired differences, and what the
figures need. Runs that are not done are left out; the next call adds them.
"""

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import click
import numpy as np

from tfp_smvi.storage.arrays import read_arrays
from tfp_smvi.storage.atomic import write_json
from tfp_smvi.storage.json_files import read_json
from tfp_smvi.sweeps.results import read_sweep, write_summary

FOLDER = Path(__file__).parent
KEPT = re.compile(r"(train|test)_(elbo|log_likelihood|worst_\w+)|calibration_\w+")


@click.command()
@click.argument("sweep_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("name")
def main(sweep_dir: Path, name: str) -> None:
    """Copies what is published."""
    sweep, target = read_sweep(sweep_dir), FOLDER / name
    target.mkdir(exist_ok=True)
    write_summary(target, dataclasses.replace(sweep.summary, runs=sweep.finished))
    path = target / "sweep.json"
    write_json(path, _cleaned(read_json(path), str(sweep_dir), name))
    for entry in sweep.finished:
        source, folder = sweep.run_path(entry), target / entry.run_dir
        folder.mkdir(exist_ok=True)
        arrays = read_arrays(source / "evaluation.npz")
        selection = {key: array for key, array in arrays.items() if KEPT.fullmatch(key)}
        np.savez_compressed(folder / "evaluation.npz", **selection)
        shutil.copy(source / "gallery.npz", folder)
        click.echo(f"{entry.run_dir} is in {folder.relative_to(FOLDER)}.")


def _cleaned(value: Any, folder: str, name: str) -> Any:
    if isinstance(value, dict):
        named = ("hostname", "hosts")
        return {k: _cleaned(v, folder, name) for k, v in value.items() if k not in named}
    if isinstance(value, list):
        return [_cleaned(item, folder, name) for item in value]
    return value.replace(folder, name) if isinstance(value, str) else value


if __name__ == "__main__":
    main()
