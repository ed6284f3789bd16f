"""A sweep in a tracker: a run for the sweep, and one below it for each of its runs."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.reporters import Silent
from tfp_smvi.sweeps.driver import SweepInterrupted
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.reporters import SweepReporter
from tfp_smvi.tracking.base import Service, Status
from tfp_smvi.tracking.ending import ending
from tfp_smvi.tracking.mirror import Mirror
from tfp_smvi.tracking.sender import Sender
from tfp_smvi.tracking.services import make_service

__all__ = ["track_sweep"]

# How a run is going, by the status of its entry; one that waits has begun in an earlier call.
STATUSES: dict[str, Status] = {
    "running": "running",
    "done": "finished",
    "failed": "failed",
    "pending": "stopped",
}


@contextlib.contextmanager
def track_sweep(
    sweep_dir: Path | str, to: str, reporter: SweepReporter | None = None
) -> Iterator[SweepReporter]:
    """Keeps a tracker as a sweep directory is, while the block works on the sweep.

    The processes of the runs know nothing of it: this one sends what they write. What
    `tfp_smvi.track` says of a tracker that is down holds here, too.

    Args:
        sweep_dir: the sweep directory, which need not exist yet.
        to: the tracker: "mlflow", "mlflow:URI" or "wandb".
        reporter: receives the progress of the sweep, and what the tracker has to say.

    Yields:
        The reporter for `tfp_smvi.sweeps.driver.sweep` in place of that one.

    Raises:
        SMVIError: `to` is no tracker, or its package is not installed.
    """
    tracker = _SweepTracker(Path(sweep_dir), make_service(to), reporter or Silent())
    with ending(tracker.end, SweepInterrupted):
        yield tracker


class _SweepTracker:
    """A `SweepReporter` that passes everything on to another one."""

    def __init__(self, sweep_dir: Path, service: Service, reporter: SweepReporter) -> None:
        self._sweep_dir, self._service, self._reporter = sweep_dir, service, reporter
        self._mirror = Mirror(sweep_dir, service)
        self._mirrors: dict[str, Mirror] = {}
        self._statuses: dict[str, Status] = {}  # of the runs that are asked for
        self._left: set[str] = set()  # runs of which something may be missing at the service
        self._status: Status | None = None
        self._sender = Sender(
            self._send, service.title, str(sweep_dir), reporter.warn, reporter.note
        )

    def begin(self, entries: Sequence[Entry], stages: Sequence[str], jobs: int) -> None:
        self._reporter.begin(entries, stages, jobs)
        self._status = "running"
        for entry in entries:
            self._note_status(entry)
        self._sender.wake()

    def stage(self, entry: Entry, stage: str) -> None:
        self._reporter.stage(entry, stage)

    def progress(self, entry: Entry, fraction: float, text: str) -> None:
        self._reporter.progress(entry, fraction, text)
        self._left.add(entry.run_dir)
        self._sender.wake()
        self._sender.report()

    def update(self, entry: Entry) -> None:
        self._reporter.update(entry)
        self._note_status(entry)
        self._sender.wake()
        self._sender.report()

    def note(self, message: str) -> None:
        self._reporter.note(message)

    def warn(self, message: str) -> None:
        self._reporter.warn(message)

    def end(self, status: Status) -> None:
        """Sends the rest, unless the sweep has not begun."""
        if self._status is None:
            return
        is_bad = status == "finished" and "failed" in self._statuses.values()
        self._status = "failed" if is_bad else status
        self._sender.close(is_stopped=status == "stopped")

    def _note_status(self, entry: Entry) -> None:
        self._statuses[entry.run_dir] = STATUSES[entry.status]
        self._left.add(entry.run_dir)

    def _send(self, is_last: bool) -> None:
        """Sends the sweep and its runs; the error of a run that cannot be read comes last."""
        self._mirror.send(self._status, whole=is_last, note=self._sender.note)
        unreadable: SMVIError | None = None
        for name in sorted(self._left):
            if not (self._sweep_dir / name / "config.json").exists():
                continue  # it has not begun
            self._left.discard(name)
            try:
                self._send_run(name)
            except Exception as error:
                self._left.add(name)
                if not isinstance(error, SMVIError):
                    raise
                unreadable = unreadable or error
        if unreadable is not None:
            raise unreadable

    def _send_run(self, name: str) -> None:
        if name not in self._mirrors:
            self._mirrors[name] = Mirror(self._sweep_dir / name, self._service, self._mirror)
        status = self._statuses[name]
        whole = status != "running"
        self._mirrors[name].send(status, whole=whole, note=self._sender.note)
