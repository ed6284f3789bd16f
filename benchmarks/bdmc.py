"""Brackets log p(x) of a decoder of 50-200-200-784 units with ELU, as published with BDMC.

    python benchmarks/bdmc.py [--epochs 10] [--num-simulated 20] [--threads 1]

The decoder is trained here, on MNIST. Images are simulated from it, so that bidirectional Monte
Carlo [1] bounds the mean log p(x) from both sides: at the defaults of this package, and on the path
that BDMC takes, from the prior in 500 temperatures with 10 leapfrog steps. The processor times are
those of a second call, without TensorFlow's tracing. They include the pilot run for step sizes.

References:
    [1] R. Grosse, Z. Ghahramani, R. Adams. Sandwiching the marginal likelihood using bidirectional
        Monte Carlo. 2015.
"""

import argparse
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from tfp_smvi.core.startup import quiet_tensorflow

SIZES, ACTIVATION = (200, 200), "elu"


def main() -> None:
    """Trains the decoder and prints both brackets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--num-simulated", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    quiet_tensorflow()
    from tfp_smvi.core.runtime import set_threads

    set_threads(options.threads)
    compare_paths(train_decoder(options.epochs), options.num_simulated)


def train_decoder(epochs: int) -> Any:
    """A model whose decoder has the layers of BDMC's."""
    from tfp_smvi.config import DataConfig, ModelConfig, RunConfig, TrainConfig
    from tfp_smvi.data import load_dataset
    from tfp_smvi.training.loop import fit

    config = RunConfig(
        DataConfig("mnist"),
        ModelConfig(latent_dim=50, hidden_sizes=SIZES, activation=ACTIVATION),
        TrainConfig(lam=0.0, epochs=epochs),
    )
    with tempfile.TemporaryDirectory() as folder:
        model = fit(config, load_dataset("mnist"), Path(folder) / "run").model
    model.freeze_decoder()
    return model


def compare_paths(model: Any, num_simulated: int) -> None:
    """Prints the bracket and the processor time of each path."""
    import tensorflow as tf

    from tfp_smvi.config import AISConfig, EvaluateConfig
    from tfp_smvi.evaluation.estimator import BlockEstimator

    paths = {
        "defaults": AISConfig(leapfrog_precision="float32"),
        "from the prior": AISConfig(
            leapfrog_precision="float32",
            initial="prior",
            num_temperatures=500,
            num_leapfrog_steps=10,
        ),
    }
    for name, ais in paths.items():
        estimator = BlockEstimator(model, EvaluateConfig(ais, block_size=num_simulated))
        estimator.bracketed(tf.constant([0, 0]))
        started = time.process_time()
        bounds = estimator.bracketed(tf.constant([0, 1]))
        seconds = time.process_time() - started
        widths = bounds["upper_bound"] - bounds["lower_bound"]
        error = widths.std(ddof=1) / math.sqrt(len(widths))
        print(
            f"{name:<16}{ais.num_chains} chains, {ais.num_temperatures} temperatures, "
            f"{ais.num_leapfrog_steps} leapfrog steps: bracket {widths.mean():.3f} +/- {error:.3f} "
            f"nats in {seconds:.1f} CPU seconds",
            flush=True,
        )


if __name__ == "__main__":
    main()
