"""How `fit` calls its reporters: several at once, and what an error of theirs does."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.runs.records import EpochRecord
from tfp_smvi.training.reporter import Callback, TrainingProgress, TrainingReporter

__all__ = ["CallbackError", "call_reporters", "saving_at_errors"]

Result = TypeVar("Result")

_METHODS = ("begin", "progress", "epoch", "note", "warn")


class CallbackError(Exception):
    """Carries the exception of a callback past what explains those of the training.

    Attributes:
        error: the exception.
    """

    def __init__(self, error: BaseException) -> None:
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
            except (Exception, KeyboardInterrupt, SystemExit) as error:
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


def call_reporters(
    work: Callable[[TrainingReporter, Callable[[str], None] | None], Result],
    reporter: TrainingReporter | Sequence[TrainingReporter] | None,
    *,
    progress: bool = False,
) -> Result:
    """Makes one reporter of what `fit` is given, and works with it.

    Args:
        work: takes the reporter, whose methods raise CallbackError, and its method `warn`, or None
            if nobody receives warnings.
        reporter: one, several, which are called in their order, or None.
        progress: whether to show a bar too.

    Returns:
        What work returns.

    Raises:
        SMVIError: a reporter lacks a method.
        BaseException: what a callback raised, as it is.
    """
    given = reporter if isinstance(reporter, Sequence) else [reporter]
    reporters = [item for item in given if item is not None]
    for item in reporters:
        _require_reporter(item)
    bar = None
    if progress:
        from tfp_smvi.training.bar import ProgressBar

        reporters.append(bar := ProgressBar())
    joined = _Joined(reporters)
    own = (getattr(type(item), "warn", None) for item in reporters)
    heard = any(method is not Callback.warn for method in own)
    try:
        result = work(joined, joined.warn if heard else None)
        if bar is not None:
            bar.end()
        return result
    except CallbackError as carrier:
        raised = carrier.error
    finally:
        if bar is not None:
            bar.close()
    raise raised  # outside of the handler, so that its context stays its own


def _require_reporter(item: object) -> None:
    missing = [name for name in _METHODS if not callable(getattr(item, name, None))]
    if missing or isinstance(item, type):
        raise SMVIError(
            f"has no {', '.join(missing)}" if missing else "is a class",
            field="reporter",
            value=item,
            remedy="give an object of a class that is derived from Callback",
        )


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
