"""Families of q(z|x) with parameters of their own for each example: maps of another q's draws.

    z = mean + stddev * F(u),      u = (z0 - mean) / stddev,      z0 ~ q0(z|x)

q0 is an encoder's q(z|x), with its mean and stddev, and F(u) = shift + scale * G(u) the identity
where all parameters are 0. So each family has q0 in it. If q0 is a Gaussian with a diagonal
covariance, "diagonal" has all of these, and "full" all Gaussians.

References:
    [1] L. Dinh, J. Sohl-Dickstein, S. Bengio. Density estimation using Real NVP. ICLR 2017.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.core.densities import uncached
from tfp_smvi.core.seeds import fold_seed

__all__ = ["FAMILIES", "Family", "LocalDistribution", "Parameters", "diagonal_parameters"]

# float32 [batch, ...] by name
Parameters = dict[str, tf.Tensor]

# Coupling layers of a flow, and the hidden units of each one's network.
NUM_LAYERS, NUM_HIDDEN = 4, 32
# The logarithm of a layer's scales lies between minus and plus this.
MAX_LOG_SCALE = 1.5


class _Mapped(NamedTuple):
    """Where a map takes points [n, batch, dim], and its log |det| there: as [n, batch]."""

    values: tf.Tensor
    log_det: tf.Tensor


class Family(NamedTuple):
    """A family of maps G; those of "diagonal" are the identity.

    Attributes:
        initial: (batch, dim) -> the parameters of G, the identity.
        forward: (parameters, u: float32 [n, batch, dim]) -> G(u) and its log |det|.
        inverse: (parameters, v: float32 [n, batch, dim]) -> G^-1(v) and the log |det| of G^-1.
        learning_rate: a step of Adam, in units of q0's stddev.
        least_dim: the latents that it needs.
    """

    initial: Callable[[tf.Tensor | int, int], Parameters]
    forward: Callable[[Parameters, tf.Tensor], _Mapped]
    inverse: Callable[[Parameters, tf.Tensor], _Mapped]
    learning_rate: float
    least_dim: int = 1


def diagonal_parameters(batch: tf.Tensor | int, dim: int) -> Parameters:
    """The parameters that all families share, of the identity: float32 [batch, dim]."""
    return {name: tf.zeros([batch, dim]) for name in ("shift", "log_scale")}


class LocalDistribution(tfd.Distribution):
    """q(z|x) of a family, batch shape [batch], event shape [latent_dim].

    Args:
        start: q0(z|x), a reparameterized distribution with mean and stddev.
        family: G.
        parameters: `shift` and `log_scale`, and those of G.
        moments: mean and stddev of q0, if they are known; those of a flow take time.
    """

    def __init__(
        self,
        start: Any,
        family: Family,
        parameters: Parameters,
        moments: tuple[tf.Tensor, tf.Tensor] | None = None,
    ) -> None:
        """Keeps them."""
        self._start, self._family, self._own = start, family, parameters
        self._mean0, self._stddev0 = moments or (start.mean(), start.stddev())
        super().__init__(
            dtype=start.dtype,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            name="local_posterior",
        )

    def stopped(self) -> "LocalDistribution":
        """The same distribution, with parameters that have no gradient."""
        stopped = tf.nest.map_structure(tf.stop_gradient, self._own)
        moments = self._mean0, self._stddev0
        return LocalDistribution(self._start, self._family, stopped, moments)

    def map(self, z0: tf.Tensor) -> _Mapped:
        """Where draws of q0 go, z and log |det dz/dz0|: both [n, batch, ...]."""
        mapped = self._family.forward(self._own, (z0 - self._mean0) / self._stddev0)
        values = self._own["shift"] + tf.exp(self._own["log_scale"]) * mapped.values
        log_det = mapped.log_det + tf.reduce_sum(self._own["log_scale"], axis=-1)
        return _Mapped(self._mean0 + self._stddev0 * values, log_det)

    def _batch_shape(self) -> tf.TensorShape:
        return self._start.batch_shape

    def _batch_shape_tensor(self) -> tf.Tensor:
        return self._start.batch_shape_tensor()

    def _event_shape(self) -> tf.TensorShape:
        return self._start.event_shape

    def _event_shape_tensor(self) -> tf.Tensor:
        return self._start.event_shape_tensor()

    def _sample_n(self, n: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        return self.map(uncached(self._start.sample(n, seed=seed))).values

    def _log_prob(self, z: tf.Tensor) -> tf.Tensor:
        u = (z - self._mean0) / self._stddev0 - self._own["shift"]
        mapped = self._family.inverse(self._own, u * tf.exp(-self._own["log_scale"]))
        log_det = mapped.log_det - tf.reduce_sum(self._own["log_scale"], axis=-1)
        return log_det + self._start.log_prob(self._mean0 + self._stddev0 * mapped.values)


def _unchanged(parameters: Parameters, u: tf.Tensor) -> _Mapped:
    return _Mapped(u, tf.zeros([], u.dtype))


def _no_correlations(batch: tf.Tensor | int, dim: int) -> Parameters:
    return {"below": tf.zeros([batch, dim, dim])}


def _correlated(parameters: Parameters, u: tf.Tensor) -> _Mapped:
    """G(u) = (I + N) u, N strictly lower triangular."""
    below = _strictly_lower(parameters)
    return _Mapped(u + tf.einsum("bij,nbj->nbi", below, u), tf.zeros([], u.dtype))


def _decorrelated(parameters: Parameters, v: tf.Tensor) -> _Mapped:
    factor = tf.linalg.set_diag(_strictly_lower(parameters), tf.ones_like(v[0]))
    columns = tf.transpose(v, [1, 2, 0])
    u = tf.linalg.triangular_solve(factor, columns)
    return _Mapped(tf.transpose(u, [2, 0, 1]), tf.zeros([], v.dtype))


def _strictly_lower(parameters: Parameters) -> tf.Tensor:
    below = tf.linalg.band_part(parameters["below"], -1, 0)
    return tf.linalg.set_diag(below, tf.zeros_like(below[..., 0]))


def _no_coupling(batch: tf.Tensor | int, dim: int) -> Parameters:
    """Random first layers, the same for all examples, and last layers of 0."""
    parameters: Parameters = {}
    for number in range(NUM_LAYERS):
        given, changed = _halves(dim, number)
        seed = fold_seed(0, "local_flow", number)
        first = tf.random.stateless_normal([1, given, NUM_HIDDEN], seed, stddev=given**-0.5)
        parameters |= {
            f"first_{number}": tf.repeat(first, batch, axis=0),
            f"bias_{number}": tf.zeros([batch, 1, NUM_HIDDEN]),
            f"last_{number}": tf.zeros([batch, NUM_HIDDEN, 2 * changed]),
            f"last_bias_{number}": tf.zeros([batch, 1, 2 * changed]),
        }
    return parameters


def _coupled(parameters: Parameters, u: tf.Tensor) -> _Mapped:
    """Layers that in turn map one half of the coordinates given the other [1]."""
    given, changed = _split(u, 0)
    log_det = tf.zeros([], u.dtype)
    for number in range(NUM_LAYERS):
        log_scale, shift = _conditioner(parameters, number, given)
        given, changed = tf.exp(log_scale) * changed + shift, given
        log_det += tf.reduce_sum(log_scale, axis=-1)
    return _Mapped(_join(given, changed, NUM_LAYERS), log_det)


def _uncoupled(parameters: Parameters, v: tf.Tensor) -> _Mapped:
    given, changed = _split(v, NUM_LAYERS)
    log_det = tf.zeros([], v.dtype)
    for number in reversed(range(NUM_LAYERS)):
        given, changed = changed, given
        log_scale, shift = _conditioner(parameters, number, given)
        changed = tf.exp(-log_scale) * (changed - shift)
        log_det -= tf.reduce_sum(log_scale, axis=-1)
    return _Mapped(_join(given, changed, 0), log_det)


def _conditioner(
    parameters: Parameters, number: int, given: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The log scales and the shifts of a layer: [n, batch, changed coordinates]."""
    inputs = tf.transpose(given, [1, 0, 2])
    hidden = tf.tanh(inputs @ parameters[f"first_{number}"] + parameters[f"bias_{number}"])
    output = hidden @ parameters[f"last_{number}"] + parameters[f"last_bias_{number}"]
    h, shift = tf.split(tf.transpose(output, [1, 0, 2]), 2, axis=-1)
    return MAX_LOG_SCALE * tf.tanh(h / MAX_LOG_SCALE), shift


def _halves(dim: int, number: int) -> Sequence[int]:
    """How many coordinates a layer is given, and how many it changes."""
    sizes = [dim // 2, dim - dim // 2]
    return sizes if number % 2 == 0 else sizes[::-1]


def _split(u: tf.Tensor, number: int) -> list[tf.Tensor]:
    """The half that the layer of a number is given, and the half that it changes."""
    halves = tf.split(u, _halves(u.shape[-1], 0), axis=-1)
    return halves if number % 2 == 0 else halves[::-1]


def _join(given: tf.Tensor, changed: tf.Tensor, number: int) -> tf.Tensor:
    halves = [given, changed]
    return tf.concat(halves if number % 2 == 0 else halves[::-1], axis=-1)


FAMILIES: dict[str, Family] = {
    "diagonal": Family(lambda batch, dim: {}, _unchanged, _unchanged, 0.05),
    "full": Family(_no_correlations, _correlated, _decorrelated, 0.02),
    "flow": Family(_no_coupling, _coupled, _uncoupled, 0.01, least_dim=2),
}
