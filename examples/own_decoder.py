"""A model that was trained elsewhere, evaluated: probabilistic PCA, whose log p(x) is known.

    tfp-smvi evaluate --model own_decoder:build --dataset digits

in this folder evaluates it; `python own_decoder.py` also prints the exact log p(x).
"""

from pathlib import Path

import click
import numpy as np
import tensorflow as tf
from sklearn.decomposition import PCA
from tensorflow_probability import distributions as tfd

import tfp_smvi

LATENT_DIM = 5


class ProbabilisticPCA:
    """p(z) = N(0, I), p(x|z) = N(W z + mean, variance I); it has no encoder."""

    def __init__(self, pca: PCA, image_shape: tuple[int, ...]) -> None:
        """Takes the parameters from scikit-learn."""
        scales = np.sqrt(pca.explained_variance_ - pca.noise_variance_)
        self.weights = tf.constant(scales[:, None] * pca.components_, tf.float32)
        self.mean, self.stddev = tf.cast(pca.mean_, tf.float32), float(pca.noise_variance_**0.5)
        self.image_shape, self.pca = image_shape, pca
        self.prior = tfd.MultivariateNormalDiag(tf.zeros(LATENT_DIM))

    def decode(self, z: tf.Tensor) -> tfd.Distribution:
        """Returns p(x|z): z [..., latent_dim] -> batch shape [...], event shape image_shape."""
        x = tf.einsum("...k,kd->...d", z, self.weights) + self.mean
        x = tf.reshape(x, [*z.shape[:-1], *self.image_shape])
        return tfd.Independent(tfd.Normal(x, self.stddev), len(self.image_shape))


def build() -> ProbabilisticPCA:
    """Returns the model; a network of your own would load its weights here."""
    train = tfp_smvi.load_dataset("digits").train
    x = train.images(np.arange(train.num_examples))
    return ProbabilisticPCA(PCA(LATENT_DIM).fit(x.reshape(len(x), -1)), train.image_shape)


@click.command()
@click.option("--examples", default=50)
@click.option("--temperatures", default=300)
@click.option("--output", default="runs/own-decoder", type=Path)
def main(examples: int, temperatures: int, output: Path) -> None:
    """Prints the exact log p(x) of the test digits, and the estimate."""
    model, data = build(), tfp_smvi.load_dataset("digits")
    config = tfp_smvi.EvaluateConfig(
        tfp_smvi.AISConfig(num_temperatures=temperatures),
        num_examples=examples,
        num_simulated=examples,
    )
    evaluation = tfp_smvi.evaluate(tfp_smvi.OutsideModel(model, data, output), config)
    assert evaluation is not None
    x = data.test.images(np.arange(examples)).reshape(examples, -1)
    print(f"exact    {model.pca.score_samples(x).mean():.3f} nats")
    print(f"AIS      {evaluation.splits['test'].log_likelihood}")
    print(f"bracket  {evaluation.bracket.width}")


if __name__ == "__main__":
    main()
