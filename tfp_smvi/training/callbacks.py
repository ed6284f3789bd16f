"""How `fit` calls its reporters: several at once, and what an error of theirs does."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tfp_smvi.runs.records import EpochRecord
from tfp_smvi.training.reporter import Callback, TrainingProgress, TrainingReporter

__all__ = ["CallbackError", "calling", "saving_at_errors"]


class CallbackError(Exception):
    """Carries the exception of a callback past what explains those of the training.

    Attributes:
        error: the exception.
    """

    def __init__(self, error: Exception) -> None:
        """Stores it."""
        super().__init__(str(error))
        self.error = error


class _Joined:
    """Calls reporters one after the other."""

    def __init__(self, reporters: Sequence[TrainingReporter]) -> None:
        self._reporters = reporters

    def _call(self, name: str, *arguments: Any) -> None:
        for reporter in self._reporters:
            try:
                getattr(reporter, name)(*arguments)
            except Exception as error:
                raise CallbackError(error) from error

    def begin(self, num_epochs: int, step: int, steps_per_epoch: int) -> None:
        self._call("begin", num_epochs, step, steps_per_epoch)

    def progress(self, progress: TrainingProgress) -> None:
        self._call("progress", progress)

    def epoch(self, record: EpochRecord) -> None:
        self._call("epoch", record)

    def note(self, message: str) -> None:
        self._call("note", message)

    def warn(self, message: str) -> None:
        self._call("warn", message)


@contextlib.contextmanager
def calling(
    reporter: TrainingReporter | Sequence[TrainingReporter] | None, *, progress: bool = False
) -> Iterator[tuple[TrainingReporter, Callable[[str], None] | None]]:
    """Makes one reporter of what `fit` is given; an exception of one leaves the block as it is.

    Args:
        reporter: one, several, which are called in their order, or None.
        progress: whether to show a bar too.

    Yields:
        The reporter, whose methods raise CallbackError; and its method `warn`, or None if nobody
        receives warnings.
    """
    given = reporter if isinstance(reporter, Sequence) else [reporter]
    reporters = [item for item in given if item is not None]
    error: Exception | None = None
    with contextlib.ExitStack() as stack:
        if progress:
            from tfp_smvi.training.bar import ProgressBar

            reporters.append(bar := ProgressBar())
            stack.callback(bar.close)
        joined = _Joined(reporters)
        heard = any(getattr(type(item), "warn", None) is not Callback.warn for item in reporters)
        try:
            yield joined, joined.warn if heard else None
            if progress:
                bar.end()
        except CallbackError as carrier:
            error = carrier.error
    if error is not None:
        context = error.__context__
        try:
            raise error
        finally:  # of what the callback raised, its own context is of interest
            error.__context__ = context


@contextlib.contextmanager
def saving_at_errors(save: Callable[[], int], run_dir: Path) -> Iterator[None]:
    """Saves the training if a callback raises an exception, and says so in a note to it.

    Args:
        save: saves the state, unless it is saved, and returns its step.
        run_dir: the run directory.
    """
    try:
        yield
    except CallbackError as carrier:
        step = save()
        carrier.error.add_note(
            f"A callback raised this. Step {step} of the training is saved in {run_dir}; the same "
            "call continues it."
        )
        raise
