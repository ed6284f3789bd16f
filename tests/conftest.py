"""What the tests share: the environment, the digits, and a run and a sweep without interruption."""

import contextlib
import gc
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports TensorFlow. Its start-up chatter would hide the output of a failing test.
# Two workers on two cores are fastest with one thread each. Processes inherit these.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
for _name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import tfp_smvi
from tests.support import fuzz, golden, kills, runs, signals
from tests.support.forked import ForkedProcess
from tests.support.forked_workers import forked_workers
from tests.support.kills import RandomKills
from tests.support.runs import ReferenceRun
from tests.support.shared import make_once
from tests.support.small_sweep import WholeSweep, make_whole_sweep, no_check
from tfp_smvi.data import Dataset, load_dataset
from tfp_smvi.engines import processes
from tfp_smvi.engines.base import Task
from tfp_smvi.engines.processes import Processes
from tfp_smvi.sweeps.orders import Order

sys.addaudithook(signals.audit)
FOLDER = Path(__file__).parent
# The files that take longest, and their rank.
LONGEST = {
    name: rank
    for rank, name in enumerate(
        (
            "engines/test_dask.py",
            "test_every_model.py",
            "test_every_likelihood.py",
            "sweeps/test_stopping.py",
            "training/test_resume.py",
            "evaluation/test_pipeline.py",
            "test_examples.py",
            "tracking/test_mlflow.py",
            "tracking/test_results.py",
            "training/test_faults.py",
            "training/test_distributed.py",
            "inference/test_ais.py",
            "data/test_tfds_sets.py",
            "training/test_own_model.py",
            "export/test_exporter.py",
            "cli/test_export.py",
            "test_tutorial.py",
            "cli/test_evaluate.py",
            "evaluation/test_local.py",
            "evaluation/test_outside.py",
            "evaluation/test_estimator.py",
            "evaluation/test_blocks.py",
            "sweeps/test_early_stopping.py",
            "sweeps/test_target_gaps.py",
            "cli/test_sweep.py",
            "core/test_startup.py",
            "training/test_plan.py",
            "training/test_constraints.py",
            "training/test_stepping.py",
            "cli/test_classify.py",
            "models/test_posteriors.py",
            "report/test_figures.py",
            "features/test_extraction.py",
            "classification/test_protocol.py",
            "training/test_loop.py",
            "cli/test_main.py",
            "cli/test_serving.py",
        )
    )
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        golden.OPTION, action="store_true", help="write the error messages into tests/cli/golden"
    )
    parser.addoption(
        "--write-notebook", action="store_true", help="store examples/tutorial.ipynb as it has run"
    )
    parser.addoption(kills.OPTION, type=int, default=2, help="kills at random moments in a test")
    parser.addoption(fuzz.OPTION, type=int, default=3, help="odd inputs of each kind")
    parser.addoption(fuzz.SEED_OPTION, type=int, default=0, help="the seed of the odd inputs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kills.add_timeouts(items, config.getoption(kills.OPTION))
    fuzz.add_timeouts(items, config.getoption(fuzz.OPTION))
    # The longest files first, so that all workers end at the same time.
    items.sort(key=lambda item: LONGEST.get(item.path.relative_to(FOLDER).as_posix(), len(LONGEST)))


def pytest_collection_finish() -> None:
    """Keeps what all imports have made out of garbage collections, which take 0.4 s with it."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Iterator[None]:  # it yields None, and returns what the test's protocol does
    """Frees what the tests of a file leave, and keeps the rest out of later collections."""
    done = yield
    if nextitem is not None and nextitem.path != item.path:
        gc.collect()
        gc.freeze()
    return done


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for kind in terminalreporter.stats.values() for report in kind]
    tests = [report for report in reports if isinstance(report, pytest.TestReport)]
    for line in (kills.summary(tests), fuzz.summary(tests)):
        if line is not None:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def default_signals() -> Iterator[None]:
    """The stop signals act as in a shell, even if the tests were started with them ignored."""
    yield from signals.default_signals()


@pytest.fixture(scope="session", autouse=True)
def forked_processes() -> Iterator[None]:
    """Engines fork their processes with TensorFlow loaded, except in tests of `new_processes`."""
    yield from forked_workers()


@pytest.fixture(scope="module")
def new_processes() -> Iterator[None]:
    """Engines start new interpreters, as they do outside the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "subprocess", subprocess)
        yield


@pytest.fixture
def signal_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[signals.SignalAt]:
    """Signals this process: call it with (event, part, count, signal).

    The signal is sent at the count-th audit event whose first argument holds `part`, and must be
    sent before the test ends. A command that would call os._exit raises SystemExit.
    """
    signals.raising_exit(monkeypatch)
    sender = signals.SignalAt()
    with contextlib.contextmanager(signals.refuse_signals)():
        yield sender
    sender.close()


@pytest.fixture
def run_signalled(
    signal_at: signals.SignalAt, capsys: pytest.CaptureFixture[str]
) -> signals.RunSignalled:
    """Runs the command line with a signal at an audit event."""
    return signals.RunSignalled(signal_at, capsys)


@pytest.fixture
def random_kills(request: pytest.FixtureRequest) -> Iterator[RandomKills]:
    """Counts the kills of a test."""
    yield from kills.random_kills(request)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceRun:
    """The run of runs.OPTIONS, never interrupted, with its result as JSON. Copy it to change it."""

    def make(run_dir: Path) -> ReferenceRun:
        process = runs.command("train", *runs.OPTIONS, "--run-dir", str(run_dir), "--json")
        assert process.returncode == 0, process.stderr
        return ReferenceRun(process, run_dir)

    run_dir, made = make_once(tmp_path_factory, "reference", make)
    process = made.process
    process.stdout = process.stdout.replace(str(made.run_dir), str(run_dir))
    return ReferenceRun(process, run_dir)


@pytest.fixture(scope="session")
def trained(digits: Dataset, reference: ReferenceRun) -> "tfp_smvi.FitResult":
    """The reference run as `fit` returns it. Copy it to change it."""
    return tfp_smvi.fit(runs.CONFIG, digits, reference.run_dir)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one checkpoint or export of the reference run, not for two."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=240k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a tmpfs; the tests with RLIMIT_FSIZE take its place.")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def whole_sweep(tmp_path_factory: pytest.TempPathFactory) -> WholeSweep:
    """The sweep of CONFIG, two runs at once. Copy it to change it."""

    def make(path: Path) -> WholeSweep:
        value_path = path.with_name("whole-sweep.pickle")
        process = ForkedProcess(make_whole_sweep, path, value_path)
        _, err = process.communicate()
        assert process.returncode == 0, err
        value: WholeSweep = pickle.loads(value_path.read_bytes())
        return value

    path, made = make_once(tmp_path_factory, "whole-sweep", make)
    return made._replace(path=path)


@pytest.fixture
def copied_sweep(whole_sweep: WholeSweep, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(whole_sweep.path, tmp_path / "sweep"))


@pytest.fixture
def sweep_orders(monkeypatch: pytest.MonkeyPatch) -> list[Order]:
    """Starts no process, checks no data; the orders go into this list."""
    orders: list[Order] = []

    def refuse(self: Processes, task: Task) -> None:
        orders.append(Order.from_json(task.arguments))
        raise OSError(28, "No space left on device")

    no_check(monkeypatch)
    monkeypatch.setattr(Processes, "start", refuse)
    return orders
