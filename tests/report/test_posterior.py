"""What the report shows of the posterior: moments, tails and the worst examples."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from tests.support import sweeps
from tfp_smvi.core.estimates import Estimate
from tfp_smvi.evaluation.diagnostics import (
    ExampleSummary,
    LatentMoments,
    MomentSummary,
    TailSummary,
)
from tfp_smvi.evaluation.results import SplitSummary
from tfp_smvi.report import figures
from tfp_smvi.report.figures import missing_figures
from tfp_smvi.report.latex import latex_tables
from tfp_smvi.report.layout import NARROW
from tfp_smvi.report.moments_figure import draw_moments
from tfp_smvi.report.page import render_report
from tfp_smvi.report.posterior_table import posterior_table
from tfp_smvi.report.worst_examples import draw_worst, worst_table
from tfp_smvi.storage.arrays import write_arrays
from tfp_smvi.sweeps.entries import Entry
from tfp_smvi.sweeps.results import Summary, Sweep, read_sweep

MOMENTS = MomentSummary(
    Estimate(0.04, 0.004),
    Estimate(0.9, 0.01),
    (
        LatentMoments(2, Estimate(0.09, 0.01), Estimate(1.02, 0.01)),
        LatentMoments(5, Estimate(-0.01, 0.01), Estimate(0.8, 0.02)),
    ),
)
TAILS = TailSummary(0.7, 0.2, 0.1, 0.0, 0.67, 0.12)
WORST = tuple(
    ExampleSummary(index, gap, -100.0, -100.0 + gap, 30.0, 4.0, k)
    for index, gap, k in ((17, 12.34, 1.21), (3, 9.0, math.inf), (40, 8.0, math.nan))
)


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Two runs, of which the second one has moments, tails and pictures; through its JSON."""
    sweeps.write_sweep(tmp_path, (0.0, 0.5), classify=False, epochs=(), galleries=False)
    found = read_sweep(tmp_path)
    first, last = found.summary.runs
    bare = {"worst": None, "moments": None, "tails": None}
    runs = (with_splits(first, **bare), with_splits(last, moments=MOMENTS, tails=TAILS))
    runs = (runs[0], with_splits(runs[1], worst=WORST))
    summary = dataclasses.replace(found.summary, runs=runs)
    run_dir = found.run_path(last)
    run_dir.mkdir(exist_ok=True)
    images = np.linspace(0, 255, 3 * 4 * 5).astype(np.uint8).reshape(3, 4, 5, 1)
    names = ("test_worst_originals", "test_worst_reconstructions")
    write_arrays(run_dir / "evaluation.npz", dict(zip(names, (images, 255 - images), strict=True)))
    return found._replace(summary=Summary.from_json(summary.to_json()))


def with_splits(entry: Entry, **changes: object) -> Entry:
    evaluation = entry.evaluation
    assert evaluation is not None
    splits: dict[str, SplitSummary] = {
        name: dataclasses.replace(summary, **changes)  # type: ignore[arg-type]
        for name, summary in evaluation.splits.items()
    }
    return dataclasses.replace(entry, evaluation=dataclasses.replace(evaluation, splits=splits))


def test_the_table_of_the_posterior_has_the_runs_that_have_moments(sweep: Sweep) -> None:
    table = posterior_table(sweep)
    assert table is not None
    cells = ["0.200 ± 0.010", "0.900 ± 0.010", "0.80", "1.02", "70 %", "20 %", "10 %"]
    assert table.rows == [["0.5", "0", "train", *cells], ["0.5", "0", "test", *cells]]
    assert len(table.header) == len(table.rows[0])
    assert "posterior" in latex_tables(sweep)


def test_the_table_of_the_worst_examples_has_those_of_the_test_data(sweep: Sweep) -> None:
    table = worst_table(sweep)
    assert table is not None
    assert [row[:5] for row in table.rows] == [
        ["0.5", "0", "test", "17", "12.34"],
        ["0.5", "0", "test", "3", "9.00"],
        ["0.5", "0", "test", "40", "8.00"],
    ]
    assert [row[-1] for row in table.rows] == ["1.21", "∞", "\N{EN DASH}"]
    assert len(table.header) == len(table.rows[0])


def test_the_figure_of_the_moments_has_each_latent_in_order(sweep: Sweep) -> None:
    for axes, expected in zip(draw_moments(sweep).axes, ([0.8, 1.02], [0.0, 0.3]), strict=True):
        drawn = [line.get_ydata() for line in axes.lines]
        assert any(np.allclose(y, expected) for y in drawn if len(y) == 2)


def test_the_figure_of_the_worst_examples_has_their_pictures_and_gaps(sweep: Sweep) -> None:
    for layout in (NARROW,):
        (axes,) = draw_worst(sweep, layout).axes
        names = [label.get_text() for label in axes.get_xticklabels()]
        assert names == ["no. 17\n12.3 nats", "no. 3\n9.0 nats", "no. 40\n8.0 nats"]
        (image,) = axes.images
        shown = np.asarray(image.get_array())
        # Three pictures in each of two rows, with a white line after each.
        assert shown.shape == (2 * 5, 3 * 6)
        np.testing.assert_allclose(shown[:4, :5] + shown[5:9, :5], 1.0, atol=1e-6)


def test_the_page_has_what_the_runs_have(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {name: figures.FIGURES[name] for name in ("moments", "worst")}
    monkeypatch.setattr(figures, "FIGURES", chosen)
    page = render_report(sweep)
    for name in ("table-posterior", "table-worst", "figure-moments", "figure-worst"):
        assert f'id="{name}"' in page
    (sweep.run_path(sweep.runs[1]) / "evaluation.npz").write_bytes(b"damaged")
    assert "worst" in missing_figures(sweep)
    none = [with_splits(run, moments=None, tails=None, worst=None) for run in sweep.runs]
    bare = sweep._replace(summary=dataclasses.replace(sweep.summary, runs=tuple(none)))
    assert posterior_table(bare) is None
    assert worst_table(bare) is None
    assert {"moments", "worst"} <= {*missing_figures(bare)}
