"""A sweep that is left alone does what its three commands do, once for each lam and seed."""

import contextlib
import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.small_sweep import (
    CONFIG,
    DONE,
    EPOCHS,
    FAILED,
    WholeSweep,
    changed,
    entries,
    read,
)
from tfp_smvi.classification.results import ENCODER, report_name
from tfp_smvi.config import SweepConfig
from tfp_smvi.core.errors import name_fields
from tfp_smvi.engines.base import Event
from tfp_smvi.runs.loading import load_run
from tfp_smvi.sweeps.entries import Entry, run_name
from tfp_smvi.sweeps.orders import Order, SweepEvent, Warned, read_event
from tfp_smvi.sweeps.results import Summary
from tfp_smvi.sweeps.running import train_run
from tfp_smvi.sweeps.stages import refresh


class Context:
    """A context of a task that keeps its events."""

    def __init__(self) -> None:
        self.events: list[SweepEvent] = []

    def emit(self, kind: str, **values: object) -> None:
        self.events.append(read_event(Event("run", kind, values)))

    def handling_signals(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_every_run_is_trained_evaluated_and_classified(whole_sweep: WholeSweep) -> None:
    for name, lam in zip(DONE, (0.0, 0.5), strict=True):
        entry = entries(whole_sweep.summary)[name]
        assert (entry.lam, entry.seed, entry.status, entry.error) == (lam, 0, "done", None)
        run = load_run(whole_sweep.path / name)
        assert (run.config.train.lam, run.config.train.seed) == (lam, 0)
        assert entry.to_json()["history"] == [record.to_json() for record in run.history]
        assert len(run.history) == EPOCHS
        assert entry.evaluation is not None
        assert entry.evaluation.to_json() == read_json(whole_sweep.path / name / "evaluation.json")
        assert [*entry.evaluation.splits] == ["train", "test"]
        assert entry.classification is not None
        report = read_json(whole_sweep.path / name / report_name(None))
        assert entry.classification.to_json() == report
        assert entry.classification.epoch == EPOCHS
        assert [*entry.classification_by_epoch] == [2]
        assert entry.classification_by_epoch[2].epoch == 2
        assert all(seconds > 0.0 for seconds in entry.seconds.values())


def test_a_run_that_diverges_fails_alone_and_with_its_reason(whole_sweep: WholeSweep) -> None:
    entry = entries(whole_sweep.summary)[FAILED]
    assert entry.status == "failed"
    assert str(entry.error).startswith(
        "train: the objective or its gradient is not finite at step "
    )
    assert (entry.evaluation, entry.classification, entry.history) == (None, None, ())


def test_the_summary_on_disk_is_the_one_returned_and_says_what_was_asked_for(
    whole_sweep: WholeSweep,
) -> None:
    written = read(whole_sweep.path)
    assert written == whole_sweep.summary.to_json()
    assert Summary.from_json(written).to_json() == written
    assert written["format"] == 1
    assert written["command"] == ["some", "words"]
    assert written["config"] == CONFIG.settings()
    assert (written["lams"], written["seeds"]) == ([0.0, 0.5, 1e38], [0])
    assert SweepConfig.from_summary(written) == whole_sweep.summary.config == CONFIG
    recorded = read_json(whole_sweep.path / DONE[0] / "config.json")
    assert written["environment"] == {name: recorded[name] for name in ("versions", "machine")}


def test_the_reporter_receives_every_stage_in_its_order(whole_sweep: WholeSweep) -> None:
    for name in DONE:
        assert [s for run, s in whole_sweep.reporter.stages if run == name] == [
            "train",
            "evaluate",
            "classify",
        ]
        statuses = [status for run, status in whole_sweep.reporter.updates if run == name]
        assert statuses == ["running"] * 3 + ["done"]
        evaluation = entries(whole_sweep.summary)[name].evaluation
        assert evaluation is not None
        assert evaluation.warnings  # of a few chains and temperatures
        messages = [name_fields(message) for message in whole_sweep.reporter.messages]
        for warning in evaluation.warnings:
            assert f"{name}: {warning}" in messages
    assert whole_sweep.reporter.asked == [*DONE, FAILED]
    assert 0.0 <= min(whole_sweep.reporter.fractions) <= max(whole_sweep.reporter.fractions) <= 1.0


def test_the_table_has_the_numbers_of_the_summary(whole_sweep: WholeSweep) -> None:
    with (whole_sweep.path / "sweep.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    written = {entry["run_dir"]: entry for entry in read(whole_sweep.path)["runs"]}
    # Each result of the two runs with both splits, and one row of the failed run.
    assert len(rows) == 2 * 2 * len(written[DONE[0]]["classification"]["results"]) + 1
    for row in rows:
        entry = written[run_name(float(row["lam"]), int(row["seed"]))]
        assert row["status"] == entry["status"]
        if entry["status"] == "failed":
            assert not any(
                value for name, value in row.items() if name not in ("lam", "seed", "status")
            )
            continue
        split = entry["evaluation"]["splits"][row["split"]]
        for name in ("elbo", "log_likelihood", "gap", "divergence"):
            assert float(row[name]) == split[name]["mean"]
            assert float(row[f"{name}_standard_error"]) == split[name]["standard_error"]
        assert float(row["lam_reached"]) == entry["lam_reached"] == float(row["lam"])
        assert float(row["bracket"]) == entry["evaluation"]["bracket"]["width"]["mean"]
        assert float(row["acceptance_rate"]) == split["acceptance_rate"]["mean"]
        assert float(row["effective_sample_size"]) == split["effective_sample_size"]["mean"]
        assert int(row["active_units"]) == split["active_units"]
        (result,) = [
            result
            for result in entry["classification"]["results"]
            if (result["features"], result["kernel"], str(result["num_labels"]))
            == (row["features"], row["kernel"], row["num_labels"])
        ]
        assert float(row["accuracy"]) == result["mean"]
        assert float(row["accuracy_standard_error"]) == result["standard_error"]
    assert len(
        {(row["lam"], row["split"], row["features"], row["num_labels"]) for row in rows}
    ) == len(rows)


def test_the_baselines_are_measured_once_for_all_runs(whole_sweep: WholeSweep) -> None:
    reports = [entries(whole_sweep.summary)[name].classification for name in DONE]
    by_run = [
        [result for result in report.results if result.features != ENCODER]
        for report in reports
        if report
    ]
    assert by_run[0] == by_run[1]
    assert len([*(whole_sweep.path / "baselines").glob("*.json")]) == len(by_run[0])
    assert not (whole_sweep.path / DONE[0] / "baselines").exists()


def test_the_gallery_has_pictures_of_the_trained_model(whole_sweep: WholeSweep) -> None:
    with np.load(whole_sweep.path / DONE[1] / "gallery.npz", allow_pickle=False) as gallery:
        arrays = {name: gallery[name] for name in gallery.files}
    run = load_run(whole_sweep.path / DONE[1])
    for name in ("originals", "reconstructions", "samples"):
        assert (arrays[name].shape, arrays[name].dtype) == ((24, 8, 8, 1), np.uint8)
    assert {*np.unique(arrays["originals"])} == {0, 255}
    originals = (arrays["originals"] / 255.0).astype(np.float32)
    means = run.model.decode(run.model.encode(originals).mean()).mean().numpy()
    # Half a step of uint8, and the rounding of float32.
    np.testing.assert_allclose(arrays["reconstructions"] / 255.0, means, atol=0.5 / 255 + 1e-6)
    assert (arrays["means"].shape, arrays["means"].dtype) == ((360, 2), np.float32)
    assert (arrays["labels"].shape, arrays["step"]) == ((360,), run.step)


def test_a_lam_that_has_not_grown_is_a_warning(tmp_path: Path) -> None:
    """Runs that end within the warm-up differ by little, whatever their lams."""
    config = changed(train={"epochs": 1, "lam_warmup_steps": 5000})
    order = Order(
        run_dir=str(tmp_path / "lam0.5-seed0"),
        stages=("train",),
        train=config.run(0.5, 0),
        evaluate=CONFIG.evaluate,
        classify=None,
        classify_epochs=(),
        data_dir=None,
        threads=None,
        checkpoint_minutes=10.0,
        keep_every=None,
    )
    context = Context()
    train_run(order, context)
    (message,) = [event.message for event in context.events if isinstance(event, Warned)]
    assert message.startswith("lam grows to 3.9e-05 of 0.5 only")
    entry, left = refresh(Entry(0.5, 0, "lam0.5-seed0"), tmp_path, config)
    assert left == ["evaluate", "classify"]
    assert entry.warnings == (name_fields(message),)
    assert "raise epochs to 114 or" in entry.warnings[0]  # of 44 steps each
    assert entry.lam_reached == entry.history[-1].lam == 0.5 * (44 / 5000) ** 2


def test_no_two_lams_share_a_directory() -> None:
    lams = (0.0, 0.1, 0.1 + 2**-50, 1.0, 10.0, 1e-5, 1e5, 1e16, -1.0, math.inf)
    assert len({run_name(lam, 0) for lam in lams}) == len(lams)
    assert [run_name(lam, 1) for lam in (0.0, 0.001, 10.0)] == [
        "lam0-seed1",
        "lam0.001-seed1",
        "lam10-seed1",
    ]
