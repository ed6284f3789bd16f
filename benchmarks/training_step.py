"""Compares the training step with PyTorch, with its matrix products, and with a whole epoch.

    python benchmarks/training_step.py [--threads 2] [--rounds 30] [--epochs 2] [--output FILE.json]

needs the extra `bench` (PyTorch), unless `--contestants` leaves it out. Every contestant has its
own process. They take turns, a few steps each, so that a change of the machine's speed affects all
of them. Times are medians over the rounds, ratios medians of the ratios within a round.
"""

import argparse
import datetime
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
import unittest.mock
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BATCH, PIXELS, HIDDEN, LATENT, LAM, CLIP = 128, 784, 1024, 50, 0.5, 1000.0
Turn = Callable[[int], float]  # takes steps and returns the seconds of one
STEPS = 20  # in a turn
REST = 0.3  # seconds between turns: idle threads of a contestant spin for a while
CONTESTANTS = (
    "tensorflow float32",
    "torch float32",
    "tensorflow bfloat16",
    "torch bfloat16",
    "products float32",
)


def products() -> Counter[tuple[int, int, int]]:
    """The step's matrix products [m, k] x [k, n] -> [m, n], and how often each occurs.

    Each layer has three: forward, the gradient with respect to the input, and the gradient with
    respect to the weights. The decoder has all of them twice, once for the score and once for its
    gradient. The encoder's first layer needs no gradient with respect to its input.
    """
    counts: Counter[tuple[int, int, int]] = Counter()

    def layer(inputs: int, outputs: int, forward: int, to_input: int, to_weights: int) -> None:
        counts[BATCH, inputs, outputs] += forward
        counts[BATCH, outputs, inputs] += to_input
        counts[inputs, BATCH, outputs] += to_weights

    layer(PIXELS, HIDDEN, 1, 0, 1)
    layer(HIDDEN, HIDDEN, 1, 1, 1)
    layer(HIDDEN, 2 * LATENT, 1, 1, 1)
    for inputs, outputs in ((LATENT, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, PIXELS)):
        layer(inputs, outputs, 2, 2, 2)
    return counts


def tensorflow_step(precision: str, threads: int) -> Turn:
    """The package's own step, on one batch in memory."""
    from tfp_smvi.core.runtime import quiet_tensorflow, set_threads

    quiet_tensorflow()
    set_threads(threads)
    import tensorflow as tf

    from tfp_smvi.config import ModelConfig, TrainConfig
    from tfp_smvi.models.vae import VAE
    from tfp_smvi.training.trainer import Trainer

    config = TrainConfig(lam=LAM, precision=precision, clip_norm=CLIP, lam_warmup_steps=0)
    trainer = Trainer(VAE(ModelConfig(likelihood="bernoulli"), (28, 28, 1)), config, 468)
    x = tf.constant((np.random.default_rng(0).random((BATCH, 28, 28, 1)) < 0.13).astype(np.float32))
    batches = iter(tf.data.Dataset.from_tensors(x).repeat())

    def turn(steps: int) -> float:
        started = time.perf_counter()
        trainer.train(batches, steps)
        return (time.perf_counter() - started) / steps

    return turn


def torch_step(precision: str, threads: int) -> Turn:
    """The same step in PyTorch, eager, with its fused Adam and its clipping."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)

    def network(inputs: int, outputs: int) -> nn.Sequential:
        hidden = [
            nn.Linear(inputs, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.SiLU(),
        ]
        return nn.Sequential(*hidden, nn.Linear(HIDDEN, outputs))

    encoder, decoder = network(PIXELS, 2 * LATENT), network(LATENT, PIXELS)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    adam = torch.optim.Adam(parameters, 1e-3, fused=True)
    x = torch.from_numpy(
        (np.random.default_rng(0).random((BATCH, PIXELS)) < 0.13).astype(np.float32)
    )

    def step() -> None:
        adam.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            mean, h = encoder(x).float().chunk(2, -1)
            stddev = nn.functional.softplus(h + math.log(math.e - 1.0)) + 1e-4
            z = mean + stddev * torch.randn_like(mean)
            logits = decoder(z).float()
        reconstruction = (x * logits - nn.functional.softplus(logits)).sum(-1)
        (score,) = torch.autograd.grad(
            (reconstruction - 0.5 * (z**2).sum(-1)).sum(), z, create_graph=True
        )
        divergence = ((score + (z - mean) / stddev**2) ** 2).sum(-1)
        kl = (0.5 * (mean**2 + stddev**2 - 1.0) - stddev.log()).sum(-1)
        (-(reconstruction - kl - LAM * divergence).mean()).backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        adam.step()

    def turn(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            step()
        return (time.perf_counter() - started) / steps

    return turn


def bare_products(precision: str, threads: int) -> Turn:
    """Only the step's matrix products, each on separate operands that are not transposed."""
    from tfp_smvi.core.runtime import quiet_tensorflow, set_threads

    quiet_tensorflow()
    set_threads(threads)
    import tensorflow as tf

    shapes = list(products().elements())
    operands = [
        (tf.Variable(tf.random.normal([m, k])), tf.Variable(tf.random.normal([k, n])))
        for m, k, n in shapes
    ]

    @tf.function
    def run(steps: tf.Tensor) -> tf.Tensor:
        total = tf.zeros([])
        for _ in tf.range(steps):
            # One element of each product is added up, so that no product is optimized away and no
            # step skipped.
            total += tf.add_n([tf.matmul(a, b)[0, 0] for a, b in operands]) + 0.0 * total
        return total

    def turn(steps: int) -> float:
        started = time.perf_counter()
        run(tf.constant(steps)).numpy()
        return (time.perf_counter() - started) / steps

    return turn


MAKERS = {"tensorflow": tensorflow_step, "torch": torch_step, "products": bare_products}


def work(name: str, threads: int) -> None:
    """The process of a contestant: one turn for each line of input."""
    kind, precision = name.split()
    turn = MAKERS[kind](precision, threads)
    turn(2)
    print("ready", flush=True)
    for _ in sys.stdin:
        turn(2)  # fills the caches again
        print(turn(STEPS), flush=True)


class Contestant:
    """The parent's end of a process that runs `work`."""

    def __init__(self, name: str, threads: int) -> None:
        """Starts the process and waits until it is warm."""
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, __file__, "--work", name, "--threads", str(threads)]
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


def measure_epoch(threads: int, epochs: int) -> dict[str, float]:
    """Compares whole epochs of training on MNIST with the same number of bare steps.

    Bare steps are timed before, between and after the epochs. The time of an epoch includes data,
    metrics, log and checkpoint. The pass over the test set is also timed separately.
    """
    bare = tensorflow_step("float32", threads)
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

    turns: list[list[float]] = []
    marks: list[tuple[float, float]] = []

    class Timer:
        """Records the times at the ends of epochs, and times bare steps there."""

        def begin(self, *arguments: Any) -> None:
            self.pause()

        def progress(self, progress: Any) -> None: ...
        def note(self, message: str) -> None: ...
        def warn(self, message: str) -> None: ...

        def epoch(self, record: Any) -> None:
            self.pause()

        def pause(self) -> None:
            arrived = time.perf_counter()
            bare(2)
            turns.append([bare(STEPS) for _ in range(8)])
            marks.append((arrived, time.perf_counter()))

    config = RunConfig(DataConfig("mnist"), train=TrainConfig(lam=LAM, epochs=epochs + 1))
    with (
        tempfile.TemporaryDirectory() as folder,
        unittest.mock.patch.object(Trainer, "test", timed_test),
    ):
        fit(config, load_dataset("mnist"), Path(folder) / "run", reporter=Timer())
    # The first epoch includes the compilation and is left out.
    rows = np.array(
        [
            (
                marks[i + 1][0] - marks[i][1],
                test_seconds[i],
                60_000 // BATCH * np.median(turns[i] + turns[i + 1]),
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


def main() -> None:
    """Runs the comparison and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--epochs", type=int, default=2, help="whole epochs to time; 0 leaves them out"
    )
    parser.add_argument("--contestants", nargs="+", default=CONTESTANTS, choices=CONTESTANTS)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.threads)
        return
    contestants = {name: Contestant(name, options.threads) for name in options.contestants}
    rounds = [{name: c.turn() for name, c in contestants.items()} for _ in range(options.rounds)]
    for contestant in contestants.values():
        contestant.process.terminate()

    def ratio(first: str, second: str) -> float | None:
        if not {first, second} <= contestants.keys():
            return None
        return float(np.median([r[first] / r[second] for r in rounds]))

    flops = sum(2 * m * k * n * count for (m, k, n), count in products().items())
    seconds = {name: float(np.median([r[name] for r in rounds])) for name in contestants}
    result: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.processor() or platform.machine()}, {processor()}, "
        f"{options.threads} threads",
        "step_milliseconds": {name: 1e3 * value for name, value in seconds.items()},
        "float32_over_torch": ratio("tensorflow float32", "torch float32"),
        "bfloat16_over_torch": ratio("tensorflow bfloat16", "torch bfloat16"),
        "bfloat16_over_float32": ratio("tensorflow bfloat16", "tensorflow float32"),
        "step_gflop": flops / 1e9,
        "share_of_matrix_products": ratio("products float32", "tensorflow float32"),
    }
    if options.epochs:
        result |= measure_epoch(options.threads, options.epochs)
    result = {name: value for name, value in result.items() if value is not None}
    print(f"{result['machine']}, {result['date']}")
    for name, value in seconds.items():
        print(f"  {name:<22}{1e3 * value:8.1f} ms a step{flops / value / 1e9:9.0f} GFLOP/s")
    for name in (
        "float32_over_torch",
        "bfloat16_over_torch",
        "bfloat16_over_float32",
        "share_of_matrix_products",
        "epoch_over_bare_steps",
        "epoch_without_test_over_bare_steps",
    ):
        if name in result:
            print(f"  {name:<36}{result[name]:6.3f}")
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def processor() -> str:
    """The processor's name, if the system provides it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown processor"
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")),
        "unknown processor",
    )


if __name__ == "__main__":
    main()
