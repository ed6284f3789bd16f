"""The engine that runs tasks on a cluster, by Dask.

The engine itself gives each task to a worker that is free, and no more: so no task waits on a
worker, and the death of a worker concerns only those that it was running. These start again
elsewhere. A task that has seen several workers die fails.

Orders travel to the workers, and events of tasks back under a topic of the engine, as JSON.
"""

import json
import queue
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from distributed import KilledWorker

from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.core.patience import Patience
from tfp_smvi.engines.base import Event, Task, require_jobs
from tfp_smvi.engines.dask_cluster import Cluster, WorkerInfo, slots_of
from tfp_smvi.engines.dask_job import Job
from tfp_smvi.engines.dask_members import Members
from tfp_smvi.engines.dask_worker import BEGUN, LEFT, Order, kill_orders
from tfp_smvi.engines.worker import STOPPED

__all__ = ["DaskEngine"]

# How long the end of the context waits for tasks to save.
END_SECONDS = 60.0
# The engine's own events: what the scheduler knows, that it is gone, and that an order failed.
_WORKERS, _LOST, _ERRED = ":workers", ":lost", ":erred"


class DaskEngine:
    """Runs tasks on the workers of a scheduler; they save and end when the context ends.

    A worker of Dask runs as many tasks at once as it has threads or, if any worker declares the
    resource "GPU", as it has of these. Each task has a process of its own there. The folders that
    tasks use must be on a file system that all hosts share.

    Args:
        address: tcp://HOST:PORT or tls://HOST:PORT of the scheduler, or file:/PATH of its file.
            Certificates for TLS are those of Dask's own configuration (distributed.comm.tls).
        jobs: the most tasks at once; None for all that the workers take.
        threads: CPU threads of each task; None divides a host's cores between its tasks.
        wait: seconds to wait for a worker, at the start and when all are gone.
        note: is called with one line if the start takes long; None for no line.

    Raises:
        SMVIError: no scheduler answers, it has no workers, or a worker has another version.
    """

    def __init__(
        self,
        address: str,
        *,
        jobs: int | None = None,
        threads: int | None = None,
        wait: float = 60.0,
        note: Callable[[str], None] | None = None,
    ) -> None:
        """Connects, and waits for the first worker."""
        require_jobs(jobs)
        self._max_jobs, self._threads, self._wait = jobs, threads, wait
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[str] = deque()
        self._attempts = 0
        self._ready: deque[Event] = deque()
        # A signal handler may put into it while the same thread waits for it.
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._is_stopping = self._is_lost = False
        self._topic = f"tfp-smvi-{uuid.uuid4().hex}"
        self._cluster = Cluster(address, wait, note)
        self._members = Members(self._cluster, self._put_workers)
        try:
            self._workers: Mapping[str, WorkerInfo] = self._members.wait_for_first(wait, note)
            self._cluster.client.subscribe_topic(self._topic, self._receive)
        except BaseException:
            self._cluster.close()
            raise
        self._absence: Patience | None = None
        self._members.watch()

    def __enter__(self) -> Self:
        """Does nothing."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Stops the tasks that still run, waits for them, and leaves the cluster."""
        if not self._is_lost:
            self.stop()
            end = time.monotonic() + END_SECONDS
            while any(job.begun for job in self._jobs.values()) and not self._is_lost:
                try:
                    self._take(self._events.get(timeout=max(0.0, end - time.monotonic())))
                except (queue.Empty, SMVIError):
                    break
                while self._ready:
                    self._finish(self._ready.popleft())
        self._members.close()
        self._cluster.close()

    def __len__(self) -> int:
        """The number of tasks whose exit was not returned yet."""
        return len(self._jobs)

    @property
    def capacity(self) -> int:
        """How many tasks the cluster takes at once now, at least 1: one can wait for a worker."""
        slots = sum(slots_of(self._workers).values())
        return max(1, min(slots, self._max_jobs or slots))

    @property
    def full(self) -> bool:
        """Whether as many run as may."""
        return len(self) >= self.capacity

    def require(self, folder: Path) -> None:
        """Makes sure that all workers read the files of a folder; later ones are checked, too.

        Raises:
            SMVIError: a worker does not, with the names of its host and of the folder.
        """
        self._members.require(folder, self._workers)

    def start(self, task: Task) -> None:
        """Gives a task to a free worker, or lets it wait for one."""
        self._jobs[task.name] = Job(task)
        self._waiting.append(task.name)
        self._place()

    def next_event(self) -> Event:
        """Waits for the next event.

        Raises:
            SMVIError: the scheduler is gone, or there has been no worker for too long.
        """
        while not self._ready:
            self._take(self._events.get())
        event = self._ready.popleft()
        self._finish(event)
        return event

    def put(self, event: Event) -> None:
        """Puts an event into the queue; may be called from a signal handler."""
        self._events.put(event)

    def stop(self) -> None:
        """Lets all tasks save and end; their exits are events."""
        self._is_stopping = True
        for name, job in self._jobs.items():
            job.cancel()
            if not job.begun:
                self.put(Event(name, "exit", {"code": STOPPED}))
        self._waiting.clear()

    def kill(self) -> None:
        """Ends all tasks at once."""
        self._is_stopping = True
        self._cluster.run([*self._workers], kill_orders, self._topic)

    def _take(self, event: Event) -> None:
        """Puts what the caller should see of an event into `_ready`."""
        match event.kind:
            case ":workers":
                self._take_workers(event.values["workers"], event.values["warnings"])
            case ":lost":
                self._is_lost = True
                raise self._cluster.error("does not answer any more", "start it again")
            case ":erred":
                self._take_error(event)
            case "exit" if event.task not in self._jobs:
                pass  # it ended by itself when it was stopped
            case _ if not event.task or "attempt" not in event.values:
                self._ready.append(event)
            case _:
                self._take_event(event)

    def _take_event(self, event: Event) -> None:
        """Takes an event of a task, unless it comes from an attempt that was given up."""
        job = self._jobs.get(event.task)
        if job is None or job.attempt != event.values["attempt"]:
            return
        if event.kind == LEFT and not self._is_stopping:
            self._give_up(job, "closed")
            self._place()
        elif event.kind != BEGUN:
            kind = "exit" if event.kind == LEFT else event.kind
            self._ready.append(Event(event.task, kind, event.values["values"]))
        elif job.begun:  # its worker died, and another one had the same address
            if self._count_death(job):
                job.begin()
        else:
            job.begin()

    def _take_error(self, event: Event) -> None:
        job, error = self._jobs.get(event.task), event.values["error"]
        if job is None or job.attempt != event.values["attempt"]:
            return
        if isinstance(error, KilledWorker):
            self._give_up(job, "died")
            self._place()
        else:
            self._fail(job, f"the worker {job.worker} cannot run it ({plain_reason(error)})")

    def _take_workers(self, workers: Mapping[str, WorkerInfo], warnings: tuple[str, ...]) -> None:
        before, self._workers = self.capacity, workers
        if self.capacity > before:  # the caller may start more
            self._note(f"the cluster takes {self.capacity} tasks at once now.")
        self._ready.extend(Event("", "warn", {"message": line}) for line in warnings)
        for job in self._jobs.values():
            if job.worker is not None and job.worker not in workers:
                self._give_up(job, "died")
        self._place()
        self._require_room()

    def _require_room(self) -> None:
        """Raises an SMVIError if tasks have waited too long for a worker that takes any."""
        if not self._jobs or any(slots_of(self._workers).values()):
            self._absence = None
            return
        if self._absence is None:
            self._absence = Patience(self._wait, "a worker that takes tasks", self._note)
        if self._absence.is_over():
            problem = f"has had no worker that takes tasks for {self._wait:g} seconds"
            raise self._cluster.error(problem, "start workers")

    def _note(self, message: str) -> None:
        self._ready.append(Event("", "note", {"message": message}))

    def _give_up(self, job: Job, what: str) -> None:
        """Takes a task back from a worker that "died" or "closed"."""
        was_begun, worker = job.begun, job.worker
        job.release()
        if self._is_stopping:
            self._ready.append(Event(job.task.name, "exit", {"code": STOPPED}))
            return
        if was_begun and what == "died" and not self._count_death(job):
            return
        if was_begun:
            message = f"the worker {worker} {what} during this task, which starts again elsewhere."
            self._ready.append(Event(job.task.name, "warn", {"message": message}))
        self._waiting.appendleft(job.task.name)

    def _count_death(self, job: Job) -> bool:
        """Counts a death; returns whether the task may go on."""
        if (reason := job.count_death()) is not None:
            self._fail(job, reason)
        return reason is None

    def _fail(self, job: Job, error: str) -> None:
        job.release()
        self._ready.append(Event(job.task.name, "failed", {"error": error}))
        self._ready.append(Event(job.task.name, "exit", {"code": 1}))

    def _finish(self, event: Event) -> None:
        if event.kind == "exit":
            self._jobs.pop(event.task, None)

    def _place(self) -> None:
        """Gives tasks that wait to free workers, first to those with the most room."""
        slots, taken = slots_of(self._workers), [job.worker for job in self._jobs.values()]
        room = {address: count - taken.count(address) for address, count in slots.items()}
        while self._waiting and room and max(room.values()) > 0:
            address = max(room, key=lambda name: room[name])
            room[address] -= 1
            self._submit(self._jobs[self._waiting.popleft()], address)

    def _submit(self, job: Job, address: str) -> None:
        info, slots = self._workers[address], slots_of(self._workers)
        self._attempts += 1
        order = Order(
            task=job.task,
            topic=self._topic,
            attempt=self._attempts,
            slots=sum(slots.get(a, 0) for a, w in self._workers.items() if w.host == info.host),
            threads=self._threads,
            folder=str(Path.cwd()),
        )
        job.submit(self._cluster, order, address, info, self._report_error)

    # The rest runs in threads of Dask's, and only puts events into the queue.

    def _report_error(self, order: Order, error: BaseException) -> None:
        self.put(Event(order.task.name, _ERRED, {"attempt": order.attempt, "error": error}))

    def _receive(self, event: tuple[float, str]) -> None:
        message = json.loads(event[1])
        self.put(Event(message["task"], message["kind"], message))

    def _put_workers(
        self, workers: Mapping[str, WorkerInfo] | None, warnings: tuple[str, ...] = ()
    ) -> None:
        """Puts what the scheduler knows into the queue; None if it is gone."""
        values = {"workers": workers, "warnings": warnings}
        self.put(Event("", _LOST if workers is None else _WORKERS, values))
