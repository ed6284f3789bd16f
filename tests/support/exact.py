"""Models whose log-likelihood is known, for estimators to be held against."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import special

tfd = tfp.distributions

__all__ = ["BernoulliModel", "LinearGaussianModel"]


@dataclass(frozen=True)
class LinearGaussianModel:
    """p(z) = N(0, I), p(x|z) = N(W z, noise^2 I), and data simulated from it.

    Attributes:
        weights: W, float64 [observed_dim, latent_dim].
        noise: the standard deviation of the observations.
        z: the latents that the data were made from, exact samples of the posterior: float64 [batch,
            latent_dim].
        x: float64 [batch, observed_dim].
    """

    weights: np.ndarray
    noise: float
    z: np.ndarray
    x: np.ndarray

    @classmethod
    def simulate(
        cls,
        batch: int,
        *,
        latent_dim: int,
        observed_dim: int,
        weight_scale: float,
        noise: float,
        seed: int,
    ) -> "LinearGaussianModel":
        """Draws the weights from N(0, weight_scale^2), then latents and data."""
        rng = np.random.default_rng(seed)
        weights = weight_scale * rng.standard_normal((observed_dim, latent_dim))
        z = rng.standard_normal((batch, latent_dim))
        x = z @ weights.T + noise * rng.standard_normal((batch, observed_dim))
        return cls(weights, noise, z, x)

    def log_likelihood(self) -> np.ndarray:
        """Returns log p(x) = log N(x; 0, W W' + noise^2 I): float64 [batch], nats."""
        covariance = self.weights @ self.weights.T + self.noise**2 * np.eye(len(self.weights))
        _, log_determinant = np.linalg.slogdet(2.0 * np.pi * covariance)
        return -0.5 * (
            np.sum(self.x * np.linalg.solve(covariance, self.x.T).T, axis=1) + log_determinant
        )

    def posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean [batch, latent_dim] and covariance [latent_dim, latent_dim] of p(z|x)."""
        latent_dim = self.weights.shape[1]
        covariance = np.linalg.inv(
            np.eye(latent_dim) + self.weights.T @ self.weights / self.noise**2
        )
        return self.x @ self.weights @ covariance / self.noise**2, covariance

    def posterior_distribution(self) -> tfd.Distribution:
        """p(z|x) in float32, batch shape [batch]."""
        mean, covariance = (tf.constant(value, tf.float32) for value in self.posterior())
        return tfd.MultivariateNormalTriL(mean, tf.linalg.cholesky(covariance))

    def prior_distribution(self) -> tfd.Distribution:
        """p(z) in float32, batch shape [batch]."""
        return tfd.MultivariateNormalDiag(tf.zeros(self.z.shape))

    def log_joint(self, z: tf.Tensor) -> tf.Tensor:
        """Returns log p(x, z) in float32: z [..., batch, latent_dim] -> [..., batch], nats."""
        mean = tf.linalg.matvec(tf.constant(self.weights, z.dtype), z)
        likelihood = tfd.MultivariateNormalDiag(mean, self.noise * tf.ones_like(mean))
        return self.prior_distribution().log_prob(z) + likelihood.log_prob(
            tf.constant(self.x, z.dtype)
        )


@dataclass(frozen=True)
class BernoulliModel:
    """p(z) = N(0, I) in two dimensions, p(x|z) = Bernoulli(logits = V tanh(U z)), and its data.

    Attributes:
        hidden: U, float64 [hidden_dim, 2].
        output: V, float64 [observed_dim, hidden_dim].
        z: the latents that the data were made from: float64 [batch, 2].
        x: 0 or 1, float64 [batch, observed_dim].
    """

    hidden: np.ndarray
    output: np.ndarray
    z: np.ndarray
    x: np.ndarray

    @classmethod
    def simulate(
        cls, batch: int, hidden_dim: int, observed_dim: int, seed: int
    ) -> "BernoulliModel":
        """Draws weights that make the posterior far from Gaussian, then latents and data."""
        rng = np.random.default_rng(seed)
        hidden = 1.5 * rng.standard_normal((hidden_dim, 2))
        output = 1.5 * rng.standard_normal((observed_dim, hidden_dim))
        z = rng.standard_normal((batch, 2))
        probabilities = special.expit(np.tanh(z @ hidden.T) @ output.T)
        return cls(
            hidden, output, z, (rng.random((batch, observed_dim)) < probabilities).astype(float)
        )

    def _grid(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Points z [points, 2], log p(x, z) there [points, batch], and the spacing.

        The trapezoid rule on a smooth integrand that vanishes at the edges converges faster than
        any power of the spacing; twice the spacing changes no digit that a test looks at.
        """
        axis = np.linspace(-8.0, 8.0, 321)
        z = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
        logits = np.tanh(z @ self.hidden.T) @ self.output.T
        # log p(x|z) = x . logits - sum(softplus(logits))
        log_joint = logits @ self.x.T - np.logaddexp(0.0, logits).sum(axis=1, keepdims=True)
        log_joint += -0.5 * np.sum(z**2, axis=1, keepdims=True) - np.log(2.0 * np.pi)
        return z, log_joint, axis[1] - axis[0]

    def log_likelihood(self) -> np.ndarray:
        """Returns log p(x) by quadrature on a grid over [-8, 8]^2: float64 [batch], nats."""
        _, log_joint, spacing = self._grid()
        return special.logsumexp(log_joint, axis=0) + 2.0 * np.log(spacing)

    def posterior_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean and the standard deviation of p(z|x): float64 [batch, 2] each."""
        z, log_joint, _ = self._grid()
        mass = special.softmax(log_joint, axis=0)
        mean = mass.T @ z
        return mean, np.sqrt(mass.T @ z**2 - mean**2)

    def posterior_samples(self, num_samples: int, seed: int) -> np.ndarray:
        """Samples of p(z|x): float64 [num_samples, batch, 2].

        A point of the grid by its posterior mass, moved uniformly within its cell: the density that
        this samples differs from the posterior by the square of the spacing, 0.0025.
        """
        rng = np.random.default_rng(seed)
        z, log_joint, spacing = self._grid()
        mass = special.softmax(log_joint, axis=0)
        chosen = np.stack(
            [z[rng.choice(len(z), num_samples, p=column)] for column in mass.T], axis=1
        )
        return chosen + spacing * (rng.random(chosen.shape) - 0.5)

    def prior_distribution(self) -> tfd.Distribution:
        """p(z) in float32, batch shape [batch]."""
        return tfd.MultivariateNormalDiag(tf.zeros(self.z.shape))

    def log_joint(self, z: tf.Tensor) -> tf.Tensor:
        """Returns log p(x, z) in float32: z [..., batch, 2] -> [..., batch], nats."""
        hidden = tf.tanh(tf.einsum("...d,hd->...h", z, tf.constant(self.hidden, z.dtype)))
        logits = tf.einsum("...h,oh->...o", hidden, tf.constant(self.output, z.dtype))
        likelihood = tfd.Independent(tfd.Bernoulli(logits=logits), 1)
        return self.prior_distribution().log_prob(z) + likelihood.log_prob(
            tf.constant(self.x, z.dtype)
        )
