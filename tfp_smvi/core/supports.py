"""Whether a distribution has a density: those of counts and of points have none."""

from collections.abc import Iterable
from typing import Any

from tensorflow_probability import distributions as tfd

__all__ = ["is_discrete"]

# TFP calls some of them reparameterized, or gives them the support of what they are made from.
_POINTS = (tfd.Deterministic, tfd.Empirical, tfd.QuantizedDistribution, tfd.VectorDeterministic)


def is_discrete(distribution: Any) -> bool:
    """Whether a distribution of TFP has no density, whatever the dtype of its samples.

    The answer is that of the parts of mixtures, products and transformed distributions.
    """
    if isinstance(distribution, _POINTS):
        return True
    parts = list(_parts(distribution))
    if parts:
        return any(map(is_discrete, parts))
    reparameterized = getattr(distribution, "reparameterization_type", None)
    find_bijector = getattr(distribution, "experimental_default_event_space_bijector", None)
    if reparameterized == tfd.FULLY_REPARAMETERIZED or find_bijector is None:
        return False
    try:
        return find_bijector() is None  # from real numbers to the support
    except Exception:  # TFP has none, or fails to make it
        return False


def _parts(distribution: Any) -> Iterable[Any]:
    """The distributions that a distribution of z is made from, without the choice among them."""
    if isinstance(distribution, tfd.Mixture):
        return distribution.components
    if isinstance(distribution, tfd.MixtureSameFamily):
        return [distribution.components_distribution]
    if isinstance(distribution, tfd.Blockwise):
        return distribution.distributions
    inner = getattr(distribution, "distribution", None)
    return [inner] if isinstance(inner, tfd.Distribution) else []
