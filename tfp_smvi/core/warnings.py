"""Warnings of the library point to the line that called it."""

import inspect
import warnings
from collections.abc import Sequence

__all__ = ["warn"]


def warn(lines: Sequence[str]) -> None:
    """Warns once of all that is wrong, at the line outside of the package that called it."""
    if not lines:
        return
    frame, level = inspect.currentframe(), 1
    # contextlib decorates the estimators.
    while frame and frame.f_globals["__name__"].partition(".")[0] in ("tfp_smvi", "contextlib"):
        frame, level = frame.f_back, level + 1
    warnings.warn(" ".join(lines), UserWarning, stacklevel=level)
