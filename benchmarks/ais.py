"""Measures annealed importance sampling on a trained model against the stock recipe of TensorFlow Probability.

    python benchmarks/ais.py RUN_DIR [--threads N] [--evaluate 1000] | tee results/ais.md

In one run, on one block of test images: the error and the time of the defaults, of the stock recipe (from the prior,
linear path, fixed step size, kernel not fresh) at several times that, both against a long reference run; the bracket
on simulated images; the share of the machine's matrix-multiply speed that the chains reach. With --evaluate, also the
time and peak memory of `tfp-smvi evaluate` on so many test images. RUN_DIR is a run of `tfp-smvi train` on MNIST.
"""

import argparse
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_smvi.block_estimates import BLOCK_SIZE, BlockEstimator
from tfp_smvi.config import AISConfig, EvaluateConfig
from tfp_smvi.data import eval_batches, load_dataset
from tfp_smvi.evaluation_report import summarize_bracket
from tfp_smvi.importance_weights import sum_weights
from tfp_smvi.loading import load_run
from tfp_smvi.model import VAE

TOLERANCE = 0.1
STOCK_STEP_SIZES = (0.02, 0.05, 0.1, 0.2)


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a call and its seconds."""
    started = time.perf_counter()
    result = function()
    return result, time.perf_counter() - started


def seed(number: int) -> tf.Tensor:
    """A stateless seed."""
    return tf.constant([number, 0], tf.int32)


def make_stock(model: VAE, num_chains: int, num_leapfrog_steps: int) -> Callable[..., tf.Tensor]:
    """The recipe in the docstring of TFP's tool: log p(x) [batch] from (x, num_temperatures, step_size, seed)."""

    @tf.function
    def estimate(
        x: tf.Tensor, num_temperatures: tf.Tensor, step_size: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        prior = tfp.distributions.BatchBroadcast(model.prior, [BLOCK_SIZE])
        _, log_weights, _ = tfp.mcmc.sample_annealed_importance_chain(
            num_steps=num_temperatures,
            proposal_log_prob_fn=prior.log_prob,
            target_log_prob_fn=lambda z: model.log_joint(x, z),
            current_state=prior.sample(num_chains, seed=seed),
            make_kernel_fn=lambda log_prob_fn: tfp.mcmc.HamiltonianMonteCarlo(
                log_prob_fn, step_size=step_size, num_leapfrog_steps=num_leapfrog_steps
            ),
            seed=tf.random.fold_in(seed, 1),
        )
        return sum_weights(log_weights).log_mean()

    return estimate


def error_text(estimate: np.ndarray, reference: np.ndarray) -> str:
    """The mean error over images, with its standard error."""
    errors = np.asarray(estimate, np.float64) - reference
    return f"{errors.mean():+.3f} +/- {errors.std(ddof=1) / np.sqrt(len(errors)):.3f}"


class Comparison:
    """Errors and times of recipes on one block of images against a long run of the estimator."""

    def __init__(self, model: VAE, x: tf.Tensor, reference_temperatures: int) -> None:
        """Makes the reference."""
        self.model, self.x = model, x
        ais = AISConfig(num_temperatures=reference_temperatures, num_leapfrog_steps=10)
        print(f"| recipe | seconds for {BLOCK_SIZE} images | error against the reference, nats |")
        print("|---|---|---|")
        self.reference = np.zeros(BLOCK_SIZE)
        self.reference, _ = self.add_ours(
            ais, f"reference: {reference_temperatures} temperatures, 10 leapfrog steps"
        )

    def add(self, label: str, function: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
        """Prints a row; returns the estimates and the seconds."""
        estimates, seconds = timed(function)
        estimates = np.asarray(estimates, np.float64)
        error = error_text(estimates, self.reference) if np.any(self.reference) else ""
        print(f"| {label} | {seconds:.1f} | {error} |", flush=True)
        return estimates, seconds

    def add_ours(self, ais: AISConfig, label: str) -> tuple[np.ndarray, float]:
        """A row of the estimator."""
        estimator = BlockEstimator(self.model, EvaluateConfig(ais=ais))
        estimator._annealed.get_concrete_function(self.x, seed(1))  # traces
        return self.add(label, lambda: estimator.annealed(self.x, seed(1))["log_likelihood"])

    def add_stock(self, counts: list[int]) -> str:
        """Rows of the stock recipe with the best of its step sizes; says when it got within the tolerance."""
        stock = make_stock(self.model, AISConfig().num_chains, AISConfig().num_leapfrog_steps)

        def run(count: int, step_size: float) -> np.ndarray:
            return stock(self.x, tf.constant(count), tf.constant(step_size), seed(2)).numpy()

        # Chosen with the answer at hand, which favours it.
        short = {size: abs(np.mean(run(32, size) - self.reference)) for size in STOCK_STEP_SIZES}
        best = min(short, key=lambda size: short[size] if np.isfinite(short[size]) else np.inf)
        seconds = 0.0
        for count in counts:
            label = f"stock TFP, {count} temperatures, step size {best}"
            estimates, seconds = self.add(label, lambda count=count: run(count, best))
            if self.within(estimates):
                return f"after {seconds:.1f} s"
        return f"not after {seconds:.1f} s"

    def within(self, estimates: np.ndarray) -> bool:
        """Whether the mean error is within the tolerance."""
        return bool(abs(np.mean(estimates - self.reference)) <= TOLERANCE)


def compare_recipes(comparison: Comparison, stock_temperatures: list[int]) -> float:
    """Prints the table; returns the seconds of the defaults."""
    seconds, within = 0.0, []
    for count in (8, 16, AISConfig().num_temperatures):
        ais = AISConfig(num_temperatures=count)
        estimates, seconds = comparison.add_ours(ais, f"ours, {count} temperatures, pilot included")
        if comparison.within(estimates):
            within.append(seconds)
    stock = comparison.add_stock(stock_temperatures)
    ours = f"after {min(within):.1f} s" if within else "not at the defaults"
    print(f"\nWithin {TOLERANCE} nat: ours {ours}, the stock recipe {stock}.", flush=True)
    return seconds


def measure_bracket(model: VAE, num_blocks: int) -> str:
    """The bracket at the defaults."""
    estimator = BlockEstimator(model, EvaluateConfig())
    blocks = [estimator.bracketed(seed(3 + block)) for block in range(num_blocks)]
    arrays = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    width = summarize_bracket(arrays)["width"]
    count = num_blocks * BLOCK_SIZE
    return (
        f"Bracket at the defaults on {count} simulated images: {width['mean']:.3f} +/- "
        f"{width['standard_error']:.3f} nat."
    )


def measure_share(model: VAE, chain_seconds: float) -> str:
    """The share of the time that the chains' matrix products take by themselves."""
    ais = AISConfig()
    kernels = [layer.kernel.value for layer in model.decoder.layers if hasattr(layer, "kernel")]
    seconds = 0.0
    for num_chains, count in (
        (ais.num_chains, ais.num_temperatures),
        (ais.num_pilot_chains, ais.num_pilot_temperatures),
    ):
        rows = num_chains * BLOCK_SIZE
        inputs = [tf.random.normal([rows, kernel.shape[0]]) for kernel in kernels]
        outputs = [tf.random.normal([rows, kernel.shape[1]]) for kernel in kernels]

        @tf.function
        def products(inputs: list[tf.Tensor] = inputs, outputs: list[tf.Tensor] = outputs) -> list[tf.Tensor]:
            forward = [tf.matmul(x, w) for x, w in zip(inputs, kernels, strict=True)]
            return forward + [
                tf.matmul(w, y, transpose_b=True) for y, w in zip(outputs, kernels, strict=True)
            ]

        repeats = 20
        products()
        started = time.perf_counter()
        for _ in range(repeats):
            products()
        seconds += (time.perf_counter() - started) / repeats * count * (ais.num_leapfrog_steps + 1)
    return (
        f"The chains' matrix products alone take {seconds:.1f} s of the {chain_seconds:.1f} s of a block "
        f"({100 * seconds / chain_seconds:.0f} %)."
    )


def measure_command(run_dir: Path, num_examples: int, threads: int | None) -> str:
    """Time and peak memory of the command, in a copy of the run so that nothing is done already."""
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(run_dir, Path(folder) / "run", ignore=shutil.ignore_patterns("evaluation*"))
        command = ["tfp-smvi", "evaluate", str(copy), "--num-examples", str(num_examples)]
        command += ["--threads", str(threads)] if threads else []
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
    gigabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
    return (
        f"`tfp-smvi evaluate --num-examples {num_examples}`, with the bracket on 100 simulated images: "
        f"{seconds / 60:.1f} min, peak memory {gigabytes:.2f} GiB."
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--reference-temperatures", type=int, default=300)
    parser.add_argument("--stock-temperatures", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--simulated-blocks", type=int, default=2)
    parser.add_argument("--evaluate", type=int, default=0, metavar="IMAGES")
    options = parser.parse_args()
    if options.threads:
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    run = load_run(options.run_dir)
    test = load_dataset(run.config.data.dataset).test
    _, x = next(iter(eval_batches(test, batch_size=BLOCK_SIZE, seed=0, binarize=True)))
    x = tf.ensure_shape(x, [BLOCK_SIZE, *test.image_shape])
    threads = options.threads or os.cpu_count()
    print(f"{options.run_dir.name}, {threads} threads, {AISConfig().num_chains} chains.\n")
    comparison = Comparison(run.model, x, options.reference_temperatures)
    seconds = compare_recipes(comparison, options.stock_temperatures)
    print(measure_share(run.model, seconds), flush=True)
    print(measure_bracket(run.model, options.simulated_blocks), flush=True)
    if options.evaluate:
        print(measure_command(options.run_dir, options.evaluate, options.threads), flush=True)


if __name__ == "__main__":
    main()
