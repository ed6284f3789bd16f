"""How much the one draw of the bits adds to a mean likelihood: python binarization.py RUN_DIR.

The bits of each test image are drawn again and again. The variance of its ELBO between the draws,
without that of the Monte Carlo noise of the ELBO itself, is what one fixed draw adds:

    Var(mean over n images) = 1/n^2 sum_i Var_bits(ELBO(x_i))
"""

import sys

import numpy as np
import tensorflow as tf

from tfp_smvi import load_run
from tfp_smvi.objectives.smvi import elbo
from tfp_smvi.runs.loading import load_data_of

NUM_IMAGES, NUM_DRAWS, NUM_SAMPLES, BATCH = 1000, 10, 16, 100


def main() -> None:
    """Prints the standard error, in nats."""
    run = load_run(sys.argv[1])
    model = run.model
    intensities = load_data_of(run).test.images(np.arange(NUM_IMAGES))

    @tf.function
    def estimate(x: tf.Tensor) -> tf.Tensor:
        posterior = model.encode(x)
        draws = [
            elbo(posterior, model.prior, lambda z: model.decode(z).log_prob(x), posterior.sample())
            for _ in range(NUM_SAMPLES)
        ]
        return tf.stack([draw.elbo for draw in draws])

    rng, means, noise = np.random.default_rng(0), [], []
    for _ in range(NUM_DRAWS):
        bits = (rng.random(intensities.shape) < intensities).astype(np.float32)
        parts = [
            estimate(tf.constant(bits[i : i + BATCH])).numpy() for i in range(0, NUM_IMAGES, BATCH)
        ]
        values = np.concatenate(parts, axis=1)  # [NUM_SAMPLES, NUM_IMAGES]
        means.append(values.mean(axis=0))
        noise.append(values.var(axis=0, ddof=1) / NUM_SAMPLES)
    variances = np.var(means, axis=0, ddof=1) - np.mean(noise, axis=0)
    error = np.sqrt(variances.sum()) / NUM_IMAGES
    print(f"one draw of the bits of {NUM_IMAGES} images: +/- {error:.3f} nat")
    print(f"standard deviation of an image: {np.sqrt(variances.mean()):.2f} nat")


if __name__ == "__main__":
    main()
