"""The densities between which the chains of an evaluation anneal."""

import functools
from typing import NamedTuple

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.config import AISConfig
from tfp_smvi.core.densities import LogDensity
from tfp_smvi.inference.starts import widened
from tfp_smvi.models.protocol import LatentVariableModel
from tfp_smvi.models.vae import VAE

__all__ = ["Problem", "Problems"]


class Problem(NamedTuple):
    """The densities between which chains of x anneal, and the moments of q(z|x).

    Its standard deviations scale their steps.

    Attributes:
        log_joint: log p(x, z), where chains end.
        leapfrog: the same with cheaper matrix products, whose gradient moves chains; or None.
        initial: where chains start.
        mean: that of q(z|x): float32 [batch, latent_dim].
        scale: its standard deviations, likewise.
    """

    log_joint: LogDensity
    leapfrog: LogDensity | None
    initial: tfd.Distribution
    mean: tf.Tensor
    scale: tf.Tensor


class Problems:
    """Makes the problem of each x.

    Args:
        model: the model, whose weights do not change any more if chains move in bfloat16.
        ais: where its chains start, and how they move.
    """

    def __init__(self, model: LatentVariableModel, ais: AISConfig) -> None:
        """Freezes the decoder in bfloat16 if chains move so."""
        self._model, self._ais = model, ais
        self._moving: VAE | None = None
        if ais.leapfrog_precision == "bfloat16":
            assert isinstance(model, VAE)
            self._moving = model.with_products("bfloat16")
            self._moving.freeze_decoder()

    def __call__(self, x: tf.Tensor) -> Problem:
        """Returns that of x: float32 [batch, *image_shape]."""
        posterior = self._model.encode(x)
        initial = posterior
        if self._ais.initial == "prior":
            initial = tfd.BatchBroadcast(self._model.prior, x.shape[:1])
        return Problem(
            log_joint=functools.partial(self._model.log_joint, x),
            leapfrog=None if self._moving is None else functools.partial(self._moving.log_joint, x),
            initial=widened(initial, self._ais.initial_scale),
            mean=posterior.mean(),
            scale=posterior.stddev(),
        )
