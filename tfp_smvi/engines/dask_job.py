"""A task of a Dask engine, and the order that is out for it."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from distributed import Future

from tfp_smvi.engines.base import Task
from tfp_smvi.engines.dask_cluster import GPU, Cluster, WorkerInfo
from tfp_smvi.engines.dask_worker import Order, run_order

__all__ = ["Job"]

# The deaths of workers in a row, each soon after it has begun a task, after which the task fails.
MAX_DEATHS = 3
# A host may be taken away any number of times from a task that has worked longer than this.
SOON_SECONDS = 600.0


@dataclass
class Job:
    """A task and where it is.

    Attributes:
        task: the task.
        attempt: the number of the order that is out; -1 for none.
        worker: the address of the worker that has the order; None for none.
        begun: whether the worker has begun it.
        began: when that was, on the monotonic clock.
        deaths: how many workers in a row have died soon after they had begun it.
        future: Dask's future of the order.
    """

    task: Task
    attempt: int = -1
    worker: str | None = None
    begun: bool = False
    began: float = 0.0
    deaths: int = 0
    future: Future[None] | None = field(default=None, repr=False)

    def submit(
        self,
        cluster: Cluster,
        order: Order,
        address: str,
        worker: WorkerInfo,
        report: Callable[[Order, BaseException], None],
    ) -> None:
        """Gives an order of the task to a worker, and to no other; Dask's errors are reported."""

        def end(future: Future[None]) -> None:
            if future.status == "error":
                report(order, future.exception())

        self.attempt, self.worker, self.begun = order.attempt, address, False
        self.future = cluster.client.submit(
            run_order,
            json.dumps(order.to_json()),
            key=f"{order.topic}-{order.attempt}",
            pure=False,
            workers=[address],
            allow_other_workers=False,
            resources=None if worker.gpus is None else {GPU: 1},
        )
        self.future.add_done_callback(end)

    def begin(self) -> None:
        """Notes that its worker has begun it."""
        self.begun, self.began = True, time.monotonic()

    def count_death(self) -> str | None:
        """Counts a death of its worker; one that comes late is not the fault of the task.

        Returns:
            Why the task fails; None if it may go on.
        """
        is_late = time.monotonic() - self.began > SOON_SECONDS
        self.deaths = 1 if is_late else self.deaths + 1
        if self.deaths < MAX_DEATHS:
            return None
        return (
            f"{self.deaths} workers died while they ran it; unless you ended them, memory ran out: "
            "run fewer tasks at once, or take smaller batches."
        )

    def cancel(self) -> None:
        """Stops the order: its worker sees that nobody waits for it."""
        if self.future is not None:
            self.future.cancel()

    def release(self) -> None:
        """Takes the order back; what is still heard of it is ignored."""
        self.cancel()
        self.attempt, self.worker, self.begun, self.future = -1, None, False, None
