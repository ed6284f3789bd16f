"""What the package needs of a model: a protocol for models of your own, whatever they are."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import tensorflow as tf

__all__ = ["LatentVariableModel", "TrainableModel"]


class LatentVariableModel(Protocol):
    """What an evaluation needs of a model; `tfp_smvi.models.vae.VAE` is one.

    Attributes:
        prior: p(z), event shape [latent_dim].
    """

    prior: Any

    def encode(self, x: tf.Tensor) -> Any:
        """Returns q(z|x): x [batch, ...] -> batch shape [batch], event shape [latent_dim]."""

    def decode(self, z: tf.Tensor) -> Any:
        """Returns p(x|z): z [..., latent_dim] -> batch shape [...]."""

    def log_joint(self, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        """Returns log p(x, z): x [batch, ...], z [..., batch, latent_dim] -> [..., batch], nats."""


class TrainableModel(LatentVariableModel, Protocol):
    """What `fit` needs of a model."""

    @property
    def named_variables(self) -> Mapping[str, tf.Variable]:
        """All variables by names that are the same in every process: what a checkpoint holds."""

    @property
    def trainable_variables(self) -> Sequence[tf.Variable]:
        """Those that are trained."""

    def copy(self) -> Self:
        """Returns a model with the same values in variables of its own.

        It is not called if the configuration has averaging_steps = 0.
        """
