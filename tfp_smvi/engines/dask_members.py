"""The workers of a cluster that an engine can use: those there at the start, and later ones."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.core.patience import Patience
from tfp_smvi.engines.dask_cluster import Cluster, WorkerInfo

__all__ = ["Members"]

WATCH_SECONDS = 1.0


class _Report(Protocol):
    def __call__(
        self, workers: Mapping[str, WorkerInfo] | None, warnings: tuple[str, ...] = ()
    ) -> None:
        """Receives the usable workers with a line for each new one refused, or the end, None."""


class Members:
    """Knows the usable workers of a cluster.

    A worker is usable if it has this version of the package and reads the folders in use. Those
    there at the start must be; a later one that is not gets no task.

    Args:
        cluster: the cluster.
        report: is called in another thread, every second, and at the end of the scheduler.
    """

    def __init__(self, cluster: Cluster, report: _Report) -> None:
        """Asks nobody."""
        self._cluster, self._report = cluster, report
        self._folders: list[Path] = []
        self._known: set[str] = set()
        self._refused: set[str] = set()
        self._closing = threading.Event()

    def wait_for_first(
        self, seconds: float, note: Callable[[str], None] | None
    ) -> dict[str, WorkerInfo]:
        """Waits for a worker.

        Raises:
            SMVIError: none comes, or one has another version.
        """
        patience = Patience(seconds, f"a worker of {self._cluster.address}", note)
        while not (workers := self._ask()):
            if patience.is_over():
                raise SMVIError(
                    f"the scheduler at {self._cluster.address} has no workers",
                    remedy="start some: dask worker ADDRESS --nthreads N",
                )
            time.sleep(WATCH_SECONDS / 2)
        others = self._cluster.find_other_versions([*workers])
        if others:
            remedy = "install the same version everywhere, and end workers that do not answer"
            raise SMVIError("; ".join(others.values()), remedy=remedy)
        self._known = {*workers}
        return workers

    def require(self, folder: Path, workers: Mapping[str, WorkerInfo]) -> None:
        """Makes sure that workers read the files of a folder.

        Raises:
            SMVIError: one does not, or nothing can be written there.
        """
        if folder in self._folders:
            return
        blind = self._cluster.find_blind([*workers], folder)
        if blind:
            raise SMVIError(
                "; ".join(blind.values()),
                remedy="put the folder on a file system that all hosts share, under one path",
            )
        self._folders.append(folder)

    def watch(self) -> None:
        """Begins to report."""
        threading.Thread(target=self._watch, daemon=True).start()

    def close(self) -> None:
        """Ends the reports."""
        self._closing.set()

    def _ask(self) -> dict[str, WorkerInfo]:
        try:
            return self._cluster.workers()
        except Exception as error:  # of as many kinds as Dask has
            raise SMVIError(
                f"the scheduler at {self._cluster.address} does not answer ({plain_reason(error)})",
                remedy="start it again",
            ) from error

    def _watch(self) -> None:
        while not self._closing.wait(WATCH_SECONDS):
            if not self._cluster.is_connected:
                self._report(None)
                return
            try:
                workers = self._ask()
                warnings = self._refuse([name for name in workers if name not in self._known])
            except SMVIError:
                self._report(None)
                return
            self._known = {*workers}
            usable = {a: info for a, info in workers.items() if a not in self._refused}
            self._report(usable, warnings)

    def _refuse(self, addresses: Sequence[str]) -> tuple[str, ...]:
        """Refuses the workers that cannot be used; returns a line for each."""
        problems = self._cluster.find_other_versions(addresses)
        for folder in self._folders:
            fit = [address for address in addresses if address not in problems]
            problems |= self._cluster.find_blind(fit, folder)
        self._refused |= problems.keys()
        return tuple(f"a worker is not used: {problem}." for problem in problems.values())
