"""One training on several devices: on the GPUs of a machine, or by processes on several machines.

Every device draws the same batch and the same seeds, takes its part of both, and the gradients are
averaged: n devices take the step of one, up to the order of sums. The processes are those of
TF_CONFIG, or of a Slurm step. The first one, the chief, reads and writes the run; it hands the
others its state.
"""

import functools
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.training.cluster import Cluster, read_cluster, require_no_devices, wait_for_peers

__all__ = ["SeveralDevices", "connect_devices", "named_leaves"]

# Of each setting that differs between processes.
SHOWN_BYTES = 60
# The cluster that this process has joined.
_JOINED: dict[Cluster, "SeveralDevices"] = {}


class SeveralDevices:
    """The replicas of a TensorFlow strategy; see `tfp_smvi.training.devices.Devices`.

    Args:
        strategy: a MirroredStrategy, or a MultiWorkerMirroredStrategy.
        cluster: the processes of the latter; None for this process alone.

    Attributes:
        num_replicas: the devices that share each batch.
        num_processes: the processes.
        rank: the number of this process, counted from 0.
        is_chief: whether it is the first one, which writes.
    """

    def __init__(self, strategy: tf.distribute.Strategy, cluster: Cluster | None = None) -> None:
        """Sends nothing yet."""
        self._strategy = strategy
        self.num_replicas: int = strategy.num_replicas_in_sync
        self.num_processes = 1 if cluster is None else len(cluster.addresses)
        self.rank = 0 if cluster is None else cluster.rank
        self.is_chief = self.rank == 0
        self._sums: dict[np.dtype[Any], Any] = {}  # graphs, by the dtype of their vector

    def describe(self) -> str:
        """Such as "4 devices of 2 processes"."""
        if self.num_processes == 1:
            return f"{self.num_replicas} devices"
        return f"{self.num_replicas} devices of {self.num_processes} processes"

    def scope(self) -> AbstractContextManager[object]:
        """Variables made within it are mirrored."""
        scope: AbstractContextManager[object] = self._strategy.scope()
        return scope

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function on each device."""
        return self._strategy.run(function, args=arguments)

    def first(self, result: Any) -> Any:
        """The result of the first device of this process."""
        return self._strategy.experimental_local_results(result)[0]

    def part(self, x: tf.Tensor) -> tf.Tensor:
        """The rows of this device: as many for each, in their order."""
        size = x.shape[0] // self.num_replicas
        return tf.reshape(x, [self.num_replicas, size, *x.shape[1:]])[_replica()]

    def sample(self, posterior: Any, seed: tf.Tensor) -> tf.Tensor:
        """Draws num_replicas times for each row, which is the noise of the whole batch, in order.

        So the noise of a batch is that of one device for every distribution that draws it at once,
        with the axis of draws first, as those of TFP do.
        """
        return posterior.sample(self.num_replicas, seed=seed)[_replica()]

    def mean(self, values: Any) -> Any:
        """All-reduces."""
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.MEAN, values)

    def agree(self, num_steps: int, signum: int) -> tuple[int, int]:
        """Asks all processes."""
        rows = self._gather(np.array([num_steps, signum]))
        return int(rows[0, 0]), int(next((signum for _, signum in rows if signum), 0))

    def of_chief(self, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Sums them, with zeros for those of the others; all of a dtype at once."""
        received: dict[str, np.ndarray] = {}
        for dtype in dict.fromkeys(array.dtype for array in arrays.values()):
            names = [name for name, array in arrays.items() if array.dtype == dtype]
            vector = np.concatenate([arrays[name].ravel() for name in names])
            vector = self._sum_over_processes(vector if self.is_chief else np.zeros_like(vector))
            ends = np.cumsum([arrays[name].size for name in names])[:-1]
            for name, part in zip(names, np.split(vector, ends), strict=True):
                received[name] = part.reshape(arrays[name].shape)
        return received

    def wait(self) -> None:
        """Waits for the other processes."""
        self._gather(np.zeros(1, np.int64))

    @contextmanager
    def explaining_errors(self) -> Iterator[None]:
        """Turns TensorFlow's error of a process that has ended into one line.

        Raises:
            SMVIError: another process is gone.
        """
        lost = tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError
        try:
            yield
        except lost as error:
            raise SMVIError(
                "another process of this training has ended, and this one ends with it",
                remedy="look at the others' messages, and run the same command again for all",
            ) from error

    def _sum_over_processes(self, values: np.ndarray) -> np.ndarray:
        """The sum of the arrays that the processes give, all of one shape and dtype."""
        if self.num_processes == 1:
            return values
        if values.dtype not in self._sums:
            signature = [tf.TensorSpec([None], values.dtype)]
            self._sums[values.dtype] = tf.function(self._sum, signature, autograph=False)
        total: np.ndarray = self.first(self._sums[values.dtype](values.ravel())).numpy()
        return total.reshape(values.shape)

    def _gather(self, values: np.ndarray) -> np.ndarray:
        """The arrays of all processes, by rank on a new first axis."""
        rows = np.zeros((self.num_processes, *values.shape), values.dtype)
        rows[self.rank] = values
        return self._sum_over_processes(rows)

    def require_made_here(self, variables: Sequence[tf.Variable]) -> None:
        """Refuses variables that are not mirrored.

        Raises:
            SMVIError: some are not.
        """
        made_here = self._strategy.extended.variable_created_in_scope
        if not all(map(made_here, variables)):
            raise SMVIError(
                "was made outside of the scope of the devices",
                field="model",
                remedy="make it within `with devices.scope():`",
            )

    def require_same(self, given: Mapping[str, object]) -> None:
        """Makes sure that all processes were given the same.

        Args:
            given: JSON values by name, with the same names in all processes.

        Raises:
            SMVIError: some were given something else, which is named.
        """
        texts = {name: json.dumps(value, sort_keys=True) for name, value in given.items()}
        digests = np.array([_digest(text) for text in texts.values()], np.int64)
        with self.explaining_errors():
            rows = self._gather(digests)
            different = {
                name: self._texts(text)
                for number, (name, text) in enumerate(texts.items())
                if np.any(rows[:, number] != rows[0, number])
            }
        if different:
            lines = [f"{_setting(name)} ({_by_process(row)})" for name, row in different.items()]
            raise SMVIError(
                f"the processes of this training were given different values of {', '.join(lines)}",
                remedy="start all with the same command, data and version",
            )

    def text_of_chief(self, text: str = "") -> str:
        """The text that the chief gives, in all processes."""
        values = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
        size = int(self._gather(np.array([values.size]))[0, 0])
        values = values if self.is_chief else np.zeros(size, np.int64)
        return self._sum_over_processes(values).astype(np.uint8).tobytes().decode()

    def _texts(self, text: str) -> list[str]:
        """The first bytes of the texts of all processes."""
        values = np.zeros(SHOWN_BYTES, np.int64)
        given = text.encode()[:SHOWN_BYTES]
        values[: len(given)] = np.frombuffer(given, np.uint8)
        rows = self._gather(values).astype(np.uint8)
        return [row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in rows]

    def _sum(self, values: tf.Tensor) -> tf.Tensor:
        def sum_of_first_replicas(values: tf.Tensor) -> tf.Tensor:
            # The devices of a process have the same values, which count once.
            per_process = self.num_replicas // self.num_processes
            own = tf.cast(tf.equal(_replica() % per_process, 0), values.dtype)
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, own * values)

        return self._strategy.run(sum_of_first_replicas, args=(values,))


def connect_devices(
    devices: int | Literal["all"] | None = None, *, note: Callable[[str], None] | None = None
) -> SeveralDevices | None:
    """The devices that a training in this process shares with others; None for one alone.

    It must come before TensorFlow's first operation where there are several processes.

    Args:
        devices: the GPUs of this machine to take; None for one. The processes of a cluster take all
            of theirs.
        note: is called with one line if other processes do not come at once; None prints it on
            stderr.

    Raises:
        SMVIError: there are not so many, TF_CONFIG or Slurm's variables cannot be understood, or a
            process of the cluster does not come.
    """
    cluster = read_cluster()
    if cluster is not None:
        require_no_devices(devices)
        return _join(cluster, note or functools.partial(print, file=sys.stderr, flush=True))
    processors = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    number = 1 if devices is None else len(processors) if devices == "all" else devices
    if not 1 <= number <= len(processors):
        raise SMVIError(
            f"is not possible: TensorFlow has {len(processors)} {processors[0].device_type} device"
            f"{'s' * (len(processors) > 1)}",
            field="devices",
            value=devices,
            remedy=f"give at most {len(processors)}, or all",
        )
    if number == 1:
        return None
    return SeveralDevices(tf.distribute.MirroredStrategy([d.name for d in processors[:number]]))


def _join(cluster: Cluster, note: Callable[[str], None]) -> SeveralDevices:
    """Joins the cluster, which a process can do once."""
    if cluster not in _JOINED:
        wait_for_peers(cluster, note)
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster.resolver())
        except RuntimeError as error:
            raise SMVIError(
                "the processes of a cluster must be connected before TensorFlow's first operation",
                remedy="call tfp_smvi.connect_devices() first",
            ) from error
        _JOINED[cluster] = SeveralDevices(strategy, cluster)
    return _JOINED[cluster]


def named_leaves(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """The values of nested objects by their dotted names."""
    leaves: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            leaves |= named_leaves(value, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = value
    return leaves


def _by_process(texts: Sequence[str]) -> str:
    """Such as "0.5 in process 0, 2, and 2.0 in process 1"."""
    ranks: dict[str, list[str]] = {}
    for rank, text in enumerate(texts):
        ranks.setdefault(text, []).append(str(rank))
    return " and ".join(f"{text} in process {', '.join(at)}" for text, at in ranks.items())


def _setting(name: str) -> str:
    """The name of a setting, without that of its part of the configuration."""
    return name if " " in name else name.rpartition(".")[2]


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def _replica() -> tf.Tensor:
    return tf.convert_to_tensor(
        tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32
    )
