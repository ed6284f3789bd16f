"""Packages that some commands need, and that an installation may lack."""

import contextlib
from collections.abc import Iterator

from tfp_smvi.core.errors import SMVIError

__all__ = ["of_extra"]


@contextlib.contextmanager
def of_extra(extra: str) -> Iterator[None]:
    """Says what to install if an import of the block fails.

    Args:
        extra: the extra of this package that has what is imported, such as "plot".

    Raises:
        SMVIError: an import failed.
    """
    try:
        yield
    except ImportError as error:
        raise SMVIError(
            f"this needs a package that is not installed ({error.name or error})",
            remedy=f"run: pip install 'tfp-smvi[{extra}]'",
        ) from error
