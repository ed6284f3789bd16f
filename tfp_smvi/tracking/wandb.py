"""W&B: runs of a project, by its own client, online or offline as its settings say."""

import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.core.extras import of_extra
from tfp_smvi.tracking.base import NewRun, OpenRun, Point, Status

if TYPE_CHECKING:
    from wandb import Run

__all__ = ["WandB"]

PROJECT = "tfp-smvi"
# How long to wait until W&B has made a run, and until it has the rest at the end.
INIT_SECONDS, FINISH_SECONDS = 30.0, 60.0
# The exit codes by which W&B tells how a run ended.
CODES: dict[Status, int] = {"running": 0, "finished": 0, "failed": 1, "stopped": 255}


class WandB:
    """A `tfp_smvi.tracking.base.Service`.

    The project is that of WANDB_PROJECT, or "tfp-smvi". W&B has no runs below others: the runs of
    a sweep are a group, which has the key of the sweep's run as its name.

    Raises:
        SMVIError: the package wandb is not installed, or has no key of an account and is not to
            work offline.
    """

    title = "W&B"
    name = "wandb"

    def __init__(self) -> None:
        """Imports the client and finds the account; nothing is sent yet."""
        # Reports of errors to the makers of W&B, unless they are asked for.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        with of_extra("wandb"):
            import wandb
        self._wandb: Any = wandb
        self._new: dict[str, NewRun] = {}
        self._runs: dict[str, Run] = {}  # those that are open
        self._codes: dict[str, int] = {}
        # The variable, or what `wandb offline` has written.
        if (os.environ.get("WANDB_MODE") or wandb.setup().settings.mode) == "online":
            _log_in(wandb)

    def open(self, key: str | None, new: NewRun) -> OpenRun:
        """Makes a run, or continues the one of a key as soon as there is something to send.

        Offline, the next part of a run has a folder of its own, which `wandb sync` adds to it.
        """
        run_key = key or secrets.token_hex(4)
        self._new[run_key] = new
        if key is None:
            self._run(run_key)
        return OpenRun(run_key, None, is_new=key is None)

    def put_settings(self, key: str, settings: Mapping[str, str], facts: Mapping[str, str]) -> None:
        """Stores both in the run's config."""
        values = {name: _value(text) for name, text in settings.items()}
        self._run(key).config.update({**values, "facts": {**facts}}, allow_val_change=True)

    def put_points(self, key: str, points: Sequence[Point]) -> None:
        """Adds the metrics of epochs; a step of W&B is an epoch."""
        run = self._run(key)
        for point in points:
            run.log({**point.values, "epoch": point.epoch}, step=point.epoch, commit=True)

    def put_results(self, key: str, epoch: int, results: Mapping[str, float]) -> None:
        """Stores results in the run's summary."""
        self._run(key).summary.update({**results, "evaluated_epoch": epoch})

    def put_files(self, key: str, files: Mapping[str, Path]) -> None:
        """Stores copies of files: these may change or go before they are sent."""
        run = self._run(key)
        for name, path in files.items():
            copy = Path(run.dir) / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            run.save(str(copy), base_path=run.dir, policy="now", glob=False)

    def set_status(self, key: str, status: Status) -> None:
        """Keeps how the run ends until it is closed."""
        self._codes[key] = CODES[status]

    def close(self, key: str) -> None:
        """Ends the run and waits for what is left to be sent; `open` continues it."""
        run = self._runs.pop(key, None)
        if run is not None:
            run.finish(exit_code=self._codes.get(key, 0))

    def _run(self, key: str) -> "Run":
        """The open run of a key."""
        if key not in self._runs:
            new = self._new[key]
            self._runs[key] = self._wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                id=key,
                name=new.name,
                group=key if new.is_sweep else new.parent,
                job_type="sweep" if new.is_sweep else "train",
                dir=os.environ.get("WANDB_DIR") or str(new.folder),
                resume="allow",
                reinit="create_new",
                settings=self._wandb.Settings(
                    init_timeout=INIT_SECONDS,
                    finish_timeout=FINISH_SECONDS,
                    console="off",
                    silent=True,
                    disable_git=True,
                ),
            )
        return self._runs[key]


def _log_in(wandb: Any) -> None:
    """Finds the key of an account, and asks for it on a terminal, as W&B always does.

    Raises:
        SMVIError: there is none.
    """
    reason = "nobody is logged in"
    try:
        if wandb.login():
            return
    except wandb.Error as error:
        reason = plain_reason(error).removesuffix(".")
    raise SMVIError(
        f"W&B has no account to send to ({reason})",
        remedy="run wandb login, or set WANDB_API_KEY, or WANDB_MODE=offline to write runs for "
        "wandb sync",
    )


def _value(text: str) -> Any:
    """A setting as a number or a list if it is one."""
    try:
        return json.loads(text)
    except ValueError:
        return text
