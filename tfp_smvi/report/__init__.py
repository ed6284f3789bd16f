"""Figures, tables and the page of a sweep; the only folder that draws.

It needs the extra "plot", and raises an SMVIError that says so at its import.
"""

import contextlib
import os
import sys

from tfp_smvi.core.extras import of_extra

__all__: list[str] = []


def _import_matplotlib() -> None:
    """Imports Matplotlib even if it lacks the backend that MPLBACKEND names.

    Commands in a notebook inherit the backend of its kernel, which may be another environment's.
    Figures are files and need none. A backend that Matplotlib has stays chosen.
    """
    if sys.modules.get("matplotlib") is not None:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


with of_extra("plot"):
    _import_matplotlib()
