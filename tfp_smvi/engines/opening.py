"""Opens an engine that is given by its text."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.extras import of_extra
from tfp_smvi.engines.addresses import LOCAL, check_address

if TYPE_CHECKING:
    from tfp_smvi.engines.dask import DaskEngine

__all__ = ["open_engine"]


@contextlib.contextmanager
def open_engine(
    text: str,
    *,
    jobs: int | None = None,
    threads: int | None = None,
    note: Callable[[str], None] | None = None,
) -> "Iterator[DaskEngine | None]":
    """Opens the engine of a text; its tasks have ended when the context ends.

    Args:
        text: "local", tcp://HOST:PORT, tls://HOST:PORT or file:/PATH of a scheduler's file.
        jobs: the most tasks at once on a cluster; None for all that its workers take.
        threads: CPU threads of each task on a cluster; None divides a host's cores.
        note: is called with one line if a cluster takes long to start; None for no line.

    Yields:
        The engine of the cluster; None for "local", the engine that callers have by default.

    Raises:
        SMVIError: the text is none of these, the extra for clusters is not installed, or the
            cluster or Dask cannot be used.
    """
    if text == LOCAL:
        yield None
        return
    check_address(text)
    try:
        with of_extra("cluster"):
            from tfp_smvi.engines.dask import DaskEngine
    except ValueError as error:  # Dask reads its configuration when it is imported
        reason = " ".join(str(error).split()).removesuffix(".")
        remedy = "correct the file, which is one of Dask's"
        raise SMVIError(f"Dask cannot be used ({reason})", remedy=remedy) from error
    with DaskEngine(text, jobs=jobs, threads=threads, note=note) as engine:
        yield engine
