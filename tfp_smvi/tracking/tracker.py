"""A run in a tracker while it is trained and evaluated."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tfp_smvi.core.warnings import warn as show_warning
from tfp_smvi.runs.records import EpochRecord
from tfp_smvi.tracking.base import Status
from tfp_smvi.tracking.ending import ending
from tfp_smvi.tracking.mirror import Mirror
from tfp_smvi.tracking.sender import Sender
from tfp_smvi.tracking.services import make_service
from tfp_smvi.training.reporter import Callback, TrainingProgress
from tfp_smvi.training.results import TrainingInterrupted

__all__ = ["Tracker", "track"]


@contextlib.contextmanager
def track(
    run_dir: Path | str,
    to: str,
    *,
    warn: Callable[[str], None] | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> Iterator["Tracker"]:
    """Keeps a run of a tracker as a run directory is, while the block trains or evaluates it.

    The block has a callback for `fit`, by which epochs are sent as they end; what else there is,
    such as an evaluation, is sent at the end of the block. Nothing that the tracker does ends or
    delays the training. What it could not take is sent at the next chance, at the latest when the
    same directory is tracked again. A training that continues continues in the same run.

    Args:
        run_dir: the run directory, which need not exist yet.
        to: the tracker: "mlflow", "mlflow:URI" or "wandb".
        warn: receives one line if the tracker cannot be reached; None for a UserWarning.
        note: receives what is worth a line.

    Yields:
        The callback, for `fit(..., reporter=...)`.

    Raises:
        SMVIError: `to` is no tracker, or its package is not installed.
    """
    tracker = Tracker(Path(run_dir), to, warn or (lambda line: show_warning([line])), note)
    with ending(tracker.end, TrainingInterrupted):
        yield tracker


class Tracker(Callback):
    """A callback that sends a run to a tracker; see `track`."""

    def __init__(
        self,
        run_dir: Path,
        to: str,
        warn: Callable[[str], None],
        note: Callable[[str], None],
    ) -> None:
        """Prepares the client of the tracker; nothing is sent yet."""
        service = make_service(to)
        self._mirror = Mirror(run_dir, service)
        self._sender = Sender(self._send, service.title, str(run_dir), warn, note)
        self._status: Status | None = None  # of the training in the block

    def begin(self, num_epochs: int, step: int, steps_per_epoch: int) -> None:
        """The training starts or continues: the run directory is there."""
        self._status = "running"
        self._mirror.forget()
        self._sender.wake()

    def progress(self, progress: TrainingProgress) -> None:
        """Shows what the tracker's thread has to say."""
        self._sender.report()

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is logged and can be sent."""
        self._sender.wake()
        self._sender.report()

    def end(self, status: Status) -> None:
        """Sends the rest, and how it ended if a training has begun.

        Without one, as after an error about its settings, a failed block sends nothing.
        """
        if self._status is not None:
            self._status = status
        elif status != "finished":
            return
        self._sender.close(is_stopped=status == "stopped")

    def _send(self, is_last: bool) -> None:
        self._mirror.send(self._status, whole=is_last, note=self._sender.note)
