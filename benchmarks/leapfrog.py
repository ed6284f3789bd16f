"""Compares annealed chains that gradients of products in float32 and in bfloat16 move.

    python benchmarks/leapfrog.py RUN_DIR [--num-examples 100] [--rounds 5] [--threads 2]

Both estimate log p(x) of the same test images at the defaults, in turns, so that a change of the
machine's speed affects both. Times are medians over the rounds, the ratio is the median of the
ratios within a round. The bracket is that of 50 simulated images, with its standard error.
"""

import argparse
import dataclasses
import math
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from tfp_smvi.core.startup import quiet_tensorflow

PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    """Runs the comparison and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    parser.add_argument("--num-examples", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    quiet_tensorflow()
    from tfp_smvi.core.runtime import set_threads
    from tfp_smvi.runs.loading import load_data_of, load_run

    set_threads(options.threads)
    run = load_run(options.run_dir)
    run.model.freeze_decoder()
    compare(run.model, load_data_of(run).test, options.num_examples, options.rounds)


def compare(model: Any, examples: Any, count: int, num_rounds: int) -> None:
    """Lets both estimate the same examples in turns, and prints what they took and found."""
    import tensorflow as tf

    from tfp_smvi.config import AISConfig, EvaluateConfig
    from tfp_smvi.data import eval_batches
    from tfp_smvi.evaluation.estimator import BlockEstimator

    batches = eval_batches(examples, batch_size=count, seed=0, binarize=True, num_examples=count)
    _, x = next(iter(batches))
    seconds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    acceptance: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    estimators = {}
    for precision in PRECISIONS:
        ais = dataclasses.replace(AISConfig(), leapfrog_precision=precision)
        estimators[precision] = BlockEstimator(model, EvaluateConfig(ais))
    for number in range(num_rounds + 1):
        for precision, estimator in estimators.items():
            started = time.perf_counter()
            estimates = estimator.annealed(x, tf.constant([number, 0]))
            if number:  # the first one traces
                seconds[precision].append(time.perf_counter() - started)
                acceptance[precision].append(float(estimates["acceptance_rate"].mean()))
    for precision, estimator in estimators.items():
        bounds = estimator.bracketed(tf.constant([0, 1]))
        widths = bounds["upper_bound"] - bounds["lower_bound"]
        error = widths.std(ddof=1) / math.sqrt(len(widths))
        print(
            f"{precision:<10}{statistics.median(seconds[precision]):8.2f} s"
            f"   acceptance {statistics.mean(acceptance[precision]):.4f}"
            f"   bracket {widths.mean():.3f} +/- {error:.3f} nats"
        )
    pairs = zip(seconds["bfloat16"], seconds["float32"], strict=True)
    print(f"bfloat16 takes {np.median([a / b for a, b in pairs]):.2f} of the time of float32")


if __name__ == "__main__":
    main()
