"""The processes that train one model together: those of TF_CONFIG, or of a Slurm step."""

import contextlib
import json
import math
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from tfp_smvi.core.errors import SMVIError, brief
from tfp_smvi.core.patience import Patience

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Cluster", "read_cluster", "require_no_devices", "wait_for_peers"]

# How long to wait for the others, in seconds; and the variable that changes it.
PATIENCE, PATIENCE_VARIABLE = 300.0, "TFP_SMVI_CLUSTER_TIMEOUT"
# As long as processes of one Slurm step use them, ports of other steps on a node must differ.
FIRST_PORT, NUM_PORTS = 20_000, 10_000
MOST_TASKS_PER_NODE = 64

_ADDRESS = re.compile(r"[^\s:]+:\d{1,5}|\[[\da-fA-F:]+\]:\d{1,5}")
_CONFIG_REMEDY = (
    'give {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
)


class Cluster(NamedTuple):
    """The processes of a training.

    Attributes:
        addresses: of each, "host:port".
        rank: the number of this one, counted from 0.
    """

    addresses: tuple[str, ...]
    rank: int

    def resolver(self) -> "tf.distribute.cluster_resolver.ClusterResolver":
        """What TensorFlow takes."""
        import tensorflow as tf

        return tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": list(self.addresses)}),
            task_type="worker",
            task_id=self.rank,
            rpc_layer="grpc",
        )


def read_cluster(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """The processes that the environment names; None if there is one only.

    Args:
        environment: TF_CONFIG, or without it the variables of a Slurm step with several tasks.

    Raises:
        SMVIError: they cannot be understood.
    """
    if "TF_CONFIG" in environment:
        return _read_tf_config(environment["TF_CONFIG"])
    # An allocation of several tasks is no step of them: sbatch runs its script once.
    if environment.get("SLURM_STEP_NUM_TASKS", "1") != "1" and "SLURM_PROCID" in environment:
        return _read_slurm(environment)
    return None


def require_no_devices(devices: int | str | None) -> None:
    """Raises SMVIError if GPUs of one machine are asked for beside several processes."""
    if devices is not None:
        raise SMVIError(
            "is for one machine, and TF_CONFIG or Slurm names several processes",
            field="devices",
            value=devices,
            remedy="leave it out: each process takes all of its devices",
        )


def wait_for_peers(cluster: Cluster, note: Callable[[str], None] | None = None) -> None:
    """Waits until all other processes can be reached, and shows them that this one can.

    TensorFlow would wait for ever, or end this process.

    Args:
        cluster: the processes.
        note: is called with one line if some do not come at once; None for no line.

    Raises:
        SMVIError: one did not come.
    """
    patience = Patience(_seconds_to_wait(), "the other processes", note)
    missing: set[str] = set(cluster.addresses) - {cluster.addresses[cluster.rank]}
    with _listening(cluster.addresses[cluster.rank]):
        while missing:
            missing = {address for address in missing if not _answers(address)}
            patience.what = ", ".join(sorted(missing))
            if missing and patience.is_over():
                raise SMVIError(
                    f"{patience.what} did not answer within {patience.seconds:g} s; this is "
                    f"process {cluster.rank} of {len(cluster.addresses)}",
                    remedy="start all processes, and look whether each can reach the others' ports",
                )
            time.sleep(0.1)


def _read_tf_config(text: str) -> Cluster | None:
    try:
        values = json.loads(text or "{}")
        jobs = {name: list(map(str, job)) for name, job in values.get("cluster", {}).items()}
        kind, index = _read_task(values["task"]) if jobs else ("worker", 0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"TF_CONFIG = {brief(text)} is not understood"
        raise SMVIError(problem, remedy=_CONFIG_REMEDY) from error
    if others := jobs.keys() - {"chief", "worker"}:
        problem = f"TF_CONFIG names {', '.join(sorted(others))}; a training has workers alone"
        raise SMVIError(problem, remedy=_CONFIG_REMEDY)
    chiefs, workers = jobs.get("chief", []), jobs.get("worker", [])
    addresses = (*chiefs, *workers)
    for address in addresses:
        if not _ADDRESS.fullmatch(address) or not 0 < _host_and_port(address)[1] < 2**16:
            problem = f"TF_CONFIG has the address {brief(address)}; an address is host:port"
            raise SMVIError(problem, remedy=_CONFIG_REMEDY)
    if len(set(addresses)) < len(addresses):
        raise SMVIError("TF_CONFIG names an address twice", remedy=_CONFIG_REMEDY)
    if jobs and not 0 <= index < len(jobs.get(kind, ())):
        problem = f"TF_CONFIG has no {kind} {index} among its {len(jobs.get(kind, ()))}"
        raise SMVIError(problem, remedy=_CONFIG_REMEDY)
    rank = index + (len(chiefs) if kind == "worker" else 0)
    return Cluster(addresses, rank) if len(addresses) > 1 else None


def _read_task(task: Mapping[str, object]) -> tuple[str, int]:
    """The kind and the index, which TensorFlow accepts as text, too."""
    index = task["index"]
    if isinstance(index, bool) or not isinstance(index, int | str):
        raise TypeError(index)
    return str(task["type"]), int(index)


def _read_slurm(environment: Mapping[str, str]) -> Cluster:
    """The tasks of a step: as many on each node as Slurm says, in its order.

    TensorFlow's own resolver asks nvidia-smi, and fails on nodes without GPUs.
    """
    try:
        hosts = _expand_hosts(environment["SLURM_STEP_NODELIST"])
        counts = _expand_counts(environment["SLURM_STEP_TASKS_PER_NODE"])
        rank = int(environment["SLURM_PROCID"])
        node = int(environment["SLURM_NODEID"])
        step = int(environment["SLURM_JOB_ID"]) * MOST_TASKS_PER_NODE
        tasks = [(host, place) for host, n in zip(hosts, counts, strict=True) for place in range(n)]
    except (KeyError, ValueError) as error:
        raise SMVIError(
            f"the variables of the Slurm step are not understood ({error})",
            remedy="set TF_CONFIG, or SLURM_STEP_NUM_TASKS=1 for a training alone",
        ) from error
    if not 0 <= rank < len(tasks) or not 0 <= node < len(hosts) or tasks[rank][0] != hosts[node]:
        raise SMVIError(
            f"task {rank} of the Slurm step runs on its node {node}, and tasks are expected in the "
            "order of the nodes",
            remedy="call srun with --distribution=block",
        )
    ports = [FIRST_PORT + (step + place) % NUM_PORTS for _, place in tasks]
    addresses = (f"{host}:{port}" for (host, _), port in zip(tasks, ports, strict=True))
    return Cluster(tuple(addresses), rank)


def _expand_hosts(nodes: str) -> list[str]:
    """The hosts of a list such as "node[01-03,7],gpu1", as `scontrol show hostnames` has them."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["scontrol", "show", "hostnames", nodes]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    hosts = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", nodes):
        match = re.fullmatch(r"([^\[]*)\[([^\]]*)\]([^\[]*)", part)
        if match is None:
            hosts.append(part)
            continue
        before, ranges, after = match.groups()
        for piece in ranges.split(","):
            first, _, last = piece.partition("-")
            numbers = range(int(first), int(last or first) + 1)
            hosts += [f"{before}{number:0{len(first)}d}{after}" for number in numbers]
    return hosts


def _expand_counts(text: str) -> list[int]:
    """The tasks of each node, of "2(x3),1"."""
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is None:
            raise ValueError(part)
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def _seconds_to_wait() -> float:
    text = os.environ.get(PATIENCE_VARIABLE, str(PATIENCE))
    with contextlib.suppress(ValueError):
        if math.isfinite(seconds := float(text)) and seconds > 0.0:
            return seconds
    raise SMVIError(
        f"{PATIENCE_VARIABLE} = {text!r} is not allowed", remedy="give seconds, more than 0"
    )


@contextlib.contextmanager
def _listening(address: str) -> Iterator[None]:
    """Lets others connect to the port that TensorFlow will take next."""
    port = _host_and_port(address)[1]
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    try:
        server = socket.create_server(
            ("", port), family=family, dualstack_ipv6=family == socket.AF_INET6, backlog=128
        )
    except OSError as error:
        raise SMVIError(
            f"this process cannot listen at {address} ({error.strerror})",
            remedy="give it a port that is free",
        ) from error
    with server:
        yield


def _answers(address: str) -> bool:
    try:
        with socket.create_connection(_host_and_port(address), timeout=2.0):
            return True
    except OSError:
        return False


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
