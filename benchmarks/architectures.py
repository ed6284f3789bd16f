"""Compares the test ELBO of the architectures after the same time of training on MNIST, at lam 0.

    python benchmarks/architectures.py [--minutes 8] [--threads 1] [--output FILE.json]

The trainings take turns of about 40 seconds, so that a change of the machine's speed affects both.
A turn continues a run by some epochs; what counts is the time of its epochs, with their tests, and
not that of starting TensorFlow.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from training_step import processor

ARCHITECTURES = ("dense", "conv")
TURN_SECONDS = 40.0


def records(run_dir: Path) -> list[dict[str, Any]]:
    """The epochs of a run."""
    path = run_dir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def turn(run_dir: Path, architecture: str, options: argparse.Namespace) -> None:
    """Continues a run by as many epochs as take about TURN_SECONDS."""
    done = records(run_dir)
    # The first epoch after a start compiles the step.
    per_epoch = min((record["seconds"] for record in done), default=TURN_SECONDS)
    epochs = len(done) + max(1, round(TURN_SECONDS / per_epoch))
    command = ["--architecture", architecture, "--run-dir", str(run_dir), "--lam", "0"]
    command += ["--epochs", str(epochs), "--threads", str(options.threads)]
    command += ["--seed", str(options.seed)]
    program = [sys.executable, "-m", "tfp_smvi_cli", "train", *command]
    subprocess.run(program, check=True, capture_output=True)


def after(done: list[dict[str, Any]], seconds: float) -> dict[str, Any] | None:
    """The last epoch that ended within a time of training; None if there was too little."""
    total, last = 0.0, None
    for record in done:
        total += record["seconds"]
        if total > seconds:
            return last
        last = record
    return None


def main() -> None:
    """Runs the comparison and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="of training, for each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    budget = 60.0 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        run_dirs = {name: Path(folder) / name for name in ARCHITECTURES}
        while left := [n for n, path in run_dirs.items() if after(records(path), budget) is None]:
            for name in left:
                turn(run_dirs[name], name, options)
        done = {name: records(path) for name, path in run_dirs.items()}
    rows = []
    for share in (0.25, 0.5, 1.0):
        row: dict[str, Any] = {"minutes": share * options.minutes}
        for name in ARCHITECTURES:
            record = after(done[name], share * budget)
            if record is not None:
                row[name] = {"epochs": record["epoch"], **record["test"]}
        rows.append(row)
    machine = f"{processor()}, {options.threads} thread{'s' * (options.threads != 1)}"
    result = {"date": datetime.date.today().isoformat(), "machine": machine, "rows": rows}
    print(f"{machine}, {result['date']}: test ELBO in nats (epochs)")
    for row in rows:
        cells = (
            f"{name} {row[name]['elbo']:.2f} ({row[name]['epochs']})" for name in ARCHITECTURES
        )
        print(f"{row['minutes']:6.1f} minutes  " + "  ".join(cells))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
