"""What is there is not done again, and what is not as asked for is."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.small_sweep import (
    CONFIG,
    DONE,
    FAILED,
    Recorder,
    WholeSweep,
    changed,
    entries,
    result_times,
    without_seconds,
)
from tfp_smvi.config import SweepConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.sweeps.driver import sweep
from tfp_smvi.sweeps.orders import Order
from tfp_smvi.sweeps.results import read_summary

ALL = ("train", "evaluate", "classify")


def run(order: Order) -> str:
    """The name of an order's run."""
    return Path(order.run_dir).name


def test_a_finished_sweep_does_nothing_again_but_what_failed(
    whole_sweep: WholeSweep, copied_sweep: Path, sweep_orders: list[Order]
) -> None:
    before = result_times(copied_sweep)
    summary = sweep(copied_sweep, CONFIG)
    assert [(run(order), order.stages) for order in sweep_orders] == [(FAILED, ALL)]
    assert result_times(copied_sweep) == before
    for name in DONE:
        expected = entries(whole_sweep.summary)[name]
        assert entries(summary)[name].to_json() == expected.to_json()


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("file", "damage", "stages"),
    [
        ("evaluation.json", Path.unlink, ("evaluate",)),
        ("evaluation.json", lambda p: p.write_text(p.read_text()[:-100]), ("evaluate",)),
        (
            "evaluation.json",
            lambda p: rewrite(p, lambda v: v["settings"].update(seed=7)),
            ("evaluate",),
        ),
        (
            "evaluation.json",
            lambda p: rewrite(p, lambda v: v["run"].update(step=44)),
            ("evaluate",),
        ),
        (
            "classification.json",
            lambda p: rewrite(p, lambda v: v["settings"].update(repeats=9)),
            ("classify",),
        ),
        ("classification-epoch002.json", Path.unlink, ("classify",)),
        (
            "gallery.npz",
            lambda p: p.write_bytes(p.read_bytes()[:500]),
            ALL,
        ),
        # The log is ahead of the checkpoints.
        ("checkpoints/step-0000000132.npz", Path.unlink, ALL),
        (
            "metrics.jsonl",
            lambda p: p.write_text(p.read_text()[:-9]),
            ALL,
        ),
        ("config.json", lambda p: p.write_text("{"), ALL),
    ],
)
def test_a_stage_is_done_if_its_file_is_whole_and_made_as_asked_for(
    file: str,
    damage: Callable[[Path], object],
    stages: tuple[str, ...],
    copied_sweep: Path,
    sweep_orders: list[Order],
) -> None:
    damage(copied_sweep / DONE[0] / file)
    summary = sweep(copied_sweep, dataclasses.replace(CONFIG, lams=(0.0, 0.5)))
    assert [(run(order), order.stages) for order in sweep_orders] == [(DONE[0], stages)]
    if file.startswith("classification"):
        assert sweep_orders[0].classify_epochs == ((2,) if "epoch" in file else (None,))
    entry = entries(summary)[DONE[0]]
    assert (entry.evaluation is None) == ("evaluate" in stages)


def test_lams_and_seeds_are_added_and_those_that_are_there_stay(
    whole_sweep: WholeSweep, copied_sweep: Path, sweep_orders: list[Order]
) -> None:
    summary = sweep(copied_sweep, dataclasses.replace(CONFIG, lams=(0.5, 0.25), seeds=(0, 1)))
    assert [run(order) for order in sweep_orders] == [
        "lam0.25-seed0",
        "lam0.25-seed1",
        "lam0.5-seed1",
    ]
    assert [order.train.train.lam for order in sweep_orders] == [0.25, 0.25, 0.5]
    assert [order.train.train.seed for order in sweep_orders] == [0, 1, 1]
    assert (summary.config.lams, summary.config.seeds) == ((0.0, 0.25, 0.5, 1e38), (0, 1))
    for name in (*DONE, FAILED):
        assert without_seconds(entries(summary)[name]) == without_seconds(
            entries(whole_sweep.summary)[name]
        )


@pytest.mark.usefixtures("sweep_orders")
def test_the_commands_that_a_grid_grew_by_are_kept_each_once(tmp_path: Path) -> None:
    for words in (["a"], ["b"], ["a"], ["c"]):
        summary = sweep(tmp_path, CONFIG, command=words)
    assert (summary.command, summary.earlier_commands) == (("c",), (("b",), ("a",)))


def test_more_epochs_go_on_with_all_runs(copied_sweep: Path, sweep_orders: list[Order]) -> None:
    summary = sweep(copied_sweep, changed(train={"epochs": 5}))
    assert [run(order) for order in sweep_orders] == [*DONE, FAILED]
    assert {order.train.train.epochs for order in sweep_orders} == {5}
    assert sweep_orders[0].stages == ALL
    assert sweep_orders[0].classify_epochs == (2, 4, None)
    # Of an older training, and not of this one.
    assert entries(summary)[DONE[0]].evaluation is None


def test_more_epochs_and_lams_follow_the_plan_of_the_first_call(
    tmp_path: Path, sweep_orders: list[Order]
) -> None:
    """Or the new runs would warm up more slowly than those they are compared with."""
    sweep(tmp_path, changed(train={"epochs": 3, "lam_warmup_steps": None}))
    summary = sweep(
        tmp_path, changed(train={"epochs": 5, "lam_warmup_steps": None}, grid={"lams": (0.25,)})
    )
    assert {order.train.train.planned_epochs for order in sweep_orders} == {3}
    assert {order.train.train.epochs for order in sweep_orders} == {3, 5}
    assert summary.config.train.train.planned_epochs == 3


def test_a_warm_up_that_a_sweep_has_recorded_stays(
    copied_sweep: Path, sweep_orders: list[Order]
) -> None:
    """As in the sweeps of version 0.1."""
    summary = sweep(copied_sweep, changed(train={"lam_warmup_steps": None}))
    assert [run(order) for order in sweep_orders] == [FAILED]
    train = summary.config.train.train
    assert (train.lam_warmup_steps, train.planned_epochs) == (50, None)


@pytest.mark.parametrize(
    ("config", "difference"),
    [
        (changed(model={"latent_dim": 3}), "train.model.latent_dim: 2 here, 3 given"),
        (changed(train={"epochs": 2}), "train.train.epochs: 3 here, 2 given"),
        (changed(evaluate={"num_examples": None}), "evaluate.num_examples: 20 here, null given"),
        (changed(classify={"labels": (20,)}), "classify.labels: [20, 30] here, [20] given"),
        (changed(grid={"classify": None}), "classify: null given"),
    ],
)
def test_other_settings_are_refused_with_the_difference(
    config: SweepConfig, difference: str, copied_sweep: Path, sweep_orders: list[Order]
) -> None:
    before = (copied_sweep / "sweep.json").read_bytes()
    with pytest.raises(SMVIError, match="holds a sweep with other settings") as caught:
        sweep(copied_sweep, config)
    assert difference.partition(":")[0] in str(caught.value)
    assert difference.rpartition(": ")[2] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ("redo" in str(caught.value)) == ("train." not in difference)
    assert sweep_orders == []
    assert (copied_sweep / "sweep.json").read_bytes() == before


def test_redo_repeats_evaluations_and_classifications(
    whole_sweep: WholeSweep, copied_sweep: Path, sweep_orders: list[Order]
) -> None:
    summary = sweep(copied_sweep, changed(evaluate={"num_examples": 10}), redo=True)
    assert [order.stages for order in sweep_orders[:2]] == [("evaluate",)] * 2
    before, after = (entries(each)[DONE[0]] for each in (whole_sweep.summary, summary))
    assert (after.evaluation, after.seconds["evaluate"]) == (None, 0.0)
    assert after.classification == before.classification
    assert after.seconds["classify"] == before.seconds["classify"] > 0.0
    with pytest.raises(SMVIError, match="holds a sweep with other settings"):
        sweep(copied_sweep, changed(train={"learning_rate": 0.1}), redo=True)


def test_epochs_are_classified_where_their_checkpoints_are(
    copied_sweep: Path, sweep_orders: list[Order]
) -> None:
    """The second epoch was kept, the first was not."""
    with pytest.raises(SMVIError) as caught:
        sweep(copied_sweep, changed(grid={"classify_every": 1}))
    assert (caught.value.field, caught.value.value) == ("classify_every", 1)
    assert "asks for epoch 1" in str(caught.value)
    summary = sweep(copied_sweep, changed(grid={"classify_every": None}))
    assert [run(order) for order in sweep_orders] == [FAILED]
    assert entries(summary)[DONE[0]].classification_by_epoch == {}
    summary = sweep(copied_sweep, CONFIG)
    assert [*entries(summary)[DONE[0]].classification_by_epoch] == [2]


def test_more_epochs_can_be_taken_back_until_they_are_trained(
    whole_sweep: WholeSweep, copied_sweep: Path, sweep_orders: list[Order]
) -> None:
    """As after a slip: what was done is there again."""
    sweep(copied_sweep, changed(train={"epochs": 5000}))
    sweep_orders.clear()
    summary = sweep(copied_sweep, CONFIG)
    assert [run(order) for order in sweep_orders] == [FAILED]
    for name in DONE:
        assert without_seconds(entries(summary)[name]) == without_seconds(
            entries(whole_sweep.summary)[name]
        )
    # A step into the fourth epoch.
    checkpoints = copied_sweep / DONE[0] / "checkpoints"
    shutil.copy(checkpoints / "step-0000000132.npz", checkpoints / "step-0000000133.npz")
    with pytest.raises(SMVIError, match=r"train.train.epochs: 4 here, 3 given"):
        sweep(copied_sweep, CONFIG)


def test_settings_that_no_result_depends_on_yet_may_change(
    copied_sweep: Path, sweep_orders: list[Order]
) -> None:
    """Such as --labels that the data have not enough of, which shows when the training is done."""
    for name in DONE:
        for path in (copied_sweep / name).glob("classification*.json"):
            path.unlink()
    sweep(copied_sweep, CONFIG)
    sweep_orders.clear()
    summary = sweep(copied_sweep, changed(classify={"labels": (40,)}))
    assert [order.stages for order in sweep_orders[:2]] == [("classify",)] * 2
    assert summary.config.classify == changed(classify={"labels": (40,)}).classify


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', '{"format": 1, "runs": [{}]}'])
def test_a_damaged_summary_is_written_again_from_the_runs(
    text: str, whole_sweep: WholeSweep, copied_sweep: Path, sweep_orders: list[Order]
) -> None:
    (copied_sweep / "sweep.json").write_text(text)
    reporter = Recorder()
    sweep(copied_sweep, CONFIG, reporter=reporter)
    (warning, *_) = reporter.messages
    assert "sweep.json is damaged" in warning
    for name in DONE:
        assert without_seconds(entries(read_summary(copied_sweep))[name]) == without_seconds(
            entries(whole_sweep.summary)[name]
        )
