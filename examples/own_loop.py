"""A model and a training loop of your own, on this package's objective and estimator.

The model has convolutions and a posterior with a full covariance matrix. It is trained on the
digits. In about two minutes,

    python examples/own_loop.py

shows for several lams what the objective trades: ELBO for a smaller divergence, and with it for a
smaller gap.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from collections.abc import Callable

import click
import keras
import tensorflow as tf
import tensorflow_probability as tfp
from keras import layers

from tfp_smvi import annealed_importance_sampling, load_dataset, smvi_objective, tune_step_sizes

tfd = tfp.distributions
LATENT_DIM = 4
PRIOR = tfd.MultivariateNormalDiag(tf.zeros(LATENT_DIM))


class ConvolutionalVAE(keras.Model):
    """q(z|x) = N(loc(x), L(x) L(x)^T) and p(x|z) = Bernoulli(logits(z)), for images of 8 x 8."""

    def __init__(self) -> None:
        """Makes the networks. Activations are smooth: training takes the gradient of a gradient."""
        super().__init__()
        num_parameters = LATENT_DIM + LATENT_DIM * (LATENT_DIM + 1) // 2
        self.encoder = keras.Sequential(
            [
                keras.Input([8, 8, 1]),
                layers.Conv2D(32, 3, strides=2, padding="same", activation="softplus"),
                layers.Conv2D(64, 3, strides=2, padding="same", activation="softplus"),
                layers.Flatten(),
                layers.Dense(num_parameters),
            ]
        )
        self.decoder = keras.Sequential(
            [
                keras.Input([LATENT_DIM]),
                layers.Dense(2 * 2 * 64, activation="softplus"),
                layers.Reshape([2, 2, 64]),
                layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="softplus"),
                layers.Conv2DTranspose(1, 3, strides=2, padding="same"),
            ]
        )

    def encode(self, x: tf.Tensor) -> tfd.Distribution:
        """x: [batch, 8, 8, 1] -> q(z|x), batch shape [batch]."""
        loc, scale = tf.split(self.encoder(x), [LATENT_DIM, -1], axis=-1)
        scale_tril = tfp.bijectors.FillScaleTriL(diag_shift=1e-3)(scale)
        return tfd.MultivariateNormalTriL(loc, scale_tril)

    def log_likelihood(self, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        """z: [..., batch, latent_dim] -> log p(x|z): [..., batch], in nats."""
        flat = self.decoder(tf.reshape(z, [-1, LATENT_DIM]))  # convolutions take one batch axis
        logits = tf.reshape(flat, [*z.shape[:-1], *x.shape[1:]])
        return tfd.Independent(tfd.Bernoulli(logits), 3).log_prob(x)


def make_train_step(
    model: ConvolutionalVAE, lam: float, num_steps: int
) -> Callable[[tf.Tensor], None]:
    """Returns a compiled step of Adam on ELBO - lam * D_SM."""
    optimizer = keras.optimizers.Adam(3e-3, global_clipnorm=1000.0)

    @tf.function(autograph=False)  # it has no loop or condition to convert
    def train_step(x: tf.Tensor) -> None:
        # lam grows over half of the steps. A posterior equal to the prior also has no divergence,
        # and a large lam at the start leads there.
        done = tf.cast(optimizer.iterations, tf.float32) / num_steps
        lam_scale = tf.minimum(2.0 * done, 1.0) ** 2
        with tf.GradientTape() as tape:
            q = model.encode(x)
            estimate = smvi_objective(
                q, PRIOR, lambda z: model.log_likelihood(x, z), lam, q.sample(), lam_scale
            )
            loss = -tf.reduce_mean(estimate.objective)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    return train_step


def measure(model: ConvolutionalVAE, x: tf.Tensor) -> list[tf.Tensor]:
    """Returns the ELBO, the divergence and the gap of each image: [batch] each."""
    q = model.encode(x)
    z = q.sample(200, seed=1)
    estimate = smvi_objective(q, PRIOR, lambda z: model.log_likelihood(x, z), 1.0, z)
    elbo, divergence = tf.reduce_mean(estimate.elbo, 0), tf.reduce_mean(estimate.divergence, 0)

    def log_joint(z: tf.Tensor) -> tf.Tensor:
        return PRIOR.log_prob(z) + model.log_likelihood(x, z)

    # The chains start at the model's own q(z|x) and end at p(z|x), whose normalizer is p(x).
    step_size = tune_step_sizes(log_joint, q, seed=2)
    result = annealed_importance_sampling(log_joint, q, step_size=step_size, seed=3)
    return [elbo, divergence, result.log_normalizer() - elbo]


@click.command()
@click.option("--steps", default=1500, show_default=True, help="Steps of training for each lam.")
@click.option("--images", default=100, show_default=True, help="Test images to measure on.")
@click.option(
    "--lam",
    "lams",
    multiple=True,
    default=[0.0, 0.1, 0.3],
    show_default=True,
    help="Weight of the divergence; may be repeated.",
)
def main(steps: int, images: int, lams: list[float]) -> None:
    """Train a model for each lam, and print its ELBO, divergence and gap."""
    digits = load_dataset("digits")
    train, test = (
        split.images(tf.range(split.num_examples)) for split in (digits.train, digits.test)
    )
    print("lam    ELBO              D_SM              gap, nats")
    for lam in lams:
        keras.utils.set_random_seed(0)
        model = ConvolutionalVAE()
        train_step = make_train_step(model, lam, steps)
        for indices in (
            tf.data.Dataset.range(len(train))
            .repeat()
            .shuffle(len(train), seed=0)
            .batch(64)
            .take(steps)
        ):
            x = tf.gather(train, indices)
            # Each visit of an image draws new bits.
            train_step(tf.cast(tf.random.uniform(x.shape) < x, tf.float32))
        x = tf.cast(test[:images] >= 0.5, tf.float32)
        columns = [
            f"{tf.reduce_mean(v):.3f} +/- {tf.math.reduce_std(v) / len(v) ** 0.5:.3f}"
            for v in measure(model, x)
        ]
        print(f"{lam:<6g} " + " ".join(f"{column:17}" for column in columns), flush=True)


if __name__ == "__main__":
    main()
