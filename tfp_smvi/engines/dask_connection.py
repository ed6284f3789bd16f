"""Where the scheduler of a cluster is, and whether a client of Dask can connect to it.

Dask's own client waits forever for a server that takes the connection and never answers, and prints
a traceback after some addresses. So the connection is tried before there is a client.
"""

import asyncio
import json
import re
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
from distributed import Security
from distributed.comm.core import connect

from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.core.patience import Patience
from tfp_smvi.engines.addresses import FILE, check_address

__all__ = ["CONNECT_SECONDS", "find_scheduler", "short_reason"]

CONNECT_SECONDS = 15.0
_CLIENT_FILES = ("ca-file", "client.cert", "client.key")


def find_scheduler(address: str, wait: float, note: Callable[[str], None] | None = None) -> str:
    """Returns the tcp:// or tls:// address of a scheduler that answers.

    Args:
        address: as of `check_address`.
        wait: seconds to wait for the file of a scheduler.
        note: is called with one line if that takes long; None for no line.

    Raises:
        SMVIError: the scheduler cannot be found, or does not answer.
    """
    check_address(address)
    place = address
    if address.startswith(FILE):
        path = Path(address.removeprefix(FILE))
        place = _read_scheduler_file(path, Patience(wait, str(path), note))
    if place.startswith("tls://"):
        _require_certificates(place)
    elif Security().require_encryption:
        raise SMVIError(
            "is not encrypted, which Dask's configuration (distributed.comm) requires",
            field="engine",
            value=place,
            remedy="give the address of a scheduler with --protocol tls",
        )
    _require_answer(place)
    return place


def short_reason(error: object) -> str:
    """An error of Dask's in one line, without what it repeats."""
    if isinstance(error, OSError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    reason = plain_reason(error).removesuffix(".")
    return re.sub(r"^in <.*?>: (\w+: )?(\[Errno \d+\] )?", "", reason)


def _read_scheduler_file(path: Path, patience: Patience) -> str:
    """Reads the address in the file of a scheduler, once the scheduler has written it."""
    while True:
        try:
            place = str(json.loads(path.read_text(encoding="utf-8"))["address"])
            break
        except (OSError, ValueError, KeyError, TypeError) as error:
            if patience.is_over():
                raise SMVIError(
                    f"no scheduler has written {path} ({short_reason(error)})",
                    remedy=f"start one: dask scheduler --scheduler-file {path}",
                ) from error
        time.sleep(0.5)
    try:
        if place.startswith(FILE):
            raise SMVIError("is not the address of a scheduler")
        check_address(place)
    except SMVIError as error:
        raise SMVIError(
            f"the file {path} has the address {place!r}, which is not tcp:// or tls://",
            remedy="start its scheduler with --protocol tcp or tls",
        ) from error
    return place


def _require_certificates(place: str) -> None:
    """Raises an SMVIError if Dask's configuration names no certificates that can be read."""
    try:
        context = Security().get_connection_args("client").get("ssl_context")
        reason = "none are configured" if context is None else None
    except (OSError, ValueError) as error:
        paths = [dask.config.get(f"distributed.comm.tls.{name}") for name in _CLIENT_FILES]
        missing = [path for path in paths if path is not None and not Path(path).is_file()]
        reason = f"there is no file {missing[0]}" if missing else short_reason(error)
    if reason is not None:
        raise SMVIError(
            f"needs the certificates of its cluster ({reason})",
            field="engine",
            value=place,
            remedy="set distributed.comm.tls.ca-file, client.cert and client.key in Dask's "
            "configuration, or DASK_DISTRIBUTED__COMM__TLS__CA_FILE and so on",
        )


def _require_answer(place: str) -> None:
    """Raises an SMVIError unless a server at an address talks as Dask does."""

    async def ask() -> None:
        connecting = connect(
            place, timeout=CONNECT_SECONDS, **Security().get_connection_args("client")
        )
        # Dask limits the time to connect, but not that of the first answer.
        comm = await asyncio.wait_for(connecting, 1.5 * CONNECT_SECONDS)
        await comm.close()

    try:
        # The thread of the caller may have an event loop of its own, as in a notebook.
        with ThreadPoolExecutor(1) as executor:
            executor.submit(asyncio.run, ask()).result()
    except Exception as error:  # of as many kinds as there are servers that are not Dask's
        reason = short_reason(error)
        if any(isinstance(cause, ssl.SSLError) for cause in (error, error.__cause__)):
            raise SMVIError(
                f"the scheduler at {place} and this command do not accept each other's "
                f"certificates ({reason})",
                remedy="give all parts certificates of one authority (distributed.comm.tls)",
            ) from error
        protocol = place.partition(":")[0]
        raise SMVIError(
            f"no scheduler answers at {place} ({reason})",
            remedy=f"start one (dask scheduler --protocol {protocol}), or correct {{engine}}",
        ) from error
