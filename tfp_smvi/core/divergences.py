"""The names of the divergences, and which of them may be minimized alone."""

import math
from typing import Literal

from tfp_smvi.core.errors import SMVIError

__all__ = ["DivergenceName", "check_lam_of"]

DivergenceName = Literal["fisher", "weighted"]


def check_lam_of(divergence: DivergenceName, lam: float) -> None:
    """Raises an SMVIError for an infinite lam, the divergence alone, if it is the weighted one.

    D_w is at most 1 in each dimension where the variances of q(z|x) vanish, so that without the
    ELBO, which would be infinitely low there, it prefers a point mass to a fair approximation.
    """
    if divergence == "weighted" and math.isinf(lam):
        raise SMVIError(
            "is not for the divergence weighted, which alone lets the variances of q(z|x) vanish",
            field="lam",
            value=lam,
            remedy="give a finite number, or fisher as {divergence}",
        )
