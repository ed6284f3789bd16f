"""A training that several devices share takes the steps of one, and ends with one line."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from tests.support import runs
from tests.support.errors import refused
from tests.support.forked import ForkedProcess
from tests.support.runs import newest
from tests.support.several import (
    SHARED,
    STEERED,
    STEERED_FIRST,
    start_from,
    start_processes,
    train_mirrored,
)
from tfp_smvi.config import ModelConfig, PosteriorName
from tfp_smvi.core import patience
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import Dataset
from tfp_smvi.models.vae import VAE
from tfp_smvi.training import cluster
from tfp_smvi.training.cluster import Cluster, read_cluster, wait_for_peers
from tfp_smvi.training.distributed import SeveralDevices, connect_devices
from tfp_smvi.training.loop import fit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Shared(NamedTuple):
    """What some processes left and said.

    Attributes:
        folder: has a run for each case.
        codes: their exit codes.
        outputs: what they printed on stdout.
    """

    folder: Path
    codes: list[int | None]
    outputs: list[str]


def train_together(number: int, folder: Path, *cases: str) -> Shared:
    processes = start_processes(number, folder, cases)
    outputs = [process.communicate()[0] for process in processes]
    return Shared(folder, [process.returncode for process in processes], outputs)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    cases = ("shared", "resumed", "started", "mixed", "killed")
    return train_together(2, tmp_path_factory.mktemp("two"), *cases)


@pytest.fixture(scope="module")
def alone(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SHARED and STEERED in one process."""
    folder = tmp_path_factory.mktemp("alone")
    fit(SHARED, digits, folder / "shared")
    fit(STEERED_FIRST, digits, folder / "steered")
    fit(STEERED, digits, folder / "steered")
    return folder


def assert_same_weights(run_dir: Path, expected: Path, tolerance: float) -> None:
    """All arrays of the newest checkpoints, the optimizer's and the controller's included."""
    ours, theirs = newest(run_dir), newest(expected)
    assert ours.step == theirs.step
    assert ours.arrays.keys() == theirs.arrays.keys()
    for name, array in theirs.arrays.items():
        np.testing.assert_allclose(ours.arrays[name], array, rtol=0, atol=tolerance, err_msg=name)


def metrics(run_dir: Path) -> list[Mapping[str, object]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_take_the_steps_of_one(two: Shared, alone: Path) -> None:
    """50 steps at lam 0.5. A sum in another order moves a weight by 1e-7."""
    assert_same_weights(two.folder / "shared", alone / "shared", 1e-5)


def test_early_stopping_ends_the_training_in_all_processes(tmp_path: Path) -> None:
    """A process that goes on alone would wait for the other one until its time is up."""
    shared = train_together(2, tmp_path, "stopped")
    assert (shared.codes, shared.outputs) == ([0, 0], ["", ""])
    assert [record["epoch"] for record in metrics(tmp_path / "stopped")] == [1, 2]
    assert newest(tmp_path / "stopped").step == 2 * 25


def test_four_processes_take_the_steps_of_one(alone: Path, tmp_path: Path) -> None:
    shared = train_together(4, tmp_path, "shared")
    assert shared.codes == [0, 0, 0, 0]
    assert_same_weights(tmp_path / "shared", alone / "shared", 1e-5)


def test_two_devices_of_one_process_take_the_steps_of_one(alone: Path, tmp_path: Path) -> None:
    process = ForkedProcess(train_mirrored, tmp_path, 2)
    assert process.communicate()[0] == ""
    assert process.returncode == 0
    assert_same_weights(tmp_path / "mirrored", alone / "shared", 1e-5)


def test_a_training_that_resumes_follows_its_constraint_in_all_processes(
    two: Shared, alone: Path
) -> None:
    """Rounding moves lam, which is a power of a measured divergence."""
    ours, theirs = metrics(two.folder / "resumed"), metrics(alone / "steered")
    assert len(ours) == len(theirs) == 8
    np.testing.assert_allclose(
        [float(str(record["lam"])) for record in ours],
        [float(str(record["lam"])) for record in theirs],
        rtol=0.01,
    )
    assert float(str(ours[-1]["lam"])) > 0.0


def test_processes_start_from_the_weights_that_the_first_one_reads(
    two: Shared, digits: Dataset, tmp_path: Path
) -> None:
    fit(start_from(two.folder / "shared"), digits, tmp_path)
    assert_same_weights(two.folder / "started", tmp_path, 1e-5)


def test_processes_with_other_settings_are_refused_by_name(two: Shared) -> None:
    line = "given different values of seed (0 in process 0 and 7 in process 1); start all with"
    assert all(line in output for output in two.outputs)
    assert not (two.folder / "mixed").exists()


def test_a_process_that_dies_ends_the_other_with_one_line_and_the_run_goes_on(
    two: Shared, alone: Path, digits: Dataset
) -> None:
    assert two.codes == [0, -9]
    last = two.outputs[0].splitlines()[-1]
    assert last.startswith("another process of this training has ended")
    killed = two.folder / "killed"
    assert newest(killed).step == 25
    fit(SHARED, digits, killed)
    assert_same_weights(killed, alone / "shared", 1e-5)


@pytest.mark.parametrize("posterior", ["diagonal", "full", "flow"])
def test_parts_of_a_batch_have_the_noise_of_the_whole(
    posterior: PosteriorName, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig("bernoulli", 3, (8,), posterior=posterior, flow_layers=1)
    model, seed = VAE(config, (4, 4)), tf.constant([3, 4])
    x = tf.random.stateless_uniform([12, 4, 4], seed)
    whole = model.encode(x).sample(seed=seed)
    devices = SeveralDevices(tf.distribute.get_strategy())
    devices.num_replicas = 3
    for rank in range(3):
        monkeypatch.setattr("tfp_smvi.training.distributed._replica", lambda rank=rank: rank)
        part = devices.part(x)
        np.testing.assert_array_equal(part, x[4 * rank : 4 * rank + 4])
        z = devices.sample(model.encode(part), seed)
        # The products of another batch may round otherwise.
        np.testing.assert_allclose(z, whole[4 * rank : 4 * rank + 4], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("size", "fitting"), [(56, "54 or 57"), (2, "3")])
def test_a_batch_that_cannot_be_shared_is_refused(
    size: int, fitting: str, digits: Dataset, tmp_path: Path
) -> None:
    devices = SeveralDevices(tf.distribute.get_strategy())
    devices.num_replicas = 3
    train = dataclasses.replace(SHARED.train, batch_size=size)
    with refused("batch_size", size) as caught:
        fit(dataclasses.replace(SHARED, train=train), digits, tmp_path / "run", devices=devices)
    assert caught.value.remedy == f"give {fitting}"
    assert not (tmp_path / "run").exists()


def test_a_process_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cluster.PATIENCE_VARIABLE, "0.3")
    addresses = ("127.0.0.1:0", "127.0.0.1:9")  # any port; the port of a service that nobody has
    monkeypatch.setattr(patience, "SECONDS_TO_NOTE", 0.1)
    notes: list[str] = []
    with pytest.raises(SMVIError, match=r"127\.0\.0\.1:9 did not answer within 0\.3 s"):
        wait_for_peers(Cluster(addresses, 0), notes.append)
    assert notes == ["Waiting up to 0.3 s for 127.0.0.1:9."]
    for wrong in ("0", "nan", "soon"):
        monkeypatch.setenv(cluster.PATIENCE_VARIABLE, wrong)
        with pytest.raises(SMVIError, match="give seconds, more than 0"):
            wait_for_peers(Cluster(addresses, 0))


def tf_config(*workers: str, kind: str = "worker", index: float = 0, **jobs: list[str]) -> str:
    cluster = {"worker": list(workers), **jobs}
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"TF_CONFIG": tf_config("a:1")}, None),
        ({"TF_CONFIG": ""}, None),
        ({"TF_CONFIG": "{}"}, None),
        ({"TF_CONFIG": '{"cluster": {}, "task": {}}'}, None),
        ({"TF_CONFIG": tf_config("a:1", "b:2", index=1)}, Cluster(("a:1", "b:2"), 1)),
        ({"TF_CONFIG": tf_config("a:1", chief=["c:3"])}, Cluster(("c:3", "a:1"), 1)),
        ({"TF_CONFIG": tf_config("[::1]:1", "b:2")}, Cluster(("[::1]:1", "b:2"), 0)),
        # An allocation of several tasks, in which this is no step of them.
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, None),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
    ],
)
def test_the_environment_names_the_processes(
    environment: Mapping[str, str], expected: Cluster | None
) -> None:
    assert read_cluster(environment) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not understood"),
        ("[]", "is not understood"),
        ("[" * 100_000, "is not understood"),
        ('{"cluster": {"worker": ["a:1", "b:2"]}}', "is not understood"),
        (tf_config("a:1", "b:2", index=0.7), "is not understood"),
        (tf_config("a:1", "b:2", index=True), "is not understood"),
        (tf_config("a:1", "b:2", index=-1), "has no worker -1 among its 2"),
        (tf_config("a:1", "b:0"), "has the address 'b:0'; an address is host:port"),
        (tf_config("a:1", "b:99999"), "has the address 'b:99999'; an address is host:port"),
        (tf_config("a:1", "b:2", index=2), "has no worker 2 among its 2"),
        (tf_config("a:1", "b:2", kind="chief"), "has no chief 0 among its 0"),
        (tf_config("a:1", "a", index=1), "has the address 'a'; an address is host:port"),
        (tf_config("a:1", "a:1"), "names an address twice"),
        (tf_config("a:1", ps=["b:2"]), "names ps; a training has workers alone"),
    ],
)
def test_a_wrong_tf_config_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(SMVIError, match=message) as caught:
        read_cluster({"TF_CONFIG": text})
    assert "\n" not in str(caught.value)


def slurm(**changes: str) -> dict[str, str]:
    step = {
        "SLURM_STEP_NUM_TASKS": "5",
        "SLURM_STEP_NODELIST": "node[08-10],gpu",
        "SLURM_STEP_TASKS_PER_NODE": "2,1(x3)",
        "SLURM_PROCID": "3",
        "SLURM_NODEID": "2",
        "SLURM_JOB_ID": "17",
    }
    return step | changes


def test_the_tasks_of_a_slurm_step_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # without scontrol
    found = read_cluster(slurm())
    assert found is not None
    hosts, ports = zip(*(address.split(":") for address in found.addresses), strict=True)
    assert hosts == ("node08", "node08", "node09", "node10", "gpu")
    assert ports[0] != ports[1]
    assert found.rank == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SLURM_STEP_TASKS_PER_NODE": "many"}, "not understood"),
        ({"SLURM_STEP_TASKS_PER_NODE": "2,1(x2)"}, "not understood"),
        ({"SLURM_NODEID": "0"}, "block"),
        ({"SLURM_NODEID": "4"}, "block"),
        ({"SLURM_PROCID": "-1"}, "block"),
        ({"SLURM_PROCID": "5"}, "block"),
    ],
)
def test_a_slurm_step_that_does_not_fit_is_refused_in_one_line(
    changes: Mapping[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SMVIError, match=message) as caught:
        read_cluster(slurm(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("devices", "environment", "line"),
    [
        ("x", {}, "'x' is not a number of devices; give 1 or more, or all."),
        ("0", {}, "'0' is not a number of devices; give 1 or more, or all."),
        ("9" * 5000, {}, "is not a number of devices; give 1 or more, or all."),
        ("99", {}, "--devices = 99 is not possible: TensorFlow has"),
        ("2", {"TF_CONFIG": tf_config("a:1", "b:2")}, "--devices = 2 is for one machine, and"),
    ],
)
def test_devices_of_the_command_line_are_refused_as_usage(
    devices: str,
    environment: Mapping[str, str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert runs.call("train", "--dataset", "digits", "--devices", devices) == 2
    assert line in capsys.readouterr().err


def test_devices_that_do_not_exist_are_refused() -> None:
    with refused("devices", 99):
        connect_devices(99)
    assert connect_devices(1) is None
    assert connect_devices() is None


def test_a_model_from_elsewhere_is_refused(digits: Dataset, tmp_path: Path) -> None:
    model = VAE(ModelConfig("bernoulli", 4, (32, 32)), digits.image_shape)
    devices = SeveralDevices(tf.distribute.MirroredStrategy(["/cpu:0"]))
    with refused("model"):
        fit(SHARED, digits, tmp_path / "run", model=model, devices=devices)
