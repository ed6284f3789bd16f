"""The summary of vectors in a gallery against the data and against the model."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from tfp_smvi.config import ModelConfig
from tfp_smvi.data import Dataset
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.gallery import NUM_SIMULATED, write_gallery


def test_entries_of_vectors_are_those_of_the_data_and_of_the_model(tmp_path: Path):
    rng = np.random.default_rng(0)
    counts = rng.poisson([0.2, 1.0, 5.0, 20.0], (60, 4)).astype(np.float32)
    counts[-30:, 1][::3] = np.nan  # missing
    dataset = Dataset.from_arrays(counts[:30], counts[30:])
    model = VAE(ModelConfig("poisson", 2, (4,), missing=True), (4,))
    write_gallery(tmp_path / "gallery.npz", model, dataset, step=1)
    with np.load(tmp_path / "gallery.npz") as file:
        arrays = dict(file)
    observed = counts[30:]
    np.testing.assert_allclose(arrays["observed_means"], np.nanmean(observed, axis=0), rtol=1e-6)
    zeros = [np.mean(x[~np.isnan(x)] == 0.0) for x in observed.T]
    np.testing.assert_allclose(arrays["observed_zeros"], zeros)
    rates = model.decode(tf.random.stateless_normal((100_000, 2), (5, 5))).mean().numpy()
    # The variance of x is that of the rates plus their mean.
    error = np.sqrt((rates.var(axis=0) + rates.mean(axis=0)) / NUM_SIMULATED)
    np.testing.assert_array_less(abs(arrays["simulated_means"] - rates.mean(axis=0)), 5 * error)
    share = np.exp(-rates).mean(axis=0)
    error = np.sqrt(share * (1.0 - share) / NUM_SIMULATED)
    np.testing.assert_array_less(abs(arrays["simulated_zeros"] - share), 5 * error)
