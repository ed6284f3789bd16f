"""The option of commands that a tracker follows."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.tracking.addresses import read_address, require_package

from .options import usage_error

if TYPE_CHECKING:
    from tfp_smvi.sweeps.reporters import SweepReporter
    from tfp_smvi.tracking.tracker import Tracker

__all__ = ["track_option", "tracking", "tracking_sweep"]


class _TrackerType(click.ParamType):  # type: ignore[type-arg]  # click 8.1 takes no type argument
    """A tracking service."""

    name = "tracker"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Checks the text."""
        try:
            address = read_address(value)
        except SMVIError as error:
            raise usage_error(error) from error
        require_package(address)
        return value


track_option = click.option(
    "--track",
    type=_TrackerType(),
    multiple=True,
    metavar="mlflow[:URI]|wandb",
    help="Send settings, metrics, results and figures to MLflow or W&B. A tracker that is down "
    "stops nothing.",
)


class _Reporter(Protocol):
    """What shows a line."""

    def note(self, message: str) -> None:
        """Something worth a line."""

    def warn(self, message: str) -> None:
        """Something needs the user's attention."""


@contextlib.contextmanager
def tracking(
    texts: tuple[str, ...], run_dir: Path, reporter: _Reporter
) -> "Iterator[list[Tracker]]":
    """Keeps trackers as a run directory is while the block works there.

    Args:
        texts: the values of the option.
        run_dir: the run directory.
        reporter: shows what the trackers have to say.

    Yields:
        Callbacks for `fit`.

    Raises:
        SMVIError: a package is not installed.
    """
    with contextlib.ExitStack() as stack:
        trackers = []
        for text in dict.fromkeys(texts):
            from tfp_smvi.tracking.tracker import track

            tracker = track(run_dir, text, warn=reporter.warn, note=reporter.note)
            trackers.append(stack.enter_context(tracker))
        yield trackers


@contextlib.contextmanager
def tracking_sweep(
    texts: tuple[str, ...], sweep_dir: Path, reporter: "SweepReporter"
) -> "Iterator[SweepReporter]":
    """Keeps trackers as a sweep directory is while the block works there.

    Args:
        texts: the values of the option.
        sweep_dir: the sweep directory.
        reporter: the reporter of the sweep, which shows what the trackers have to say.

    Yields:
        The reporter for `sweep` in its place.

    Raises:
        SMVIError: a package is not installed.
    """
    with contextlib.ExitStack() as stack:
        for text in dict.fromkeys(texts):
            from tfp_smvi.tracking.sweeps import track_sweep

            reporter = stack.enter_context(track_sweep(sweep_dir, text, reporter))
        yield reporter
