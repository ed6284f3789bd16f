"""A classification by an engine: the same numbers and files, whoever trains the classifiers."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.engines import OtherEngine
from tests.support.errors import refused
from tests.support.runs import config
from tfp_smvi.classification import draws, protocol, workers
from tfp_smvi.classification.given import classify_features
from tfp_smvi.classification.protocol import classify
from tfp_smvi.config import ClassifyConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import Dataset
from tfp_smvi.engines.processes import Processes
from tfp_smvi.training.loop import fit

SMALL = ClassifyConfig(labels=(30, 60), kernel="linear", repeats=3, num_folds=3)


@pytest.fixture(scope="module")
def run_dir(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run that this process has classified."""
    path = tmp_path_factory.mktemp("classified") / "run"
    fit(config(epochs=1), digits, path)
    classify(path, SMALL)
    return path


@pytest.fixture
def copy(run_dir: Path, tmp_path: Path) -> Path:
    """The same run, not classified."""
    path = Path(shutil.copytree(run_dir, tmp_path / "run"))
    (path / "classification.json").unlink()
    shutil.rmtree(path / "baselines")
    return path


def written(run_dir: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The report without its time, and the other files by their names."""
    files = {
        str(path.relative_to(run_dir)): path.read_bytes()
        for path in run_dir.rglob("*")
        if path.is_file()
    }
    report = json.loads(files.pop("classification.json"))
    del report["seconds"]
    return report, files


def unimportable(folder: Path, package: str) -> str:
    """A place for the PYTHONPATH where a package cannot be imported."""
    path = folder / package / package
    path.mkdir(parents=True)
    (path / "__init__.py").write_text(f"raise ImportError('{package} is not\\nfor this process')")
    return str(path.parent)


@pytest.mark.slow
def test_other_processes_give_the_same_files_without_tensorflow(
    run_dir: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also: a task that fails is one line, and nothing is written."""
    monkeypatch.setattr(draws, "measure_accuracy", None)  # not in this process
    monkeypatch.setenv("PYTHONPATH", unimportable(tmp_path, "sklearn"))
    with Processes(1) as engine, pytest.raises(SMVIError) as failure:
        classify(copy, SMALL, engine=engine)
    assert str(failure.value) == "ImportError: sklearn is not (see its log)."
    assert not (copy / "classification.json").exists()
    monkeypatch.setenv("PYTHONPATH", unimportable(tmp_path, "tensorflow"))
    with Processes(2) as engine:
        classify(copy, SMALL, engine=engine)
    assert written(copy) == written(run_dir)


def test_killed_work_goes_on_from_the_finished_draws(
    run_dir: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One draw a task; it is killed among the encoder's, and then among those of the baselines."""
    monkeypatch.setattr(workers, "TASK_COST", 0.0)
    done, begun = [], []
    for number in (4, 7, None):
        engine = OtherEngine(killed_after=number)
        reporter = Progress()
        try:
            classify(copy, SMALL, engine=engine, reporter=reporter)
        except KeyboardInterrupt:
            assert list((copy / "classification.partial").glob("encoder-*.npz"))
            assert not (copy / "classification.json").exists()
        done.append(len(engine.tasks))
        begun.append(reporter.share)
    assert done == [4, 7, 18 - 11]
    assert begun[-1] == pytest.approx(1.0)  # what was done before counts
    assert written(copy) == written(run_dir)


class Progress:
    """A reporter that adds up the shares of the work."""

    share = 0.0

    def begin(self, num_units: int, cost: float, cost_done: float) -> None:
        self._cost, self.share = cost, cost_done / cost

    def advance(self, cost: float) -> None:
        self.share += cost / self._cost

    def note(self, message: str) -> None:
        """Ignores it."""

    warn = note


@pytest.mark.slow
def test_a_draw_of_other_settings_or_weights_is_not_taken(
    copy: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each work is killed before its report, so that all draws are kept."""

    def kill(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workers, "TASK_COST", 0.0)
    monkeypatch.setattr(protocol, "write_json", kill)
    settings = dataclasses.replace(SMALL, labels=(30,), repeats=2)

    def num_tasks_of(settings: ClassifyConfig) -> int:
        engine = OtherEngine()
        with pytest.raises(KeyboardInterrupt):
            classify(copy, settings, engine=engine)
        return sum(task.name.startswith("encoder") for task in engine.tasks)

    assert num_tasks_of(settings) == 2
    assert num_tasks_of(settings) == 0
    assert num_tasks_of(dataclasses.replace(settings, repeats=3)) == 1
    assert num_tasks_of(dataclasses.replace(settings, input="binarized")) == 2
    assert num_tasks_of(dataclasses.replace(settings, num_folds=2)) == 2
    fit(config(epochs=2), digits, copy)
    assert num_tasks_of(settings) == 2


def test_given_features_go_the_same_way(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 3)), np.arange(80) % 2
    settings = ClassifyConfig(labels=(20,), kernel="linear", repeats=2, num_folds=2)
    given = (x, y, x + 0.5, y)
    expected = classify_features(*given, settings)
    engine, output = OtherEngine(), tmp_path / "report.json"
    report = classify_features(*given, settings, engine=engine, output=output)
    assert report.results == expected.results
    assert len(engine.tasks) == 1
    assert [path.name for path in tmp_path.iterdir()] == [output.name]
    with refused("engine"):
        classify_features(*given, settings, engine=engine)
