"""Files that version 0.1 has written, through every command that reads them.

tests/files/version_0_1 holds, of digits and a model of 2 latents:

    half          a training of 3 epochs, stopped after 2
    run           the same training at its end, evaluated, checked for convergence and classified
    sweep         a sweep of two lams and 2 epochs, classified after each
    saved_models  the export of the run
    digits.npy    50 images, and in features.npz the features that the export gave for them
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import runs
from tfp_smvi import load_run
from tfp_smvi.config import EvaluateConfig, RunConfig, SweepConfig
from tfp_smvi.evaluation.pipeline import evaluate
from tfp_smvi.evaluation.results import EvaluatedRun, Evaluation
from tfp_smvi.sweeps.results import read_sweep

FILES = Path(__file__).parent / "files" / "version_0_1"
MODEL = (
    *("--dataset", "digits", "--latent-dim", "2", "--hidden-sizes", "16"),
    *("--batch-size", "32"),  # and the warm-up that the runs have recorded
)
SWEEP = (
    *("--lams", "0,0.5", "--epochs", "2", "--classify-every", "1", "--num-examples", "20"),
    *("--num-chains", "4", "--num-temperatures", "8", "--num-leapfrog-steps", "1"),
    *("--num-pilot-temperatures", "8", "--num-elbo-samples", "10"),
    *("--num-divergence-samples", "10", "--num-importance-samples", "10"),
    *("--num-simulated", "10", "--labels", "50", "--kernel", "linear", "--repeats", "2"),
    *("--num-folds", "2"),
)


def copied(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(FILES / name, folder / name))


def test_a_stopped_training_goes_on(tmp_path: Path) -> None:
    """Catches a restart from other weights, another optimizer's state or another order.

    The epoch moves the test ELBO by several nats. Rounding on another processor moves it by less
    than 0.01 nat.
    """
    run_dir = copied("half", tmp_path)
    done = runs.call("train", *MODEL, "--lam", "0.5", "--epochs", "3", "--run-dir", str(run_dir))
    assert done == 0
    continued, expected = runs.records(run_dir), runs.records(FILES / "run")
    assert continued[:2] == expected[:2]
    assert continued[2]["step"] == expected[2]["step"]
    for name, value in expected[2]["test"].items():
        assert continued[2]["test"][name] == pytest.approx(value, abs=0.01), name
    assert runs.event_steps(run_dir)["elbo/test"] == [44, 88, 132]


def test_a_run_is_loaded() -> None:
    run = load_run(FILES / "run")
    assert isinstance(run.config, RunConfig)
    assert [record.epoch for record in run.history] == [1, 2, 3]
    assert run.step == 132


def without_errors_of_weights(value: Any) -> Any:
    """A part of evaluation.json without errors that follow from the blocks in a better way now.

    Nor has it the worst examples, which follow from the blocks too.
    """
    if not isinstance(value, dict):
        return value
    return {
        name: without_errors_of_weights(part)
        for name, part in value.items()
        if name not in ("monte_carlo_error", "worst")
    }


def without_calibration(settings: dict[str, Any]) -> EvaluateConfig:
    """The settings of an evaluation; its version had no calibration to merge."""
    return EvaluateConfig.from_json(settings | {"num_calibration": 0})


def test_blocks_of_an_evaluation_are_found_again(tmp_path: Path) -> None:
    """Merging computes nothing: every block must be found by what it depends on."""
    run_dir = copied("run", tmp_path)
    before = json.loads((run_dir / "evaluation.json").read_text())
    settings = without_calibration(before["settings"])
    evaluation = evaluate(run_dir, settings, merge=True)
    assert evaluation is not None
    after = json.loads((run_dir / "evaluation.json").read_text())
    assert after["settings"] == before["settings"] | {"num_calibration": 0}
    for part in ("splits", "bracket"):
        assert without_errors_of_weights(after[part]) == without_errors_of_weights(before[part])
    # Settings that are newer have their defaults.
    assert EvaluatedRun.from_json(after["run"]) == EvaluatedRun.from_json(before["run"])
    assert {*after} == {*before, "units", "log_scale"}
    assert len(after["warnings"]) == len(before["warnings"])
    with (
        np.load(run_dir / "evaluation.npz") as new,
        np.load(FILES / "run" / "evaluation.npz") as old,
    ):
        of_weights = [name for name in new if re.search(r"(bound|likelihood)_error$", name)]
        assert len(of_weights) == 6
        assert all(np.mean(new[name] ** 2) >= np.mean(old[name] ** 2) for name in of_weights)
        same = [
            {name: a[name] for name in a if name not in of_weights and "_worst_" not in name}
            for a in (new, old)
        ]
        runs.assert_same_bits(*same)
    loaded = Evaluation.from_json(before).to_json()
    assert loaded == {**before, "units": "given", "log_scale": None}
    assert Evaluation.from_json(after) == evaluation


def test_a_finished_sweep_does_nothing_again(tmp_path: Path) -> None:
    sweep_dir = copied("sweep", tmp_path)
    times = {path: path.stat().st_mtime_ns for path in sweep_dir.glob("*/*.json")}
    assert runs.call("sweep", *MODEL, *SWEEP, "--sweep-dir", str(sweep_dir)) == 0
    assert {path: path.stat().st_mtime_ns for path in sweep_dir.glob("*/*.json")} == times
    lines = [
        (folder / "sweep.csv").read_text().splitlines() for folder in (sweep_dir, FILES / "sweep")
    ]
    assert lines[0][0].removeprefix(lines[1][0]) == (
        ",lam_reached,weighted_divergence,weighted_divergence_standard_error,target_gap,log_scale"
    )
    old, new = zip(*(line.rsplit(",", maxsplit=5)[:2] for line in lines[0]), strict=True)
    assert {*new[1:]} == {"0.0", "0.5"}
    assert [*old] == lines[1]
    before, after = (
        json.loads((folder / "sweep.json").read_text()) for folder in (FILES / "sweep", sweep_dir)
    )
    for run in after["runs"]:
        assert run.pop("warnings") == []  # which version 0.1 did not keep, nor what lam was reached
        assert run.pop("lam_reached") == run["lam"]
        evaluation = run["evaluation"]
        assert (evaluation.pop("units"), evaluation.pop("log_scale")) == ("given", None)
    for part in ("format", "lams", "seeds", "environment", "runs"):
        assert after[part] == before[part], part
    assert SweepConfig.from_summary(after) == SweepConfig.from_summary(before)


def test_a_training_within_its_warm_up_is_warned_of_by_all_that_read_it(tmp_path: Path) -> None:
    """Also of results made before: the warning follows from the settings and the step."""
    run_dir = copied("run", tmp_path)
    file = run_dir / "config.json"
    values = json.loads(file.read_text())
    values["config"]["train"]["lam_warmup_steps"] = 1000
    file.write_text(json.dumps(values))
    settings = json.loads((run_dir / "evaluation.json").read_text())["settings"]
    evaluation = evaluate(run_dir, without_calibration(settings), merge=True)
    assert evaluation is not None
    grown = "lam grows to 0.0087 of 0.5 only: the training has 132 steps, and the warm-up 1000."
    assert evaluation.warnings[0].startswith(grown)
    with pytest.warns(UserWarning, match="lam grows to 0.0087 of 0.5 only"):
        load_run(run_dir)

    sweep_dir = copied("sweep", tmp_path)
    file = sweep_dir / "sweep.json"
    values = json.loads(file.read_text())
    values["config"]["train"]["train"]["lam_warmup_steps"] = 1000
    file.write_text(json.dumps(values))
    by_lam = {run.lam: run.all_warnings for run in read_sweep(sweep_dir).runs}
    assert any("lam grows to 0.0039 of 0.5 only" in line for line in by_lam[0.5])
    assert not any("lam grows" in line for line in by_lam[0.0])


@pytest.mark.slow
def test_a_sweep_is_drawn_and_reported(tmp_path: Path) -> None:
    sweep_dir = copied("sweep", tmp_path)
    assert [run.status for run in read_sweep(sweep_dir).runs] == ["done", "done"]
    assert runs.call("plot", str(sweep_dir)) == 0
    assert {path.suffix for path in (sweep_dir / "figures").iterdir()} == {".png", ".pdf"}
    assert runs.call("report", str(sweep_dir)) == 0
    assert "lam" in (sweep_dir / "report.html").read_text()


def test_an_export_passes_its_check_and_gives_the_same_features(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rounding on another processor is all that may differ; both say to export again."""
    models = copied("saved_models", tmp_path)
    warning = f"Warning: {models / 'digits' / '1'} was exported by an older version of tfp-smvi"
    assert runs.call("export", "--check", str(models / "digits" / "1")) == 0
    assert capsys.readouterr().err.startswith(warning)
    output = tmp_path / "features.npz"
    arguments = (str(FILES / "digits.npy"), "--model", str(models / "digits"))
    assert runs.call("features", *arguments, "--output", str(output)) == 0
    assert capsys.readouterr().err.startswith(warning)
    with np.load(output) as new, np.load(FILES / "features.npz") as old:
        assert new.files == old.files
        for name in new.files:
            if old[name].dtype.kind == "f":
                np.testing.assert_allclose(new[name], old[name], rtol=1e-4, atol=1e-5)
            else:
                np.testing.assert_array_equal(new[name], old[name])
