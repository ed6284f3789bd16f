"""Compares the training step with PyTorch, JAX and parts of its own, and a whole epoch.

    python benchmarks/training_step.py [--threads 2] [--rounds 30] [--epochs 2] [--output FILE.json]

needs the extra `bench` (PyTorch, JAX), unless `--contestants` leaves them out. First the losses and
gradients of all are compared, in float32 and on a small model. Every contestant has its
own process. They take turns, a few steps each, so that a change of the machine's speed affects all
of them. Times are medians over the rounds, ratios medians of the ratios within a round.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contestants import MAKERS, difference, keep_to_cores, this_package
from step import LAM, Task

STEPS = 20  # in a turn
REST = 0.3  # seconds between turns: idle threads of a contestant spin for a while
SHARE = "share_of_matrix_products"
PEERS = ("torch", "torch.compile", "jax")
PRECISIONS = ("float32", "bfloat16")
CONTESTANTS = (
    *(f"{kind} {precision}" for precision in PRECISIONS for kind in ("tfp_smvi", *PEERS)),
    *(f"products {precision}" for precision in PRECISIONS),
    "adam float32",
)
# A small model whose losses and gradients are compared, and how far those in float32 may differ.
SMALL = {"batch": 16, "pixels": 28 * 28, "hidden": 32, "latent": 4}
TOLERANCE = 1e-4


def work(name: str, threads: int, batch: int) -> None:
    """The process of a contestant: one turn for each line of input."""
    kind, precision = name.split()
    keep_to_cores(threads)
    turn = MAKERS[kind](Task(precision, threads, batch))
    turn(2)
    print("ready", flush=True)
    for _ in sys.stdin:
        turn(2)  # fills the caches again
        print(turn(STEPS), flush=True)


def check(names: Iterable[str]) -> None:
    """Ends the comparison if a peer does not take the same step; each is asked in a process."""
    for kind in sorted({name.split()[0] for name in names} & {*PEERS}):
        command = [sys.executable, __file__, "--check", kind]
        deviation = float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        if not deviation < TOLERANCE:
            raise SystemExit(f"{kind} has another loss or other gradients, by {deviation:.1e}")


class Contestant:
    """The parent's end of a process that runs `work`."""

    def __init__(self, name: str, threads: int, batch: int) -> None:
        """Starts the process and waits until it is warm."""
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, __file__, "--work", name]
        command += ["--threads", str(threads), "--batch-size", str(batch)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        if self._read() != "ready":
            raise SystemExit(f"{name} did not start; is the extra `bench` installed?")

    def turn(self) -> float:
        """Seconds per step."""
        time.sleep(REST)
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._read())

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


class _EpochTimer:
    """A reporter that records the times at the ends of epochs, and times bare steps there."""

    def __init__(self, bare: Callable[[int], float]) -> None:
        self.turns: list[list[float]] = []
        self.marks: list[tuple[float, float]] = []
        self._bare = bare

    def begin(self, *arguments: Any) -> None:
        self._pause()

    def progress(self, progress: Any) -> None: ...
    def note(self, message: str) -> None: ...
    def warn(self, message: str) -> None: ...

    def epoch(self, record: Any) -> None:
        self._pause()

    def _pause(self) -> None:
        arrived = time.perf_counter()
        self._bare(2)
        self.turns.append([self._bare(STEPS) for _ in range(8)])
        self.marks.append((arrived, time.perf_counter()))


def measure_epoch(threads: int, epochs: int) -> dict[str, float]:
    """Compares whole epochs of training on MNIST with the same number of bare steps.

    Bare steps are timed before, between and after the epochs. The time of an epoch includes data,
    metrics, log and checkpoint. The pass over the test set is also timed separately.
    """
    bare = this_package(Task("float32", threads))
    from tfp_smvi.config import DataConfig, RunConfig, TrainConfig
    from tfp_smvi.data import load_dataset
    from tfp_smvi.training.loop import fit
    from tfp_smvi.training.trainer import Trainer

    test_seconds: list[float] = []
    run_test = Trainer.test

    def timed_test(*arguments: Any) -> Any:
        started = time.perf_counter()
        result = run_test(*arguments)
        test_seconds.append(time.perf_counter() - started)
        return result

    timer = _EpochTimer(bare)
    config = RunConfig(DataConfig("mnist"), train=TrainConfig(lam=LAM, epochs=epochs + 1))
    with (
        tempfile.TemporaryDirectory() as folder,
        unittest.mock.patch.object(Trainer, "test", timed_test),
    ):
        fit(config, load_dataset("mnist"), Path(folder) / "run", reporter=timer)
    # The first epoch includes the compilation and is left out.
    turns, marks = timer.turns, timer.marks
    rows = np.array(
        [
            (
                marks[i + 1][0] - marks[i][1],
                test_seconds[i],
                60_000 // Task().batch * np.median(turns[i] + turns[i + 1]),
            )
            for i in range(1, epochs + 1)
        ]
    )
    epoch, test, steps = rows.T
    return {
        "epoch_seconds": float(np.median(epoch)),
        "test_seconds": float(np.median(test)),
        "epoch_over_bare_steps": float(np.median(epoch / steps)),
        "epoch_without_test_over_bare_steps": float(np.median((epoch - test) / steps)),
    }


def compare(names: Sequence[str], threads: int, batch: int, num_rounds: int) -> dict[str, Any]:
    """Lets the contestants take turns."""
    contestants = {name: Contestant(name, threads, batch) for name in names}
    rounds = [{name: c.turn() for name, c in contestants.items()} for _ in range(num_rounds)]
    for contestant in contestants.values():
        contestant.process.terminate()

    def ratio(first: str, second: str) -> float | None:
        if not {first, second} <= contestants.keys():
            return None
        return float(np.median([r[first] / r[second] for r in rounds]))

    seconds = {name: float(np.median([r[name] for r in rounds])) for name in contestants}
    ratios = {
        f"{precision}_over_{peer}": ratio(f"tfp_smvi {precision}", f"{peer} {precision}")
        for precision in PRECISIONS
        for peer in PEERS
    }
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.processor() or platform.machine()}, {processor()}, "
        f"{threads} threads",
        "batch_size": batch,
        "step_milliseconds": {name: 1e3 * value for name, value in seconds.items()},
        **ratios,
        "bfloat16_over_float32": ratio("tfp_smvi bfloat16", "tfp_smvi float32"),
        "step_gflop": gflop(batch),
        SHARE: ratio("products float32", "tfp_smvi float32"),
    }
    return {name: value for name, value in result.items() if value is not None}


def gflop(batch: int) -> float:
    """The operations of a step's matrix products, in 1e9."""
    products = Task(batch=batch).products()
    return 1e-9 * sum(2 * m * k * n * count for (m, k, n), count in products.items())


def show(result: Mapping[str, Any]) -> None:
    """Prints the times, and all ratios."""
    print(f"{result['machine']}, {result['date']}")
    for name, milliseconds in result["step_milliseconds"].items():
        rate = (
            "" if name.startswith("adam") else f"{1e3 * result['step_gflop'] / milliseconds:9.0f}"
        )
        print(f"  {name:<22}{milliseconds:8.1f} ms a step{rate and f'{rate} GFLOP/s'}")
    for name, value in result.items():
        if "_over_" in name or name == SHARE:
            print(f"  {name:<36}{value:6.3f}")


def main() -> None:
    """Runs the comparison and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument(
        "--epochs", type=int, default=2, help="whole epochs to time; 0 leaves them out"
    )
    parser.add_argument("--contestants", nargs="+", default=CONTESTANTS, choices=CONTESTANTS)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--check", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.check:
        print(difference(options.check, Task(**SMALL)))
        return
    if options.work:
        work(options.work, options.threads, options.batch_size)
        return
    check(options.contestants)
    result = compare(options.contestants, options.threads, options.batch_size, options.rounds)
    if options.epochs:
        result |= measure_epoch(options.threads, options.epochs)
    show(result)
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def processor() -> str:
    """The processor's name with family and model, as some names are those of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown processor"
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    values = {key.strip(): value.strip() for key, value in facts.items()}
    name = values.get("model name", "unknown processor")
    return f"{name}, family {values.get('cpu family')}, model {values.get('model')}"


if __name__ == "__main__":
    main()
