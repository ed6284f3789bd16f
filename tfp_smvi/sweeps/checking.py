"""Whether data allow what a sweep asks of them, which is found out before anything is made.

A process of its own loads the data: with TensorFlow in it, the process of the sweep would hold
memory, and on a GPU all of it, that its runs need.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from tfp_smvi.core.errors import NotFoundError, SMVIError, name_fields, plain_reason
from tfp_smvi.core.signals import handle_stop_signals
from tfp_smvi.engines.base import Context, Event, StoppableEngine, Task
from tfp_smvi.runs.directory import read_run
from tfp_smvi.sweeps.orders import Loaded, Noted, Order, Refused, Signalled, emit, read_event

__all__ = ["check_data", "run_check"]


def check_data(
    order: Order,
    engine: StoppableEngine,
    note: Callable[[str], None],
    run_dirs: Iterable[Path] = (),
) -> int | None:
    """Loads the data of a sweep and checks whether its runs can be trained and classified.

    Args:
        order: the settings that all runs share.
        engine: an engine without tasks.
        note: is called with each line about what is left out.
        run_dirs: run directories of the sweep, which must have been trained on the same data.

    Returns:
        The signal that stopped it; None if none did. What else may go wrong, the runs meet and
        report.

    Raises:
        SMVIError: the data cannot be loaded, do not allow a setting, or are others than those of a
            run, or no process can be started.
    """
    refused, loaded, stopped_by = None, None, None
    with handle_stop_signals(lambda number: engine.put(Event("", "signal", {"number": number}))):
        _start(engine, Task("check", f"{__name__}:{run_check.__name__}", order.to_json()))
        while len(engine):
            match read_event(engine.next_event()):
                case Noted(message):
                    note(message)
                case Refused(text, field, not_found):
                    refused = (_NotFoundError if not_found else _RefusedError)(text, field)
                case Loaded(fingerprint):
                    loaded = fingerprint
                case Signalled(number):
                    stopped_by = number
                    engine.kill()
    if refused is not None:
        raise refused
    if loaded is not None:
        for run_dir in run_dirs:
            _require_data(run_dir, loaded)
    return stopped_by


def _require_data(run_dir: Path, fingerprint: str) -> None:
    """Raises SMVIError if there is a run that was trained on other data."""
    try:
        trained_on = read_run(run_dir).data.fingerprint
    except SMVIError:  # there is none, or the stage of the training says what is wrong
        return
    if trained_on != fingerprint:
        raise SMVIError(
            f"{run_dir} was trained on other data than those of now ({trained_on[:12]} there, "
            f"{fingerprint[:12]} here)",
            remedy="restore the data, or choose another {sweep_dir}",
        )


def _start(engine: StoppableEngine, task: Task) -> None:
    try:
        engine.start(task)
    except OSError as error:
        reason = plain_reason(error)
        remedy = "end other processes, or free memory"
        raise SMVIError(f"no process can be started ({reason})", remedy=remedy) from error


def run_check(context: Context, **arguments: object) -> None:
    """The task of the check, of an order that is given as its JSON object."""
    from tfp_smvi.classification.labels import check_labels
    from tfp_smvi.data import load_dataset
    from tfp_smvi.runs.models import make_model
    from tfp_smvi.training.checks import resolve

    def note(line: str) -> None:
        emit(context, Noted(line))

    order = Order.from_json(arguments)
    try:
        data_dir = Path(order.data_dir) if order.data_dir is not None else None
        dataset = load_dataset(order.train.data, data_dir)
        if order.classify is not None:
            check_labels(dataset, order.classify, note)
        config = resolve(order.train, dataset)
        # A function of the user's is imported here first, and named.
        make_model(config, dataset.image_shape, Path(order.run_dir), note)
        emit(context, Loaded(dataset.fingerprint))
    except SMVIError as error:
        text = error.render("{{{}}}".format).removesuffix(".")
        if error.field == "labels":
            text += ", or leave the classification out (tfp-smvi sweep --no-classify)"
        emit(context, Refused(f"{text}.", error.field, isinstance(error, NotFoundError)))


class _RefusedError(SMVIError):
    """An error of another process, in which settings are named in braces."""

    def __init__(self, text: str, field: str | None) -> None:
        self._text = text
        super().__init__(text)
        self.field = field

    def render(self, name: Callable[[str], str] = str) -> str:
        return name_fields(self._text, name)


class _NotFoundError(_RefusedError, NotFoundError):
    """A `NotFoundError` of another process."""
