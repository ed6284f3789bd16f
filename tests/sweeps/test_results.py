"""What a notebook shows of a sweep and of its evaluations."""

import csv
import dataclasses
import math
from pathlib import Path

from tests.support.sweeps import write_sweep
from tfp_smvi.sweeps.results import read_sweep, write_summary
from tfp_smvi.sweeps.table import rows_of


def test_a_sweep_and_its_evaluations_are_short_in_a_notebook(tmp_path: Path) -> None:
    write_sweep(tmp_path, (0.0, 0.5, 2.0), states={(2.0, 0): "failed"}, galleries=False)
    sweep = read_sweep(tmp_path)
    assert repr(sweep) == f"Sweep({tmp_path}: 2 of 3 runs done, lam 0 to 2)"
    evaluation = sweep.runs[0].evaluation
    assert evaluation is not None
    summary = evaluation.splits["test"]
    assert f"test: {summary.num_examples} examples, ELBO {summary.elbo}" in repr(evaluation)
    assert len(repr(evaluation)) < 400
    for html in (sweep._repr_html_(), evaluation._repr_html_()):
        assert str(summary.gap) in html
    assert "<td colspan" in sweep._repr_html_()  # the run that failed


def test_the_rows_of_a_sweep_are_those_of_its_file(tmp_path: Path) -> None:
    write_sweep(tmp_path, (0.0, 0.5), galleries=False)
    sweep = read_sweep(tmp_path)
    write_summary(tmp_path, sweep.summary)
    with (tmp_path / "sweep.csv").open(newline="") as file:
        written = [*csv.DictReader(file)]
    rows = sweep.rows()
    assert [
        {name: "" if cell is None else str(cell) for name, cell in row.items()} for row in rows
    ] == written


def test_rows_say_the_units_of_standardized_data(tmp_path: Path) -> None:
    write_sweep(tmp_path, (0.5,), galleries=False)
    entry = read_sweep(tmp_path).runs[0]
    assert entry.evaluation is not None
    scales = {"test": 1.5, "train": 2.5}
    entry = entry.changed(evaluation=dataclasses.replace(entry.evaluation, log_scale=scales))
    for row in rows_of(entry):
        assert row["log_scale"] == scales[str(row["split"])]


def test_the_rows_of_an_evaluation_have_each_estimate_once(tmp_path: Path) -> None:
    write_sweep(tmp_path, (0.5,), galleries=False)
    evaluation = read_sweep(tmp_path).runs[0].evaluation
    assert evaluation is not None
    rows = {(row["split"], row["quantity"]): row for row in evaluation.rows()}
    assert len(rows) == len(evaluation.rows())
    gap = evaluation.splits["test"].gap
    assert gap is not None
    row = rows["test", "gap"]
    assert (row["mean"], row["standard_error"], row["unit"]) == (
        gap.mean,
        gap.standard_error,
        "nats",
    )
    assert rows["simulated", "bracket"]["mean"] == evaluation.bracket.width.mean
    assert not any(math.isnan(float(row["mean"])) for row in rows.values())
