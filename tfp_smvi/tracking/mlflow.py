"""MLflow: runs of an experiment on a tracking server, by its own client."""

import contextlib
import getpass
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfp_smvi.core.extras import of_extra
from tfp_smvi.tracking.addresses import without_password
from tfp_smvi.tracking.base import NewRun, OpenRun, Point, Status

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["MLflow"]

EXPERIMENT = "tfp-smvi"
# What MLflow's client does by default takes minutes with a server that is down, prints on stdout,
# and reports its use to its makers. What the environment says stays.
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
STATUSES = {
    "running": "RUNNING",
    "finished": "FINISHED",
    "failed": "FAILED",
    "stopped": "KILLED",
}
# The limits of MLflow's servers: metrics and params of a request, characters of a value.
MAX_METRICS, MAX_PARAMS, MAX_CHARACTERS = 1000, 100, 5000
# The last metric of an epoch that is sent: where it is, the epoch is.
LAST = "step"


class MLflow:
    """A `tfp_smvi.tracking.base.Service`.

    The experiment is that of MLFLOW_EXPERIMENT_NAME, or "tfp-smvi".

    Args:
        uri: the tracking server or store.

    Raises:
        SMVIError: the package mlflow is not installed.
    """

    title = "MLflow"

    def __init__(self, uri: str) -> None:
        """Imports the client; nothing is sent yet."""
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        with of_extra("mlflow"):
            import mlflow
        self._make_client = lambda: mlflow.MlflowClient(tracking_uri=uri)
        self._made: MlflowClient | None = None
        self._starts: dict[str, int] = {}  # of runs, in milliseconds
        self.name = f"mlflow {without_password(uri)}"

    @property
    def _client(self) -> "MlflowClient":
        """The client; a store in a database or a folder opens here."""
        if self._made is None:
            self._made = self._make_client()
        return self._made

    def open(self, key: str | None, new: NewRun) -> OpenRun:
        """Continues the run of a key, or makes one if there is none or it is gone."""
        run = self._find(key) if key is not None else None
        if run is not None and key is not None:
            self._starts[key] = run.info.start_time
            history = self._client.get_metric_history(key, LAST)
            return OpenRun(key, max((point.step for point in history), default=0), is_new=False)
        start = round(1000 * (time.time() - new.seconds))
        run = self._client.create_run(
            self._experiment(), start_time=start, run_name=new.name, tags=_tags(new)
        )
        key = str(run.info.run_id)
        self._starts[key] = start
        return OpenRun(key, 0, is_new=True)

    def put_settings(self, key: str, settings: Mapping[str, str], facts: Mapping[str, str]) -> None:
        """Stores settings as params, and facts as tags; so is a setting that has changed."""
        from mlflow.entities import Param, RunTag

        before = self._client.get_run(key).data.params
        settings = {name: value[:MAX_CHARACTERS] for name, value in settings.items()}
        params = [Param(name, value) for name, value in settings.items() if name not in before]
        # MLflow never changes a param, and a training may go on with more epochs.
        changed = {n: v for n, v in settings.items() if before.get(n, v) != v}
        tags = [RunTag(n, v[:MAX_CHARACTERS]) for n, v in {**facts, **changed}.items() if v]
        for some in _chunks(params, MAX_PARAMS):
            self._client.log_batch(key, params=some)
        for some in _chunks(tags, MAX_PARAMS):
            self._client.log_batch(key, tags=some)

    def put_points(self, key: str, points: Sequence[Point]) -> None:
        """Adds the metrics of epochs, each at the time of the training that it was reached."""
        from mlflow.entities import Metric

        waiting: list[Any] = []
        for point in points:
            time_reached = self._starts[key] + round(1000 * point.seconds)
            names = sorted(point.values, key=lambda name: name == LAST)
            if len(waiting) + len(names) > MAX_METRICS:
                self._client.log_batch(key, metrics=waiting)
                waiting = []
            waiting += [Metric(n, point.values[n], time_reached, point.epoch) for n in names]
        self._client.log_batch(key, metrics=waiting)

    def put_results(self, key: str, epoch: int, results: Mapping[str, float]) -> None:
        """Stores results as metrics of the epoch; of two results the later one counts."""
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        metrics = [Metric(name, value, now, epoch) for name, value in results.items()]
        for some in _chunks(metrics, MAX_METRICS):
            self._client.log_batch(key, metrics=some)

    def put_files(self, key: str, files: Mapping[str, Path]) -> None:
        """Stores files as artifacts."""
        for name, path in files.items():
            folder = name.rpartition("/")[0]
            self._client.log_artifact(key, str(path), folder or None)

    def set_status(self, key: str, status: Status) -> None:
        """Says how the run is going."""
        if status == "running":
            self._client.update_run(key, STATUSES[status])
        else:
            self._client.set_terminated(key, STATUSES[status])

    def close(self, key: str) -> None:
        """Does nothing: no connection stays open."""

    def _find(self, key: str) -> Any:
        """The run of a key, or None if it is gone."""
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(key)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run if run.info.lifecycle_stage == "active" else None

    def _experiment(self) -> str:
        """The experiment's number; it is made if it does not exist."""
        if number := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return number
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        return str(self._client.create_experiment(name))


def _tags(new: NewRun) -> dict[str, str]:
    tags = {"mlflow.source.name": "tfp-smvi", "mlflow.source.type": "LOCAL"}
    with contextlib.suppress(OSError, KeyError, ImportError):  # a user without a name
        tags["mlflow.user"] = getpass.getuser()
    if new.parent is not None:
        tags["mlflow.parentRunId"] = new.parent
    return tags


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
