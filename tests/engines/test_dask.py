"""The engine on a cluster: the same results as here, and what each fault of a cluster does.

Schedulers, workers and nannies are real processes on the loopback interface. The faults of the
engine itself are tested with tasks that need no TensorFlow.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest

from tests.support import runs
from tests.support.clusters import LoopbackCluster, end, wait_until
from tests.support.errors import refused
from tests.support.forked import run_forked
from tests.support.runs import ReferenceRun
from tests.support.small_sweep import CONFIG, DONE, WholeSweep, assert_same_sweep, read
from tfp_smvi.core import patience
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.signals import is_running
from tfp_smvi.engines import dask_cluster, dask_connection, dask_members
from tfp_smvi.engines.base import Context, Event, Task, run_all
from tfp_smvi.engines.dask import DaskEngine
from tfp_smvi.engines.local import ThisProcess
from tfp_smvi.version import __version__

HERE = Path(__file__).parent


def write(context: Context, folder: str, name: str) -> None:
    """Writes a file: the function of a task."""
    context.emit("progress", fraction=0.5)
    (Path(folder) / name).write_text(os.environ.get("TF_NUM_INTRAOP_THREADS", ""))


def wait(context: Context, folder: str, name: str) -> None:
    """Adds its process to a file, and waits until another file appears."""
    with (Path(folder) / f"{name}.begun").open("a") as file:
        file.write(f"{os.getpid()}\n")
    context.emit("progress", fraction=0.5)
    while not (Path(folder) / "go").exists():
        time.sleep(0.05)
    write(context, folder, name)


def kill_worker(context: Context, folder: str, name: str) -> None:
    """Kills the worker that runs it."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def task(function: Any, folder: Path, name: str) -> Task:
    arguments = {"folder": str(folder), "name": name}
    return Task(name, f"test_dask:{function.__name__}", arguments)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackCluster]:
    """A scheduler without workers, whose workers import this file by its name."""
    folder = tmp_path_factory.mktemp("cluster")
    with LoopbackCluster(folder, [HERE, HERE.parents[1]]) as started:
        yield started


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


def events_of(engine: Any, tasks: list[Task]) -> list[tuple[str, str, dict[str, Any]]]:
    events: list[Event] = []
    run_all(engine, tasks, events.append)
    return sorted((e.task, e.kind, dict(e.values)) for e in events if e.task and e.kind != "warn")


def begun(folder: Path, name: str) -> list[int]:
    """The processes that have begun a task of `wait`."""
    path = folder / f"{name}.begun"
    return [*map(int, path.read_text().split())] if path.exists() else []


def take_until(engine: DaskEngine, kind: str, name: str | None = None) -> list[Event]:
    """Takes events up to one of a kind."""
    events = [engine.next_event()]
    while events[-1].kind != kind or name not in (None, events[-1].task):
        events.append(engine.next_event())
    return events


# The same as here.


def test_a_cluster_does_the_same_as_this_process(
    cluster: LoopbackCluster, tmp_path: Path, importable: None
) -> None:
    names = ("one", "two", "three")
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    expected = events_of(ThisProcess(), [task(write, tmp_path / "here", n) for n in names])
    with cluster.workers(1), DaskEngine(f"file:{cluster.file}", threads=3) as engine:
        engine.require(tmp_path)
        assert engine.capacity == 1
        found = events_of(engine, [task(write, tmp_path / "there", n) for n in names])
    assert found == expected
    assert {
        path.name: path.read_text() for path in (tmp_path / "there").iterdir()
    } == dict.fromkeys(names, "3")


def test_a_worker_with_a_gpu_takes_one_task_for_each(
    cluster: LoopbackCluster, tmp_path: Path
) -> None:
    with cluster.workers(1, "--nthreads", "4", "--resources", "GPU=2"):
        with DaskEngine(cluster.address) as engine:
            assert engine.capacity == 2
            for name in ("one", "two", "three"):
                engine.start(task(wait, tmp_path, name))
            wait_until(lambda: begun(tmp_path, "one") and begun(tmp_path, "two"))
            assert not begun(tmp_path, "three")
            (tmp_path / "go").touch()
            while len(engine):
                engine.next_event()
        with DaskEngine(cluster.address, jobs=1) as engine:
            assert engine.capacity == 1
    assert (tmp_path / "three").exists()


# Faults.


@pytest.mark.slow
@pytest.mark.parametrize(("number", "words"), [(signal.SIGKILL, "died"), (signal.SIGTERM, "")])
def test_the_end_of_a_worker_moves_its_task_and_condemns_no_other(
    cluster: LoopbackCluster, tmp_path: Path, number: int, words: str
) -> None:
    """The first worker ends with the first task; two more wait meanwhile, and a worker joins."""
    first = cluster.start_worker()
    with DaskEngine(cluster.address) as engine:
        engine.require(tmp_path)
        names = ("one", "two", "three")
        for name in names:
            engine.start(task(wait, tmp_path, name))
        wait_until(lambda: begun(tmp_path, "one"))
        (child,) = begun(tmp_path, "one")
        with cluster.workers(1):  # it joins late, and takes a task that waited
            wait_until(lambda: take_until(engine, "progress", "two"))
            first.send_signal(number)
            (warning,) = take_until(engine, "warn", "one")[-1:]
            assert f"{words} during this task" in warning.values["message"]
            wait_until(lambda: not is_running(child))  # its stdin was closed
            (tmp_path / "go").touch()
            exits = {}
            while len(engine):
                event = engine.next_event()
                if event.kind == "exit":
                    exits[event.task] = event.values["code"]
    first.wait()
    assert exits == dict.fromkeys(names, 0)
    assert [len(begun(tmp_path, name)) for name in names] == [2, 1, 1]


@pytest.mark.slow
def test_a_nanny_that_is_killed_leaves_no_process(cluster: LoopbackCluster, tmp_path: Path) -> None:
    nanny = cluster.start_worker(nanny=True)
    with DaskEngine(cluster.address) as engine:
        engine.start(task(wait, tmp_path, "one"))
        wait_until(lambda: begun(tmp_path, "one"))
        (child,) = begun(tmp_path, "one")
        nanny.kill()
        nanny.wait()
        wait_until(lambda: not is_running(child))
        with cluster.workers(1):
            (tmp_path / "go").touch()
            assert take_until(engine, "exit")[-1].values == {"code": 0}
    assert len(begun(tmp_path, "one")) == 2


@pytest.mark.slow
def test_a_task_that_kills_its_workers_fails_alone(
    cluster: LoopbackCluster, tmp_path: Path
) -> None:
    """The nanny starts the worker again each time."""
    nanny = cluster.start_worker(nanny=True)
    with DaskEngine(cluster.address, jobs=2) as engine:
        events = events_of(
            engine, [task(kill_worker, tmp_path, "bad"), task(write, tmp_path, "good")]
        )
    end(nanny)
    cluster.wait_for_none()
    failures = {name: values["error"] for name, kind, values in events if kind == "failed"}
    assert failures.keys() == {"bad"}
    assert failures["bad"].startswith("3 workers died while they ran it")
    assert ("good", "exit", {"code": 0}) in events


CLIENT = """
import sys
from pathlib import Path
from test_dask import task, wait, DaskEngine
engine = DaskEngine(sys.argv[1])
engine.start(task(wait, Path(sys.argv[2]), "one"))
while True:
    engine.next_event()
"""


def test_the_death_of_the_client_ends_its_tasks(cluster: LoopbackCluster, tmp_path: Path) -> None:
    path = f"{HERE}:{HERE.parents[1]}"
    with cluster.workers(1):
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, cluster.address, str(tmp_path)],
            env=os.environ | {"PYTHONPATH": path},
        )
        wait_until(lambda: begun(tmp_path, "one"))
        client.kill()
        client.wait()
        (child,) = begun(tmp_path, "one")
        wait_until(lambda: not is_running(child))
        with DaskEngine(cluster.address) as engine:  # the worker is free again
            assert ("two", "exit", {"code": 0}) in events_of(engine, [task(write, tmp_path, "two")])


@pytest.mark.parametrize("end_of", ["stop", "kill", "exit"])
def test_tasks_are_stopped_and_killed(
    cluster: LoopbackCluster, tmp_path: Path, end_of: str
) -> None:
    with cluster.workers(1):
        with DaskEngine(cluster.address) as engine:
            engine.start(task(wait, tmp_path, "one"))
            engine.start(task(wait, tmp_path, "two"))
            take_until(engine, "progress")
            if end_of != "exit":
                (engine.stop if end_of == "stop" else engine.kill)()
                code = take_until(engine, "exit", "one")[-1].values["code"]
                assert code == (143 if end_of == "stop" else -9)
        (child,) = begun(tmp_path, "one")
        assert not is_running(child)
    assert not (tmp_path / "one").exists()


def test_a_worker_without_the_disk_is_named(
    cluster: LoopbackCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = 'mount -t tmpfs tmpfs "$0" && exec "$@"'
    before = ("unshare", "--mount", "sh", "-c", shell, str(tmp_path))
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a tmpfs")
    monkeypatch.setattr(dask_members, "WATCH_SECONDS", 0.2)
    with cluster.workers(1), DaskEngine(cluster.address) as engine:
        engine.require(tmp_path / "not" / "yet")
        blind = cluster.start_worker(before=before)
        (warning,) = take_until(engine, "warn")[-1:]
        assert f"cannot read {tmp_path}" in warning.values["message"]
        assert engine.capacity == 1  # it is not used
        with DaskEngine(cluster.address) as other, pytest.raises(SMVIError) as caught:
            other.require(tmp_path)
        end(blind)
    assert os.uname().nodename in str(caught.value)
    assert f"cannot read {tmp_path} (No such file or directory)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [*tmp_path.iterdir()]


def test_a_read_only_disk_is_named_with_what_to_do(
    cluster: LoopbackCluster, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True, check=False
    ).returncode:
        pytest.skip("no right to mount a tmpfs")
    try:
        with (
            cluster.workers(1),
            DaskEngine(cluster.address) as engine,
            pytest.raises(SMVIError) as caught,
        ):
            engine.require(folder)
    finally:
        subprocess.run(["umount", folder], check=True)
    problem = f"cannot write to {folder} (Read-only file system); make room or give write"
    assert str(caught.value).startswith(problem)


def test_a_worker_of_another_version_is_refused_by_name(
    cluster: LoopbackCluster, tmp_path: Path
) -> None:
    (tmp_path / "tfp_smvi").mkdir()
    (tmp_path / "tfp_smvi" / "__init__.py").touch()
    (tmp_path / "tfp_smvi" / "version.py").write_text('__version__ = "0.0.1"\n')
    other = cluster.start_worker(environment={"PYTHONPATH": str(tmp_path)})
    with pytest.raises(SMVIError) as caught:
        DaskEngine(cluster.address)
    end(other)
    cluster.wait_for_none()
    name = os.uname().nodename
    assert f"{name} (tcp://127.0.0.1:" in str(caught.value)
    assert f"has tfp-smvi 0.0.1, and this is {__version__}; install the same" in str(caught.value)


# What is not there.


def test_a_cluster_that_cannot_be_used_is_one_line(
    cluster: LoopbackCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_connection, "CONNECT_SECONDS", 0.5)
    missing = tmp_path / "scheduler.json"
    for address, words in (
        (cluster.address, f"the scheduler at {cluster.address} has no workers; start some"),
        ("tcp://127.0.0.1:1", "no scheduler answers at tcp://127.0.0.1:1 ("),
        (f"file:{missing}", f"no scheduler has written {missing} (No such file or directory);"),
        ("tls://127.0.0.1:1", "needs the certificates of its cluster (none are configured);"),
        ("http://here:1", "engine = 'http://here:1' is not an engine; give local, tcp://"),
        ("tcp://here:99999", "is not an engine; give local, tcp://"),
        ("file:relative", "is not an engine; give local, tcp://"),
    ):
        with pytest.raises(SMVIError) as caught:
            DaskEngine(address, wait=0.5)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_scheduler_that_does_not_encrypt_is_refused_if_dask_requires_it() -> None:
    """Dask itself leaves a client that never ends."""
    address = "tcp://127.0.0.1:1"
    with dask.config.set({"distributed.comm.require-encryption": True}), refused("engine", address):
        DaskEngine(address)


def test_a_long_wait_says_what_it_waits_for(
    cluster: LoopbackCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "SECONDS_TO_NOTE", 0.1)
    missing, notes = tmp_path / "scheduler.json", list[str]()
    for address in (f"file:{missing}", cluster.address):
        with pytest.raises(SMVIError):
            DaskEngine(address, wait=0.5, note=notes.append)
    assert notes == [
        f"Waiting up to 0.5 s for {missing}.",
        f"Waiting up to 0.5 s for a worker of {cluster.address}.",
    ]


def test_the_last_worker_may_be_gone_for_a_while_only(
    cluster: LoopbackCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster.workers(1):
        engine = DaskEngine(cluster.address, wait=2.0)
    monkeypatch.setattr(patience, "SECONDS_TO_NOTE", 0.1)
    with engine, pytest.raises(SMVIError, match="no worker that takes tasks for 2 seconds"):
        engine.start(task(write, tmp_path, "one"))
        (note,) = take_until(engine, "note")[-1:]
        assert note.values["message"] == "Waiting up to 2 s for a worker that takes tasks."
        take_until(engine, "exit")


def test_workers_without_a_free_gpu_take_no_task(cluster: LoopbackCluster, tmp_path: Path) -> None:
    with (
        cluster.workers(1, "--resources", "GPU=0"),
        DaskEngine(cluster.address, wait=2.0) as engine,
        pytest.raises(SMVIError, match="no worker that takes tasks for 2 seconds"),
    ):
        engine.start(task(write, tmp_path, "one"))
        take_until(engine, "exit")


def test_a_worker_that_does_not_answer_is_named_alone(
    cluster: LoopbackCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is suspended, beside one that answers; it was called one of another version, and both."""
    monkeypatch.setattr(dask_cluster, "ANSWER_SECONDS", 3.0)
    with cluster.workers(1):
        silent = cluster.start_worker()
        silent.send_signal(signal.SIGSTOP)
        with pytest.raises(SMVIError) as caught:
            DaskEngine(cluster.address)
        silent.kill()
        silent.wait()
    cluster.wait_for_none()
    assert str(caught.value).count("does not answer (no answer in time)") == 1
    assert "has none" not in str(caught.value)


# With TensorFlow.

SETTINGS = (
    *("--num-examples", "150", "--num-chains", "2", "--num-temperatures", "4"),
    *("--num-elbo-samples", "4", "--num-simulated", "10", "--num-calibration", "0"),
)


def start_command(*words: str, log: Path) -> "subprocess.Popen[bytes]":
    """Starts the command line, whose stderr goes to a file."""
    with log.open("wb") as file:
        return subprocess.Popen([runs.script(), *words], stdout=subprocess.DEVNULL, stderr=file)


@pytest.mark.slow
def test_an_evaluation_has_the_same_bits_after_the_death_of_a_worker(
    reference: ReferenceRun, tmp_path: Path
) -> None:
    """By the command line; the worker is killed in the middle of a block."""
    here, there = (shutil.copytree(reference.run_dir, tmp_path / n) for n in ("here", "there"))
    assert run_forked("evaluate", str(here), "--threads", "1", *SETTINGS).returncode == 0
    with LoopbackCluster(tmp_path) as cluster:
        first = cluster.start_worker()
        options = ("--engine", f"file:{cluster.file}", "--threads", "1")
        process = start_command("evaluate", str(there), *options, *SETTINGS, log=tmp_path / "log")
        wait_until(lambda: [*(there / "evaluation").glob("*/*.npz")])
        child = cluster.stop_in_a_task(first)  # it may have been between two blocks
        first.kill()
        first.wait()
        os.kill(child, signal.SIGCONT)
        with cluster.workers(1):
            assert process.wait(200) == 0, (tmp_path / "log").read_text()
    assert "died during this task" in (tmp_path / "log").read_text()
    for name in ("evaluation.json", "evaluation.npz"):
        assert (there / name).read_bytes() == (here / name).read_bytes()
    names = [{p.relative_to(run_dir) for p in run_dir.rglob("*.npz")} for run_dir in (here, there)]
    assert names[0] == names[1]


@pytest.mark.slow
def test_a_sweep_goes_on_after_the_death_of_a_worker_and_of_the_scheduler(
    whole_sweep: WholeSweep, tmp_path: Path
) -> None:
    """A worker dies in a training, and the scheduler later; the results are those of neither."""
    sweep_dir, log = tmp_path / "sweep", tmp_path / "log"
    settings = tmp_path / "settings.json"
    grid = {"lams": (0.0,), "seeds": CONFIG.seeds}
    settings.write_text(json.dumps({"config": CONFIG.settings(), **grid}))
    with LoopbackCluster(tmp_path) as cluster:
        words = ("sweep", "--config", str(settings), "--sweep-dir", str(sweep_dir))
        words += ("--engine", f"file:{cluster.file}", "--threads", "1")
        first = cluster.start_worker()
        process = start_command(*words, log=log)
        wait_until(lambda: f"{DONE[0]}: train" in log.read_text())
        first.kill()
        first.wait()
        second = cluster.start_worker("--nthreads", "2", nanny=True)
        wait_until(lambda: "died during this task" in log.read_text())
        wait_until(lambda: f"{DONE[0]}: evaluate" in log.read_text(), 200)
        cluster.scheduler.kill()
        assert process.wait(60) == 1
        assert log.read_text().splitlines()[-1] == (
            f"Error: the scheduler at file:{cluster.file} does not answer any more; what is done "
            "is kept: start it again, and then the same command."
        )
        assert "Traceback" not in log.read_text()
        assert {entry["status"] for entry in read(sweep_dir)["runs"]} == {"pending"}
        second.wait(60)
        cluster.start_scheduler()
        with cluster.workers(1, "--nthreads", "2"):
            process = start_command(*words, log=log)
            assert process.wait(200) == 0, log.read_text()
    assert_same_sweep(sweep_dir, whole_sweep, DONE[:1])
