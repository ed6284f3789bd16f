"""Figures, tables and the page of a sweep; the only folder that draws."""

import contextlib
import os
import sys

__all__: list[str] = []


def _import_matplotlib() -> None:
    """Imports Matplotlib even if it lacks the backend that MPLBACKEND names.

    Commands in a notebook inherit the backend of its kernel, which may be another environment's.
    Figures are files and need none. A backend that Matplotlib has stays chosen.
    """
    if "matplotlib" in sys.modules:
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


_import_matplotlib()
