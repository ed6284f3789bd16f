"""Compares the posteriors on MNIST: ELBO, log p(x) and the gap between them, with paired errors.

    python benchmarks/posteriors.py [--epochs 50] [--lams 0,0.01] [--activation silu] [--runs DIR]

Each cell is a run of `tfp-smvi train` and `evaluate` with seed 0. All runs evaluate the same images
with the same draws of their bits, so that differences from `diagonal` are paired. A run that exists
is resumed or reused. On two cores all six take about two hours.
"""

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from training_step import processor

POSTERIORS = ("diagonal", "full", "flow")
VALUES = ("elbo", "log_likelihood", "gap")


def run(*arguments: object) -> None:
    """Runs the command line."""
    program = [sys.executable, "-m", "tfp_smvi_cli", *map(str, arguments)]
    subprocess.run(program, check=True)


def measure(run_dir: Path, posterior: str, lam: str, options: argparse.Namespace) -> dict[str, Any]:
    """Trains and evaluates one model; the values of each image, and what holds for all."""
    train = ("--posterior", posterior, "--lam", lam, "--epochs", options.epochs)
    train += ("--activation", options.activation)
    precision = ("--precision", options.precision, "--threads", options.threads)
    run("train", *train, *precision, "--run-dir", run_dir)
    images = ("--num-examples", options.num_examples, "--num-simulated", 100)
    run("evaluate", run_dir, "--threads", options.threads, *images)
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    bracket = json.loads((run_dir / "evaluation.json").read_text())["bracket"]
    with np.load(run_dir / "evaluation.npz") as arrays:
        values = {name: arrays[f"test_{name}"] for name in VALUES[:2]}
    values["gap"] = values["log_likelihood"] - values["elbo"]
    seconds = sum(record["seconds"] for record in records)
    elbo_of_all = records[-1]["test"]["elbo"]
    return {"values": values, "elbo_of_all": elbo_of_all, "bracket": bracket, "seconds": seconds}


def mean(values: np.ndarray) -> dict[str, float]:
    """The mean and its standard error over the images."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    return {"mean": float(values.mean()), "standard_error": float(error)}


def row(result: dict[str, Any], diagonal: dict[str, Any]) -> dict[str, Any]:
    """Means, and means of the differences from the diagonal posterior."""
    values, others = result.pop("values"), diagonal
    means = {name: mean(values[name]) for name in VALUES}
    differences = {name: mean(values[name] - others[name]) for name in VALUES}
    return result | {"means": means, "minus_diagonal": differences}


def main() -> None:
    """Runs the comparison and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--lams", type=lambda text: text.split(","), default=["0", "0.01"])
    parser.add_argument("--num-examples", type=int, default=500)
    parser.add_argument("--activation", default="silu")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/posteriors"))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = {}
    for lam in options.lams:
        results = {
            posterior: measure(options.runs / f"{posterior}-lam{lam}", posterior, lam, options)
            for posterior in POSTERIORS
        }
        diagonal = results["diagonal"]["values"]
        rows |= {f"{name}, lam {lam}": row(result, diagonal) for name, result in results.items()}
    machine = f"{processor()}, {options.threads} thread{'s' * (options.threads != 1)}"
    settings = {"epochs": options.epochs, "num_examples": options.num_examples}
    result = {"date": datetime.date.today().isoformat(), "machine": machine, **settings}
    print(f"{machine}, {options.epochs} epochs, {options.num_examples} test images, in nats")
    for name, values in rows.items():
        print(name)
        for part in ("means", "minus_diagonal"):
            cells = (
                f"{key} {v['mean']:.2f} +- {v['standard_error']:.2f}"
                for key, v in values[part].items()
            )
            print(f"  {part:15}", "  ".join(cells))
    if options.output:
        options.output.write_text(json.dumps({**result, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
