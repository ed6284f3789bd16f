"""A sweep over target gaps: its runs, summary, table, figures and page."""

import csv
import dataclasses
import json
from pathlib import Path

import pytest

from tests.support import runs
from tests.support.small_sweep import CONFIG
from tfp_smvi.config import RunConfig, SweepConfig, TrainConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.report.figures import draw_all
from tfp_smvi.report.level_names import level_title, symbol
from tfp_smvi.report.page import render_report
from tfp_smvi.sweeps.driver import sweep
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.results import Sweep, read_sweep

pytestmark = pytest.mark.slow

# One run, whose two epochs end after the controller's settling.
SMALL = dataclasses.replace(
    CONFIG,
    train=dataclasses.replace(
        CONFIG.train, train=dataclasses.replace(CONFIG.train.train, epochs=2)
    ),
    evaluate=dataclasses.replace(CONFIG.evaluate, split="test"),
    classify=None,
    classify_every=None,
    lams=(),
    target_gaps=(3.0,),
)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, new_processes: None) -> Sweep:
    """In processes as users have them; other sweeps of the tests fork theirs."""
    path = tmp_path_factory.mktemp("gaps") / "sweep"
    sweep(path, SMALL)
    return read_sweep(path)


def test_each_run_follows_its_gap(swept: Sweep) -> None:
    (run,) = swept.finished
    assert (run.run_dir, run.lam, run.target_gap) == ("gap3-seed0", None, 3.0)
    constraint = run.history[-1].constraint
    assert constraint is not None
    assert (constraint.quantity, constraint.asked) == ("gap", 3.0)
    assert run.lam_reached == run.history[-1].lam
    assert swept.summary.config.target_gaps == (3.0,)
    assert swept.summary.config.with_grid((1.0, 3.0), (0,)).levels == (1.0, 3.0)
    written = json.loads((swept.path / "sweep.json").read_text())
    assert written["target_gaps"] == [3.0]
    assert "lams" not in written
    assert "target_gaps" not in written["config"]
    assert SweepConfig.from_summary(written) == swept.summary.config
    with (swept.path / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["lam"], row["target_gap"]) for row in rows] == [("", "3.0")]
    assert all(float(row["lam_reached"]) > 0.0 for row in rows)


def test_what_is_shown_names_the_gap_and_the_lam_that_it_took(swept: Sweep) -> None:
    assert symbol(swept) == "gap"
    assert level_title(swept, 3.0).startswith("gap 3")
    assert "λ = " in level_title(swept, 3.0)
    figures = draw_all(swept)
    assert [axes.get_ylabel() for axes in figures["training"].axes][2:] == [
        "λ",
        "measured / asked",
    ]
    assert figures["likelihood"].axes[0].get_xlabel() == "gap asked for (nats)"
    page = render_report(swept)
    assert "a sweep over gap" in page
    assert "where λ follows a gap = 3;" in page


def test_an_evaluation_prints_what_was_asked_beside_what_it_measures(
    swept: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs.call("evaluate", str(swept.path / "gap3-seed0"), *_evaluation()) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "Asked" in line)
    (run,) = swept.finished
    assert run.evaluation is not None
    assert line == f"Asked: gap 3. Measured: {run.evaluation.splits['test'].gap} (test)."


def _evaluation() -> list[str]:
    """The options of the sweep's evaluation, whose blocks are there."""
    settings = SMALL.evaluate
    values = {
        **{f.name: getattr(settings.ais, f.name) for f in dataclasses.fields(settings.ais)},
        **{
            name: getattr(settings, name)
            for name in ("split", "num_examples", "num_elbo_samples", "num_divergence_samples")
        },
        "num_importance_samples": settings.num_importance_samples,
        "num_simulated": settings.num_simulated,
        "num_calibration": settings.num_calibration,
    }
    return [word for k, v in values.items() for word in ("--" + k.replace("_", "-"), str(v))]


def test_lams_and_target_gaps_exclude_each_other(
    tmp_path: Path, swept: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SMVIError) as caught:
        SweepConfig(lams=(1.0,), target_gaps=(1.0,))
    assert caught.value.field == "target_gaps"
    line = runs.usage_error(capsys, "sweep", "--lams", "0,1", "--target-gaps", "3,1")
    assert line == "Error: --lams and --target-gaps exclude each other; give one of them."
    with pytest.raises(SMVIError, match="is a sweep over"):
        sweep(swept.path, dataclasses.replace(SMALL, lams=(1.0,), target_gaps=None))
    with pytest.raises(SMVIError, match="above 0"):
        SweepConfig(RunConfig(train=TrainConfig()), target_gaps=(0.0,))


def test_an_entry_needs_a_lam_or_a_target() -> None:
    assert Entry(None, 0, "gap3-seed0", target_gap=3.0).label == "gap 3, seed 0"
    assert Entry(0.5, 0, "lam0.5-seed0").label == "lam 0.5, seed 0"
    with pytest.raises(SMVIError, match="not a number"):
        Entry.from_json({"lam": None, "seed": 0, "run_dir": "x"})
