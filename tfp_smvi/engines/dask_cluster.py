"""A cluster of Dask: the connection to its scheduler, and which workers can be used."""

import asyncio
import contextlib
import logging
import pkgutil
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distributed import Client

from tfp_smvi.core.errors import SMVIError, explain_write_errors
from tfp_smvi.core.files import create_new
from tfp_smvi.engines.dask_connection import CONNECT_SECONDS, find_scheduler, short_reason
from tfp_smvi.engines.dask_worker import read_token
from tfp_smvi.version import __version__

__all__ = ["GPU", "Cluster", "WorkerInfo", "slots_of"]

# The resource that workers with GPUs declare: dask worker --resources "GPU=1".
GPU = "GPU"
ANSWER_SECONDS = 30.0


class WorkerInfo(NamedTuple):
    """A worker, as the scheduler knows it.

    Attributes:
        host: the address of its host.
        threads: the tasks that it runs at once.
        gpus: the GPUs that it declares; None for none.
        running: whether it takes tasks now.
    """

    host: str
    threads: int
    gpus: int | None
    running: bool


class Cluster:
    """A connection to a scheduler.

    Args:
        address: as of `check_address`.
        wait: seconds to wait for the file of a scheduler.
        note: is called with one line if that takes long; None for no line.

    Attributes:
        client: the client of Dask.

    Raises:
        SMVIError: the scheduler cannot be found, or does not answer.
    """

    def __init__(
        self, address: str, wait: float, note: Callable[[str], None] | None = None
    ) -> None:
        """Connects."""
        self.address = address
        _silence_dask()
        place = find_scheduler(address, wait, note)
        try:
            self.client = Client(
                place, timeout=CONNECT_SECONDS, set_as_default=False, name="tfp-smvi"
            )
        except (OSError, ValueError) as error:
            raise SMVIError(
                f"no scheduler answers at {place} ({short_reason(error)})",
                remedy="start one (dask scheduler), or correct {engine}",
            ) from error

    @property
    def is_connected(self) -> bool:
        """Whether the scheduler has answered without a break."""
        return self.client.status == "running"

    def error(self, problem: str, remedy: str) -> SMVIError:
        """The error of a cluster that cannot go on."""
        return SMVIError(
            f"the scheduler at {self.address} {problem}",
            remedy=f"what is done is kept: {remedy}, and then the same command",
        )

    def close(self) -> None:
        """Ends the connection."""
        with contextlib.suppress(Exception):  # what of it still works is of no interest
            self.client.close(timeout=5)

    def workers(self) -> dict[str, WorkerInfo]:
        """Asks the scheduler for its workers, by address.

        Raises:
            OSError: it does not answer.
        """
        scheduler = self.client.scheduler
        if scheduler is None:
            raise OSError("the connection is closed")
        identity = self.client.sync(scheduler.identity, callback_timeout=ANSWER_SECONDS)
        return {address: _info(values) for address, values in identity["workers"].items()}

    def find_other_versions(self, addresses: Sequence[str]) -> dict[str, str]:
        """Says what is wrong with the versions of workers, by the address of each such worker."""
        # A function of Python's own: workers of other versions must answer, too.
        answers = self.run(addresses, pkgutil.resolve_name, "tfp_smvi.version:__version__")
        return {
            address: self._describe_other(address, answer)
            for address, answer in answers.items()
            if answer != __version__
        }

    def _describe_other(self, address: str, answer: Any) -> str:
        if isinstance(answer, OSError):
            return f"{address} does not answer ({short_reason(answer)})"
        is_text = isinstance(answer, str)
        version = f"tfp-smvi {answer}" if is_text else f"none ({short_reason(answer)})"
        return f"{self.name_of(address)} has {version}, and this is {__version__}"

    def find_blind(self, addresses: Sequence[str], folder: Path) -> dict[str, str]:
        """Says which workers cannot read the files of a folder, by the address of each.

        Raises:
            SMVIError: no file can be written there.
        """
        with _token(folder) as (path, text):
            answers = self.run(addresses, read_token, str(path))
        blind = {}
        for address, answer in answers.items():
            if isinstance(answer, Exception):
                blind[address] = f"{address} does not answer ({short_reason(answer)})"
            elif answer.get("text") != text:
                reason = answer.get("error", "other files are there")
                blind[address] = f"{answer['host']} ({address}) cannot read {folder} ({reason})"
        return blind

    def run(self, addresses: Sequence[str], function: Any, *arguments: Any) -> dict[str, Any]:
        """Calls a function on workers; an exception takes the place of what it returns."""
        if not addresses:
            return {}

        async def ask(address: str) -> Any:
            awaited = self.client.run(function, *arguments, workers=[address], on_error="return")
            try:
                answers = await asyncio.wait_for(awaited, ANSWER_SECONDS)
                return answers.get(address, OSError("it has left"))
            except Exception as error:  # one worker that does not answer says nothing of others
                return error

        async def ask_all() -> dict[str, Any]:
            answers = await asyncio.gather(*map(ask, addresses))
            return dict(zip(addresses, answers, strict=True))

        try:
            return self.client.sync(ask_all)
        except Exception as error:  # of the connection, as many kinds as Dask has
            return dict.fromkeys(addresses, error)

    def name_of(self, address: str) -> str:
        """The name of a worker's host, with its address; of a worker of any version."""
        host = self.run([address], socket.gethostname).get(address)
        return f"{host} ({address})" if isinstance(host, str) else address


def slots_of(workers: Mapping[str, WorkerInfo]) -> dict[str, int]:
    """How many tasks each worker takes; if any declares GPUs, those without take none."""
    use_gpus = any(info.gpus is not None for info in workers.values())
    return {
        address: min(info.threads, info.gpus or 0) if use_gpus else info.threads
        for address, info in workers.items()
        if info.running
    }


def _silence_dask() -> None:
    """Silences Dask's loggers, each of which has its level: failures are reported in one line."""
    for name in ["distributed", *logging.root.manager.loggerDict]:
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _info(values: Mapping[str, Any]) -> WorkerInfo:
    gpus = values["resources"].get(GPU)
    return WorkerInfo(
        host=values["host"],
        threads=values["nthreads"],
        gpus=None if gpus is None else int(gpus),
        running=values["status"] == "running",
    )


@contextlib.contextmanager
def _token(folder: Path) -> Iterator[tuple[Path, str]]:
    """A new file with a text that nobody else knows, within the block."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    path, text = folder / f".tfp-smvi-{secrets.token_hex(8)}.token", secrets.token_hex(16)
    try:
        remedy = "make room or give write permission, or take another folder"
        with explain_write_errors(f"to {folder}", remedy), create_new(path) as file:
            file.write(text.encode())
        yield path, text
    finally:
        with contextlib.suppress(OSError):  # of a read-only disk, whose error is known already
            path.unlink()
