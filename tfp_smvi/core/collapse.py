"""When a posterior has collapsed: it says nothing of x, and its gap is 0 all the same.

References:
    [1] Y. Burda, R. Grosse, R. Salakhutdinov. Importance Weighted Autoencoders. ICLR 2016.
        Section 5.2.
"""

import numpy as np

__all__ = ["LEAST_CHANGE", "active_units", "collapse_symptoms", "count_active_units"]

# A unit is active if its posterior mean varies more than this over the data [1].
ACTIVE_VARIANCE = 0.01
# What latents of another example must at least cost, in nats, or reconstructions do not depend on
# x. A single latent that is just active costs about as much.
LEAST_CHANGE = 0.01


def count_active_units(means: np.ndarray) -> int | None:
    """The latents with Var_x(E_q[z|x]) > 0.01; None for a single example, which has no variance.

    Args:
        means: the means of q(z|x): float [num_examples, latent_dim].
    """
    return None if len(means) == 1 else int(np.sum(active_units(means)))


def active_units(means: np.ndarray) -> np.ndarray:
    """Which latents are active: bool [latent_dim]; all for a single example."""
    if len(means) == 1:
        return np.ones(means.shape[1], bool)
    return np.asarray(np.var(means, axis=0) > ACTIVE_VARIANCE)


def collapse_symptoms(active_units: int | None, change: float | None) -> str | None:
    """What shows that a posterior has collapsed, in words; None if nothing does.

    Args:
        active_units: the number of active latents; None if it is not known.
        change: the mean of `reconstruction_change`, in nats; None if it is not known.
    """
    symptoms = []
    if active_units == 0:
        symptoms.append(
            f"no latent is active (the mean of q(z|x) varies by at most {ACTIVE_VARIANCE} over "
            "the examples in each)"
        )
    if change is not None and change < LEAST_CHANGE:
        symptoms.append(
            "reconstructions do not depend on x (the latents of another example change log p(x|z) "
            f"by only {change:.2g} nat)"
        )
    return " and ".join(symptoms) or None
