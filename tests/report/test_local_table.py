"""The table of the two halves of the gap."""

import dataclasses
from pathlib import Path

import pytest

from tests.support import sweeps
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.evaluation.local_results import FamilySummary, LocalSummary, RestartSummary
from tfp_smvi.report.latex import latex_tables
from tfp_smvi.report.local_table import local_table
from tfp_smvi.report.page import render_report
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.results import Summary, Sweep, read_sweep

FAMILY = FamilySummary(
    elbo=Estimate(-90.0, 0.5),
    amortization_gap=Estimate(1.25, 0.03),
    approximation_gap=Estimate(1.5, 0.04),
    divergence=Estimate(20.0, 1.0),
    share_not_converged=0.02,
    mean_steps=240.0,
)
LOCAL = LocalSummary(
    {"diagonal": FAMILY, "full": FAMILY}, RestartSummary(48, 3, 1, Estimate(0.01, 0.02))
)


def with_halves(entry: Entry) -> Entry:
    evaluation = entry.evaluation
    assert evaluation is not None
    splits = {
        name: dataclasses.replace(summary, local=LOCAL)
        for name, summary in evaluation.splits.items()
    }
    return dataclasses.replace(entry, evaluation=dataclasses.replace(evaluation, splits=splits))


def changed(sweep: Sweep) -> Sweep:
    """The same sweep, of which the last run was evaluated with --local; through its JSON."""
    *others, last = sweep.summary.runs
    summary = dataclasses.replace(sweep.summary, runs=(*others, with_halves(last)))
    return sweep._replace(summary=Summary.from_json(summary.to_json()))


@pytest.mark.usefixtures("no_figures")
def test_runs_that_have_the_halves_are_in_the_table(tmp_path: Path) -> None:
    sweeps.write_sweep(tmp_path, (0.0, 0.5), classify=False, epochs=(), galleries=False)
    sweep = read_sweep(tmp_path)
    assert local_table(sweep) is None
    assert "table-local" not in render_report(sweep)
    sweep = changed(sweep)
    table = local_table(sweep)
    assert table is not None
    assert {row[0] for row in table.rows} == {"0.5"}
    cells = ["\N{MINUS SIGN}90.00 ± 0.50", "1.250 ± 0.030", "1.500 ± 0.040", "2 %"]
    assert table.rows[0][1:] == ["0", "train", "diagonal", *cells, "3 of 48"]
    assert table.rows[1][3:] == ["full", *cells, ""]
    assert all(len(row) == len(table.header) for row in table.rows)
    assert "local" in latex_tables(sweep)
    assert 'id="table-local"' in render_report(sweep)
