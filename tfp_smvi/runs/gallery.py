"""What a trained model looks like: reconstructions, samples, entries of x, and a 2-d latent."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfp_smvi.core.seeds import fold_seed
from tfp_smvi.data import Dataset, eval_batches
from tfp_smvi.data.test_batches import TEST_SEED, read_inputs
from tfp_smvi.models.encoding import encode_means
from tfp_smvi.models.vae import VAE
from tfp_smvi.storage.arrays import write_arrays

__all__ = ["NUM_IMAGES", "as_pictures", "write_gallery"]

NUM_IMAGES = 24
# Vectors that are simulated: their means have errors of 0.02 standard deviations.
NUM_SIMULATED = 2000


def write_gallery(path: Path, model: VAE, dataset: Dataset, step: int) -> None:
    """Writes gallery.npz, the same for the same weights.

        originals        the first test examples, as the encoder sees them: [n, *image_shape]
        reconstructions  E[x|z] at z = E_q[z|x]: [n, *image_shape]
        samples          E[x|z] at z ~ N(0, I), the same z for every model of this latent_dim:
                         [n, *image_shape]
        means            E_q[z|x] of the intensities of all test examples: float32 [num_test, 2];
                         only for latent_dim = 2
        labels           their classes, if there are labels: int64 [num_test]; only for
                         latent_dim = 2
        observed_means   the mean of each entry of x over the test data, float64 [d]; this and the
                         following only for data that are vectors
        simulated_means  the same of x simulated from the model: z ~ p(z), x ~ p(x|z)
        observed_zeros   the share of zeros of each entry, float64 [d]; only for counts
        simulated_zeros  the same of simulated x
        step             the training step of the weights: int64 []

    E[x|z] is the most probable class under a categorical likelihood. They are uint8 with 255 for
    1 under a Bernoulli likelihood without missing values, and otherwise float32 in the units that
    the data were given in.

    Args:
        path: the file.
        model: the model.
        dataset: the data that it was trained on.
        step: the training steps that the weights have had.

    Raises:
        OSError: it cannot be written.
        SMVIError: the data can no longer be read.
    """
    count = min(NUM_IMAGES, dataset.test.num_examples)
    bernoulli = model.config.likelihood == "bernoulli"
    batches = eval_batches(
        dataset.test, batch_size=count, seed=TEST_SEED, binarize=bernoulli, num_examples=count
    )
    ((_, originals),) = batches
    z = tf.random.stateless_normal(
        [count, model.config.latent_dim], fold_seed(TEST_SEED, "gallery")
    )
    typical = model.likelihood.typical
    images = {
        "originals": originals,
        "reconstructions": typical(model.decode(model.encode(originals).mean())),
        "samples": typical(model.decode(z)),
    }
    arrays = as_pictures(model, dataset, images)
    if model.config.latent_dim == 2:
        arrays["means"] = encode_means(model, read_inputs(dataset.test, binarize=False))
        if dataset.test.labels is not None:
            arrays["labels"] = dataset.test.labels
    if len(dataset.image_shape) == 1:
        arrays |= _summarize_entries(model, dataset)
    arrays["step"] = np.array(step)
    write_arrays(path, arrays, compress=True)


def as_pictures(
    model: VAE, dataset: Dataset, images: Mapping[str, tf.Tensor]
) -> dict[str, np.ndarray]:
    """Images, or E[x|z], as files hold them: see `write_gallery`.

    Args:
        model: the model.
        dataset: the data that it was trained on.
        images: float32 [n, *image_shape] by name.
    """
    arrays = {name: x.numpy() for name, x in images.items()}
    if model.config.likelihood == "bernoulli" and not model.config.missing:  # NaN is no byte
        arrays = {name: np.rint(255.0 * x).astype(np.uint8) for name, x in arrays.items()}
    if dataset.standardization is not None:
        arrays = {name: dataset.standardization.undo(x) for name, x in arrays.items()}
    return arrays


def _summarize_entries(model: VAE, dataset: Dataset) -> dict[str, np.ndarray]:
    """Compares the entries of simulated vectors with those of the test data."""
    z = model.prior.sample(NUM_SIMULATED, seed=fold_seed(TEST_SEED, "simulated_z"))
    simulated = model.decode(z).sample(seed=fold_seed(TEST_SEED, "simulated_x")).numpy()
    observed = np.concatenate([x.numpy() for x in read_inputs(dataset.test, binarize=False)])
    arrays = {}
    scale = dataset.standardization
    if scale is not None:
        observed, simulated = scale.undo(observed), scale.undo(simulated)
    for name, x in (("observed", observed), ("simulated", simulated)):
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
            # An entry that is missing everywhere has no mean.
            arrays[f"{name}_means"] = np.asarray(np.nanmean(x, axis=0, dtype=np.float64))
        if dataset.kind == "counts":
            zeros = np.sum(x == 0.0, axis=0) / np.sum(~np.isnan(x), axis=0).clip(1)
            arrays[f"{name}_zeros"] = zeros
    return arrays
