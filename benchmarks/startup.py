"""Measures what a command costs before its work begins: imports, and the tracing of graphs.

    python benchmarks/startup.py [--rounds 5] [--size digits] [--commands features ...]

Each command runs in a fresh process. The commands take turns, so that a change of the machine's
speed affects all of them. Times are medians over the rounds. The imports are those of
TensorFlow and TFP as the commands load them, timed in a process of their own; the rest is the
median of the differences within a round. CPU time is that of all threads and child processes.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

PYTHON = sys.executable
CLI = [PYTHON, "-m", "tfp_smvi_cli"]
BARE, IMPORTS = "bare imports", "imports"
# The digits have 64 pixels; the other images are of the size of MNIST's, in a file.
SIZES = {
    "digits": ["--latent-dim", "4", "--hidden-sizes", "32,32"],
    "mnist": [],
}
# Of an evaluation: as little work as possible.
SMALL = [
    *("--num-examples", "1", "--num-chains", "2", "--num-temperatures", "10"),
    *("--num-pilot-chains", "2", "--num-pilot-temperatures", "10", "--num-elbo-samples", "2"),
    *("--num-divergence-samples", "2", "--num-importance-samples", "2", "--num-simulated", "1"),
    *("--num-calibration", "20"),
]


class Cost(NamedTuple):
    """What a process took, in seconds."""

    wall: float
    cpu: float

    def __sub__(self, other: "Cost") -> "Cost":
        """Returns the differences."""
        return Cost(self.wall - other.wall, self.cpu - other.cpu)


def run(command: list[str], folder: Path) -> Cost:
    """Runs a command in a folder and measures it."""
    started = time.perf_counter()
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        text = (folder / "log.txt").read_text(encoding="utf-8")
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{text}")
    return Cost(time.perf_counter() - started, usage.ru_utime + usage.ru_stime)


def prepare(folder: Path, size: str) -> None:
    """Trains a sweep of one run for one epoch, exports it, and writes ten images."""
    rng = np.random.default_rng(0)
    shape = (8, 8) if size == "digits" else (28, 28)
    images = rng.integers(0, 256, (200, *shape), dtype=np.uint8)
    np.save(folder / "ten.npy", images[:10])
    np.savez(folder / "data.npz", x_train=images[:150], x_test=images[150:])
    dataset = "digits" if size == "digits" else "data.npz"
    options = ["--dataset", dataset, *SIZES[size], "--epochs", "1", "--sweep-dir", "sweep"]
    run([*CLI, "sweep", "--lams", "0.5", *options, *SMALL, "--no-classify"], folder)
    run([*CLI, "export", "sweep/lam0.5-seed0", "--model-name", "model", "--no-verify"], folder)


def commands() -> Mapping[str, list[str]]:
    """The commands by name, from the cheapest."""
    bare = "import tensorflow, tensorflow_probability"
    ours = "from tfp_smvi.core.startup import quiet_tensorflow; quiet_tensorflow()"
    run_dir = "sweep/lam0.5-seed0"
    return {
        "python": [PYTHON, "-c", ""],
        "serve": [*CLI, "serve", "--dry-run", "--docker"],
        "plot": [*CLI, "plot", "sweep", "--format", "png"],
        "report": [*CLI, "report", "sweep"],
        BARE: [PYTHON, "-c", bare],
        IMPORTS: [PYTHON, "-c", ours],
        "features": [
            *(*CLI, "features", "ten.npy", "--model", "saved_models/model"),
            *("--output", "features.npz", "--fresh"),
        ],
        "export, not verified": [*CLI, "export", run_dir, "--model-name", "quick", "--no-verify"],
        "export": [*CLI, "export", run_dir, "--model-name", "new"],
        "evaluate": [*CLI, "evaluate", run_dir, *SMALL, "--seed", "{round}"],
    }


def measure(size: str, names: list[str], rounds: int) -> None:
    """Prints the table of one size."""
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        prepare(folder, size)
        for number in range(rounds):
            for name in names:
                command = [part.replace("{round}", str(number + 1)) for part in commands()[name]]
                costs[name].append(run(command, folder))
    print(f"{size}, {rounds} rounds; seconds{'wall':>15}{'CPU':>8}{'the rest:':>12} wall     CPU")
    for name in names:
        line = f"  {name:<30}{_medians(costs[name])}"
        if IMPORTS in costs and list(commands()).index(name) > list(commands()).index(IMPORTS):
            rest = [cost - other for cost, other in zip(costs[name], costs[IMPORTS], strict=True)]
            line += f"{'':9}{_medians(rest)}"
        print(line, flush=True)


def _medians(costs: list[Cost]) -> str:
    return "".join(f"{statistics.median(values):8.2f}" for values in zip(*costs, strict=True))


def main() -> None:
    """Measures the commands and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--commands", nargs="+", choices=commands(), default=list(commands()))
    options = parser.parse_args()
    for size in options.size:
        measure(size, options.commands, options.rounds)


if __name__ == "__main__":
    main()
