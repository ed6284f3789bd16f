"""Measures the evaluation of a trained model, and compares its chains with TFP's stock recipe.

    python benchmarks/ais.py RUN_DIR [--parts cost bracket recipes share xla command]
        [--output results/ais.json]

RUN_DIR is a run of `tfp-smvi train` on MNIST. If it does not exist, it is trained first (lam 0.5,
--epochs). The parts:

cost      the processor time of each kind of block of an evaluation at the defaults
bracket   the width of the bracket on simulated images, at the defaults and at the settings of the
          reference
recipes   the time to come within 0.1 nat of a long reference run on test images, for our recipe and
          for the stock recipe
share     the share of the chains' time that their matrix products take alone
xla       the chains compiled with XLA, compared with oneDNN's kernels
command   time and peak memory of `tfp-smvi evaluate` on test images

An error is the mean over images of estimate minus reference, with the standard error of that mean;
both contribute noise. When times are compared, the contestants take turns, and times are medians
over the rounds. The numbers of each part are added to --output when the part is done.
"""

import argparse
import collections
import dataclasses
import datetime
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfp_smvi.core.runtime import environment, set_threads
from tfp_smvi.core.startup import quiet_tensorflow

quiet_tensorflow()
import tensorflow as tf
from stock_recipe import TARGET_ACCEPTANCE, compare_recipes, reference_settings
from turns import JSON, Turn, alternate, median_ratio, medians, seed

from tfp_smvi.config import BLOCK_SIZE, AISConfig, EvaluateConfig
from tfp_smvi.data import eval_batches, load_dataset
from tfp_smvi.evaluation.blocks import KINDS, SIMULATED, plan
from tfp_smvi.evaluation.estimator import BlockEstimator
from tfp_smvi.evaluation.summary import summarize_bracket
from tfp_smvi.inference.ais import annealed_importance_sampling
from tfp_smvi.inference.temperatures import AnnealingOptions
from tfp_smvi.inference.tuning import tune_step_sizes
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.loading import load_run
from tfp_smvi.storage.atomic import write_json

# Runs a command and prints its time in seconds and its peak resident memory, in units of 1,024
# bytes on Linux.
LAUNCHER = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
seconds = time.perf_counter() - started
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


def measure_cost(model: VAE, x: tf.Tensor, options: argparse.Namespace) -> JSON:
    """The processor time of each kind of block, times their number in an evaluation."""
    config = EvaluateConfig(local=True)
    assert config.num_examples is not None
    blocks = plan(config, dict.fromkeys(config.splits, config.num_examples))
    numbers = collections.Counter(block.kind for block in blocks)
    simulated = {block.kind for block in blocks if block.data == SIMULATED}
    estimator = BlockEstimator(model, config)

    def turn(kind: str) -> Turn:
        examples = None if kind in simulated else x
        return lambda: KINDS[kind].estimate(estimator, examples, seed(6))

    turns = {kind: turn(kind) for kind in numbers}
    seconds = medians(alternate(turns, options.rounds, time.process_time))
    default = {block.kind for block in plan(EvaluateConfig(), {"test": config.num_examples})}
    total = sum(numbers[kind] * seconds[kind] for kind in default)
    rows = {}
    for kind, count in numbers.items():
        cost = count * seconds[kind]
        rows[kind] = {"blocks": count, "seconds": cost, "share_of_default": cost / total}
        note = "" if kind in default else ", with --local alone"
        print(
            f"{kind}: {count} blocks of {seconds[kind]:.3f} s, {100 * cost / total:.1f} % of an "
            f"evaluation at the defaults{note}",
            flush=True,
        )
    return {"processor_seconds": total, "kinds": rows}


def measure_bracket(model: VAE, options: argparse.Namespace) -> JSON:
    """Upper minus lower bound on simulated images, at the defaults and for the reference."""
    widths = {}
    for name, ais in (("defaults", AISConfig()), ("reference", reference_settings(options))):
        estimator = BlockEstimator(model, EvaluateConfig(ais=ais))
        blocks = [estimator.bracketed(seed(1, block)) for block in range(options.blocks)]
        arrays = {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}
        widths[name] = {"settings": ais.to_json(), **summarize_bracket(arrays).to_json()}
        print(f"bracket, {name}: {summarize_bracket(arrays).width} nat", flush=True)
    return widths


def chain_products(model: VAE, ais: AISConfig, repeats: int) -> Turn:
    """The matrix products of 1 / repeats of a block's chains, on separate operands."""
    gradients = ais.num_leapfrog_steps  # of a transition
    parts = (
        (ais.num_chains, ais.num_temperatures * gradients // repeats),
        (ais.num_pilot_chains, ais.num_pilot_temperatures * gradients // repeats),
    )
    kernels = [layer.kernel.shape for layer in model.decoder.layers if hasattr(layer, "kernel")]
    shapes = [
        shape for m, n in kernels for shape in ((m, n), (n, m))
    ]  # forward, and the gradient with respect to the input
    operands = [
        [(tf.random.normal([chains * BLOCK_SIZE, m]), tf.random.normal([m, n])) for m, n in shapes]
        for chains, _ in parts
    ]

    @tf.function
    def run() -> tf.Tensor:
        total = tf.zeros([])
        for pairs, (_, count) in zip(operands, parts, strict=True):
            for _ in tf.range(count):
                # One element of each product is added up, so that no product is optimized away or
                # skipped.
                total += tf.add_n([tf.matmul(a, b)[0, 0] for a, b in pairs]) + 0.0 * total
        return total

    return lambda: run().numpy()


def measure_share(model: VAE, x: tf.Tensor, options: argparse.Namespace) -> JSON:
    """The products' time over the time of a block's chains, pilot included."""
    estimator, part = BlockEstimator(model, EvaluateConfig(ais=AISConfig())), 6
    seconds = alternate(
        {
            "chains": lambda: estimator.annealed(x, seed(3)),
            "products": chain_products(model, AISConfig(), part),
        },
        options.rounds,
    )
    share = part * median_ratio(seconds, "products", "chains")
    print(f"the chains' matrix products take {100 * share:.0f} % of their time", flush=True)
    times = medians(seconds)
    return {
        "chain_seconds": times["chains"],
        "product_seconds": part * times["products"],
        "share": share,
    }


def compare_compilers(model: VAE, x: tf.Tensor, options: argparse.Namespace) -> JSON:
    """A short chain and its pilot, with and without XLA."""
    settings: AnnealingOptions = {
        "num_chains": AISConfig().num_chains,
        "num_temperatures": 8,
        "num_leapfrog_steps": AISConfig().num_leapfrog_steps,
        "schedule": AISConfig().schedule,
        "num_segments": 8,
    }

    def chains(x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        posterior = model.encode(x)

        def log_joint(z: tf.Tensor) -> tf.Tensor:
            return model.log_joint(x, z)

        scale = posterior.stddev()
        step_size = tune_step_sizes(
            log_joint,
            posterior,
            scale=scale,
            target_acceptance_rate=TARGET_ACCEPTANCE,
            seed=seed,
            **{**settings, "num_chains": AISConfig().num_pilot_chains},
        )
        return annealed_importance_sampling(
            log_joint, posterior, scale=scale, step_size=step_size, seed=seed, **settings
        ).log_normalizer()

    turns: dict[str, Turn] = {}
    for name, jit_compile in (("oneDNN", False), ("XLA", True)):
        run = tf.function(chains, jit_compile=jit_compile, autograph=False)
        turns[name] = lambda run=run: run(x, seed(3)).numpy()
    seconds = alternate(turns, options.rounds)
    ratio = median_ratio(seconds, "XLA", "oneDNN")
    print(f"the chains take {ratio:.2f} times as long with XLA", flush=True)
    return {"seconds": medians(seconds), "xla_over_onednn": ratio}


def measure_command(options: argparse.Namespace) -> JSON:
    """Time and peak memory of the command, in a copy of the run without earlier results."""
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(
            options.run_dir, Path(folder) / "run", ignore=shutil.ignore_patterns("evaluation*")
        )
        command = ["tfp-smvi", "evaluate", str(copy), "--num-examples", str(options.images)]
        command += ["--num-simulated", str(options.images_simulated)]
        command += ["--threads", str(options.threads)] if options.threads else []
        # A process inherits the peak memory of the process that starts it, so a small one starts
        # the command.
        finished = subprocess.run(
            [sys.executable, "-c", LAUNCHER, *command],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    seconds, kilobytes = json.loads(finished.stdout)
    gigabytes = kilobytes * 1024 / 1e9
    print(
        f"tfp-smvi evaluate --num-examples {options.images}: {seconds / 60:.1f} min, peak memory "
        f"{gigabytes:.2f} GB",
        flush=True,
    )
    return {"images": options.images, "seconds": seconds, "peak_memory_gigabytes": gigabytes}


def train_unless_there(options: argparse.Namespace) -> None:
    """Trains the model if there is none."""
    if not (options.run_dir / "config.json").exists():
        command = ["tfp-smvi", "train", "--lam", "0.5", "--epochs", str(options.epochs)]
        subprocess.run(
            [*command, "--run-dir", str(options.run_dir)], check=True, stdout=subprocess.DEVNULL
        )


def parse() -> argparse.Namespace:
    """Reads the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument(
        "--epochs", type=int, default=15, help="of the training, if there is no run"
    )
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant")
    parser.add_argument("--reference-temperatures", type=int, default=300)
    parser.add_argument("--blocks", type=int, default=2, help=f"of {BLOCK_SIZE} simulated images")
    parser.add_argument("--temperatures", type=int, nargs="+", default=[8, 12, 16, 24, 32, 64, 96])
    parser.add_argument(
        "--stock-temperatures", type=int, default=32, help="of the stock's shortest path"
    )
    parser.add_argument(
        "--stock-budget", type=float, default=300.0, help="seconds of the stock's longest path"
    )
    parser.add_argument("--images", type=int, default=1000, help="test images of the command")
    parser.add_argument("--images-simulated", type=int, default=EvaluateConfig().num_simulated)
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


# Each takes the model, test images float32 [BLOCK_SIZE, 28, 28, 1] and the options.
PARTS: dict[str, Callable[[VAE, tf.Tensor, argparse.Namespace], JSON]] = {
    "cost": measure_cost,
    "bracket": lambda model, x, options: measure_bracket(model, options),
    "recipes": compare_recipes,
    "share": measure_share,
    "xla": compare_compilers,
    "command": lambda model, x, options: measure_command(options),
}


def main() -> None:
    """Measures, prints and writes."""
    options = parse()
    set_threads(options.threads)
    train_unless_there(options)
    run = load_run(options.run_dir)
    run.model.freeze_decoder()
    test = load_dataset(run.config.data.dataset).test
    _, x = next(iter(eval_batches(test, batch_size=BLOCK_SIZE, seed=0, binarize=True)))
    x = tf.ensure_shape(x, [BLOCK_SIZE, *test.image_shape])
    header = {
        "run": run.config.to_json(),
        "epochs": len(run.history),
        "defaults": dataclasses.asdict(AISConfig()),
    }
    for part in options.parts:
        measured = {"date": datetime.date.today().isoformat(), **environment().to_json(), **header}
        measured |= PARTS[part](run.model, x, options)
        if options.output:
            there = json.loads(options.output.read_text()) if options.output.exists() else {}
            write_json(options.output, there | {part: measured})


if __name__ == "__main__":
    main()
