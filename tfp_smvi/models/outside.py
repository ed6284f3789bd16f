"""A trained model that a user brings as an object, in the form that an evaluation needs."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.core.densities import check_distribution
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.models.imports import RAISED, reason_of

__all__ = ["AdaptedModel"]

_NEEDED = "give an object with prior and decode(z), or with prior, log_likelihood(x, z) and "
_NEEDED += "simulate(z, seed)"


class AdaptedModel:
    """A `LatentVariableModel` made of a user's object.

    Args:
        given: the object. `prior` is a TFP distribution of event shape [latent_dim]. p(x|z) is
            `decode(z)`, a distribution of batch shape [..., batch], or `log_likelihood(x, z)`,
            float32 [..., batch], and `simulate(z, seed)`, which returns x. Both take float32
            z [..., batch, latent_dim]. `encode(x)`, if there is one, returns q(z|x), of batch
            shape [batch].
        name: what messages call it.
        file: the source file that defines it; None if it has none.

    Attributes:
        prior: p(z).
        has_encoder: whether there is a q(z|x).

    Raises:
        SMVIError: the object lacks one of these, or its prior is not usable.
    """

    def __init__(self, given: Any, name: str, file: str | None = None) -> None:
        """Looks at the members, and calls none of them."""
        self.name, self.file, self._given = name, file, given
        self.prior = self._member("prior")
        if self.prior is None:
            raise self.wrong(f"has no prior (it is a {type(given).__name__})", _NEEDED)
        if not self._has("decode", "log_likelihood"):
            raise self.wrong("has neither decode(z) nor log_likelihood(x, z)", _NEEDED)
        if not self._has("decode", "simulate"):
            raise self.wrong(
                "has no simulate(z, seed)",
                "give it, or decode(z): log p(x) is checked on x drawn from p(x|z)",
            )
        self._check_prior()
        self.has_encoder = self._has("encode")

    def encode(self, x: tf.Tensor) -> Any:
        """Returns q(z|x); without an encoder p(z), from which chains start."""
        if self.has_encoder:
            return self._given.encode(x)
        return tfd.BatchBroadcast(self.prior, [x.shape[0]])

    def decode(self, z: tf.Tensor) -> "_Likelihood":
        """Returns p(x|z): z [..., latent_dim]."""
        return _Likelihood(self, z)

    def decoded(self, z: tf.Tensor) -> Any:
        """What the object's own decode(z) returns; None if its log_likelihood is used."""
        return None if self._has("log_likelihood") else self._given.decode(z)

    def log_joint(self, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        """Returns log p(x, z): x [batch, ...], z [..., batch, latent_dim] -> [..., batch], nats."""
        return self.prior.log_prob(z) + self.log_likelihood(x, z)

    def log_likelihood(self, x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
        """Returns log p(x|z): x [batch, ...], z [..., batch, latent_dim] -> [..., batch], nats."""
        if self._has("log_likelihood"):
            return self._given.log_likelihood(x, z)
        return self._given.decode(z).log_prob(x)

    def simulate(self, z: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Draws x ~ p(x|z): z [batch, latent_dim] -> float32 [batch, ...]."""
        if self._has("simulate"):
            return tf.cast(self._given.simulate(z, seed), tf.float32)
        return tf.cast(self._given.decode(z).sample(seed=seed), tf.float32)

    def wrong(self, problem: str, remedy: str) -> SMVIError:
        """Makes the error of a model that cannot be used."""
        return SMVIError(problem, field="model", value=self.name, remedy=remedy)

    def require(self, name: str, check: Callable[[Any], None], distribution: Any) -> None:
        """Lets a check of an argument speak of one of the object's distributions."""
        try:
            check(distribution)
        except SMVIError as error:
            problem = f"has a {name} that cannot be used: it {error.problem}"
            raise self.wrong(problem, str(error.remedy)) from error

    def _has(self, *names: str) -> bool:
        """Whether the object has one of some members."""
        return any(self._member(name) is not None for name in names)

    def _member(self, name: str) -> Any:
        """A member of the object; None if it has none of this name."""
        try:
            return getattr(self._given, name)
        except RAISED as error:
            # A property that is there may lack something of its own.
            missing = inspect.getattr_static(self._given, name, None) is None
            if isinstance(error, AttributeError) and missing:
                return None
            reason = reason_of(error, self.file)
            raise self.wrong(f"fails for {name}: {reason}", "mend the property") from error

    def _check_prior(self) -> None:
        prior, remedy = self.prior, "give a TFP distribution of event shape [latent_dim], such as "
        remedy += "tfd.MultivariateNormalDiag(tf.zeros(latent_dim))"
        if not isinstance(prior, tfd.Distribution):
            raise self.wrong(f"has a prior that is a {type(prior).__name__}", remedy)
        self.require("prior", functools.partial(check_distribution, "prior"), prior)
        if prior.dtype != tf.float32:
            raise self.wrong(f"has a prior of {tf.as_dtype(prior.dtype).name}", "give float32")
        batch, event = prior.batch_shape, prior.event_shape
        if batch.rank != 0 or event.rank != 1 or not event.is_fully_defined():
            raise self.wrong(f"has a prior of batch shape {batch} and event shape {event}", remedy)


class _Likelihood(NamedTuple):
    """p(x|z) of a user's object at some z."""

    model: AdaptedModel
    z: tf.Tensor

    def log_prob(self, x: tf.Tensor) -> tf.Tensor:
        """Returns log p(x|z)."""
        return self.model.log_likelihood(x, self.z)

    def sample(self, seed: tf.Tensor) -> tf.Tensor:
        """Draws x."""
        return self.model.simulate(self.z, seed)
