"""The figures of a sweep: what is drawn is the data, and what cannot be drawn is said."""

import itertools
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image

from tests.support import runs, sweeps
from tests.support.errors import refused
from tfp_smvi.report import curves as curve_figures
from tfp_smvi.report import figures
from tfp_smvi.report import images as picture_figures
from tfp_smvi.report import points as figure_data
from tfp_smvi.report.axes import LamAxis, scale_of
from tfp_smvi.report.captions import describe_bars
from tfp_smvi.report.differences import differences_to_lam_0
from tfp_smvi.report.figure_kinds import FIGURES
from tfp_smvi.report.figures import missing_figures, plot_sweep
from tfp_smvi.report.frontier_figure import draw_frontier
from tfp_smvi.report.latex import latex_tables
from tfp_smvi.report.layout import NARROW, WIDE, Layout, make_layout, styled
from tfp_smvi.report.marks import GROWING
from tfp_smvi.report.points import Point, lam_name
from tfp_smvi.report.style import GREY
from tfp_smvi.report.training_figure import draw_training
from tfp_smvi.sweeps.results import read_sweep

LAMS = (-0.1, 0.0, 0.01, 1.0, math.inf)


def drawn_points(figure: Figure) -> set[tuple[float, float]]:
    """The places of the markers of error bars."""
    return {
        (float(x), float(y))
        for axes in figure.axes
        for container in axes.containers
        for x, y in container[0].get_xydata()
    }


@pytest.mark.parametrize(
    ("draw", "values"),
    [
        (curve_figures.draw_accuracy, lambda sweep: figure_data.accuracies(sweep, "linear", 3000)),
        (
            curve_figures.draw_likelihood,
            lambda sweep: figure_data.estimates(sweep, "train", "log_likelihood"),
        ),
        (curve_figures.draw_differences, lambda sweep: differences_to_lam_0(sweep, "rbf", 600)),
    ],
)
def test_what_is_drawn_is_the_data(
    draw: Callable[..., Figure], values: Callable[..., Any], tmp_path: Path
) -> None:
    sweeps.write_sweep(tmp_path, LAMS)
    sweep = read_sweep(tmp_path)
    heights = {y for _, y in drawn_points(draw(sweep))}
    expected = {point.mean for point in values(sweep)}
    assert len(expected) == len(LAMS)
    assert expected <= heights


def test_the_frontier_is_each_value_at_its_gap(tmp_path: Path) -> None:
    """With the name of its lam; (a) has log p(x) and the ELBO, (b) the accuracies."""
    sweeps.write_sweep(tmp_path, LAMS)
    sweep = read_sweep(tmp_path)
    figure = draw_frontier(sweep)
    gaps = {point.x: point.mean for point in figure_data.estimates(sweep, "test", "gap")}
    assert len(gaps) == len(LAMS)
    for axes, curves in zip(
        figure.axes,
        (
            [figure_data.estimates(sweep, "test", name) for name in ("log_likelihood", "elbo")],
            [figure_data.accuracies(sweep, "rbf", number) for number in (600, 1000, 3000)],
        ),
        strict=True,
    ):
        lines = [container[0].get_xydata() for container in axes.containers]
        drawn = {(float(x), float(y)) for line in lines for x, y in line}
        assert drawn == {(gaps[point.x], point.mean) for curve in curves for point in curve}
    names = {text.get_text(): text.xy[0] for text in figure.axes[0].texts}
    assert names == {lam_name(sweep, lam): gap for lam, gap in gaps.items()}


def test_latents_of_vectors_are_drawn(tmp_path: Path) -> None:
    """They have no pictures, but encoder means as images have."""
    sweeps.write_sweep(tmp_path, (0.0,), latent_dim=2)
    path = tmp_path / "lam0-seed0" / "gallery.npz"
    with np.load(path) as arrays:
        gallery = dict(arrays)
    for name in ("originals", "reconstructions", "samples"):
        gallery[name] = np.linspace(-1.0, 3.0, 24 * 5).reshape(24, 5)
    np.savez(path, **gallery)
    sweep = read_sweep(tmp_path)
    assert FIGURES["latents"].has_data(sweep)
    assert not FIGURES["samples"].has_data(sweep)
    assert picture_figures.draw_latents(sweep) is not None


def test_names_of_classes_that_are_close_can_be_read(tmp_path: Path) -> None:
    """A large lam draws the means together; all of them here but one have one median."""
    sweeps.write_sweep(tmp_path, (0.0,), latent_dim=2)
    path = tmp_path / "lam0-seed0" / "gallery.npz"
    with np.load(path) as arrays:
        gallery = dict(arrays)
    labels = gallery["labels"]
    gallery["means"] = np.where(labels == 0, 3.0, 0.0)[:, None] + np.zeros((1, 2))
    np.savez(path, **gallery)
    figure = picture_figures.draw_latents(read_sweep(tmp_path))
    assert figure is not None
    figure.draw_without_rendering()
    names = {text.get_text(): text for text in figure.axes[0].texts}
    assert sorted(names) == [str(digit) for digit in range(10)]
    for one, other in itertools.combinations(names.values(), 2):
        assert not one.get_window_extent().overlaps(other.get_window_extent())
    assert names["0"].get_position() == (3.0, 3.0)  # alone there, it stays


def test_equal_accuracies_have_an_axis_of_percentage_points(tmp_path: Path) -> None:
    """Differences of 1e-17, as rounding leaves them, would else fill the axis."""
    written = sweeps.write_sweep(tmp_path, (0.0, 1.0))
    zero, one = (sweeps.find_run(written, lam)["classification"]["results"] for lam in (0.0, 1.0))
    for result, other in zip(one, zero, strict=True):
        result["values"] = [value + 1e-16 for value in other["values"]]
    (tmp_path / "sweep.json").write_text(json.dumps(written))
    figure = curve_figures.draw_differences(read_sweep(tmp_path))
    assert figure is not None
    low, high = figure.axes[0].get_ylim()
    assert low <= -0.001
    assert high >= 0.001


def test_classified_epochs_have_their_ticks(tmp_path: Path) -> None:
    sweeps.write_sweep(tmp_path, (0.0, 1.0), epochs=(25, 50, 75))
    figure = curve_figures.draw_accuracy_by_epoch(read_sweep(tmp_path))
    assert figure is not None
    for axes in figure.axes:
        assert axes.get_xticks().tolist() == [25, 50, 75, 100]


def test_points_of_a_lam_that_was_not_reached_are_hollow(tmp_path: Path) -> None:
    """At lam = 1 the weight stops at 0.5, after 50 of 100 epochs; 0 and inf are reached."""
    written = sweeps.write_sweep(tmp_path, (0.0, 0.1, 1.0, math.inf))
    for record in sweeps.find_run(written, 1.0)["history"]:
        record["lam"] = min(0.01 * record["epoch"], 0.5)
    for record in sweeps.find_run(written, 0.1)["history"]:
        record["lam"] = min(0.002 * record["epoch"], 0.1)
    (tmp_path / "sweep.json").write_text(json.dumps(written))
    sweep = read_sweep(tmp_path)
    for draw in (curve_figures.draw_likelihood, curve_figures.draw_accuracy):
        axes = draw(sweep).axes[0]
        x = {round(float(v), 1) for line in hollow_lines(axes) for v in line.get_xdata()}
        assert x == {round(LamAxis((0.0, 0.1, 1.0, math.inf)).place(1.0), 1)}
    axes = curve_figures.draw_accuracy_by_epoch(sweep).axes[0]
    epochs = [line.get_xdata().tolist() for line in hollow_lines(axes) if len(line.get_xdata())]
    assert epochs == [[25], [25, 50, 75, 100]]
    for axes in draw_training(sweep).axes:
        last = [max(line.get_xdata()) for line in hollow_lines(axes) if len(line.get_xdata())]
        assert last == [49, 97]  # of every twelfth epoch
    names = [text.get_text() for text in draw_training(sweep).legends[0].get_texts()]
    assert names.count(GROWING) == 1


def hollow_lines(axes: Axes) -> list[Line2D]:
    """The lines with hollow markers, without that of the legend and the levels of baselines."""
    return [
        line
        for line in axes.lines
        if line.get_markerfacecolor() == "white"
        and line.get_color() != GREY
        and line.get_zorder() < 5
    ]


def test_axis_has_a_place_for_every_lam_in_order() -> None:
    lams = [-10.0, -0.1, 0.0, 0.001, 0.1, 10.0, math.inf]
    axis = LamAxis(reversed(lams))
    places = [axis.place(lam) for lam in lams]
    assert places == sorted(set(places))
    assert axis.left < places[0]
    assert places[-1] < axis.right
    # Logarithmic between 0.001 and 10, and from -10 to -0.1.
    assert places[4] - places[3] == pytest.approx(2.0)
    assert places[5] - places[4] == pytest.approx(2.0)
    assert places[1] - places[0] == pytest.approx(2.0)
    assert np.digitize(places, axis.breaks).tolist() == [0, 0, 1, 2, 2, 2, 3]


@pytest.mark.parametrize("lam", [-1.0, 0.0, 0.5, math.inf])
def test_axis_of_one_lam_has_no_break(lam: float) -> None:
    axis = LamAxis([lam])
    assert axis.breaks == []
    assert axis.left < axis.place(lam) < axis.right


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([(5.0, 0.1), (2.0, 0.1)], ("linear", {})),
        ([(5.0, 0.1), (0.05, 0.01)], ("log", {})),
        ([(5.0, 0.1), (0.02, 0.03), (-0.01, 0.02)], ("symlog", {"linthresh": 0.1})),
        ([(5.0, 0.1), (-2.0, 0.1)], ("linear", {})),
        ([(0.0, 0.0)], ("linear", {})),
        ([(500.0, 0.0), (3.0, 0.0), (0.0, 0.0)], ("symlog", {"linthresh": 10.0})),
        ([], ("linear", {})),
    ],
)
def test_values_over_orders_of_magnitude_are_logarithmic(
    values: list[tuple[float, float]], scale: Any
) -> None:
    points = [Point(0.0, mean, mean - bar, mean + bar, 1) for mean, bar in values]
    assert scale_of(points) == scale


def test_a_bracket_that_reaches_zero_leaves_the_gaps_their_logarithmic_axis(tmp_path: Path) -> None:
    """Gaps of 4 and 0.04, which nobody could read beside each other on a linear axis."""
    written = sweeps.write_sweep(tmp_path, (0.0, 1.0))
    for lam, gap in ((0.0, 4.0), (1.0, 0.04)):
        evaluation = sweeps.find_run(written, lam)["evaluation"]
        for split in evaluation["splits"].values():
            split["gap"] |= {"mean": gap, "standard_error": 0.1 * gap}
        evaluation["bracket"]["width"] |= {"mean": 0.1, "standard_error": 0.2}
    (tmp_path / "sweep.json").write_text(json.dumps(written))
    figure = curve_figures.draw_likelihood(read_sweep(tmp_path))
    assert figure is not None
    assert [axes.get_yscale() for axes in figure.get_axes()] == ["log", "linear"]


@pytest.mark.parametrize(("cost", "marked"), [(0.05, True), (0.005, False)])
def test_the_change_from_linear_to_logarithmic_is_marked(
    cost: float, marked: bool, tmp_path: Path
) -> None:
    """Differences of some points beside small ones have both scales, and each panel says where."""
    written = sweeps.write_sweep(tmp_path, (0.0, 1.0), galleries=False)
    for result in sweeps.find_run(written, 1.0)["classification"]["results"]:
        zero = sweeps.find_result(
            sweeps.find_run(written, 0.0),
            *(result[name] for name in ("features", "kernel", "num_labels")),
        )
        result["values"] = [value - cost for value in zero["values"]]
    (tmp_path / "sweep.json").write_text(json.dumps(written))
    figure = curve_figures.draw_differences(read_sweep(tmp_path))
    assert {axes.get_yscale() for axes in figure.axes} == {"symlog" if marked else "linear"}
    for axes in figure.axes:
        heights = {float(line.get_ydata()[0]) for line in axes.lines if len(line.get_ydata())}
        assert ({curve_figures.NEAR, -curve_figures.NEAR} <= heights) == marked
    words = {text.get_text() for text in figure.axes[-1].texts}
    assert ("linear" in words, "log" in words) == (marked, marked)
    if marked:
        stacked = curve_figures.draw_differences(read_sweep(tmp_path), NARROW).axes
        assert all("linear" in {text.get_text() for text in axes.texts} for axes in stacked)


@pytest.mark.parametrize("layout", [NARROW, WIDE])
@pytest.mark.parametrize(
    ("draw", "rows"),
    [
        (curve_figures.draw_accuracy, 1),
        (curve_figures.draw_differences, 1),
        (curve_figures.draw_accuracy_by_epoch, 2),
    ],
)
def test_panels_of_a_row_share_their_range(
    draw: Callable[..., Figure], rows: int, layout: Layout, tmp_path: Path
) -> None:
    """In one column they are one below the other, and share it still."""
    sweeps.write_sweep(tmp_path, (0.0, 1.0), galleries=False)
    figure = draw(read_sweep(tmp_path), layout)
    panels = np.array(figure.axes, object).reshape(rows, -1)
    for row in panels:
        assert len({axes.get_ylim() for axes in row}) == 1
    tops = {round(axes.get_position().y0, 6) for axes in figure.axes}
    assert len(tops) == (panels.size if layout.stacked else rows)


@pytest.mark.parametrize(
    ("seeds", "degrees"), [((1, 2), "1 degree of"), ((1, 2, 3), "2 degrees of")]
)
def test_caption_counts_the_degrees_of_freedom(
    seeds: Sequence[int], degrees: str, tmp_path: Path
) -> None:
    sweeps.write_sweep(tmp_path, (0.0, 1.0), seeds, galleries=False)
    assert f"at most {degrees} freedom" in describe_bars(read_sweep(tmp_path), "differences")


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_in_one_column_fits_on_a_page(name: str, tmp_path: Path) -> None:
    """A page of letter paper with margins of an inch has 9 inches; two kernels take six panels."""
    sweeps.write_sweep(tmp_path, sweeps.LAMS, latent_dim=2, calibrations=name == "calibration")
    figure = FIGURES[name].draw(read_sweep(tmp_path), Layout("paper", 1))
    width, height = figure.get_size_inches()
    assert width <= 3.25
    assert height <= 9.0


def test_legends_fit_into_the_width_of_a_column(tmp_path: Path) -> None:
    """Eight lams side by side, as on a screen, would take twice the width."""
    sweeps.write_sweep(tmp_path, sweeps.LAMS, galleries=False)
    with styled("paper"):
        figure = draw_training(read_sweep(tmp_path), Layout("paper", 1))
        figure.draw_without_rendering()
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert len(legend.get_texts()) == 9  # and what a hollow marker is
        assert box.x0 >= -1.0
        assert box.x1 <= figure.bbox.width + 1.0


@pytest.mark.parametrize(
    "draw",
    [
        *(curve_figures.draw_likelihood, draw_frontier, draw_training),
        *(picture_figures.draw_samples, picture_figures.draw_latents),
    ],
)
def test_a_lam_whose_training_has_a_warning_is_marked(
    draw: Callable[..., Figure], tmp_path: Path
) -> None:
    written = sweeps.write_sweep(tmp_path, (0.0, 0.5), latent_dim=2)
    sweeps.find_run(written, 0.5)["warnings"] = ["lam has not grown"]
    (tmp_path / "sweep.json").write_text(json.dumps(written))
    texts = {text.get_text() for text in draw(read_sweep(tmp_path)).findobj(Text)}
    assert {"0.5†", "λ = 0.5†"} & texts
    assert not {"0.5", "λ = 0.5", "0†", "λ = 0†"} & texts
    assert any("† a warning of the training" in text for text in texts)


@pytest.mark.slow
def test_all_figures_are_written(tmp_path: Path) -> None:
    states = {(1.0, 1): "failed"}
    path = tmp_path / "sweep"
    sweeps.write_sweep(path, (0.0, 1.0), (0, 1), latent_dim=2, states=states, calibrations=True)
    result = plot_sweep(read_sweep(path), tmp_path / "figures" / "here")
    assert result.missing == {}
    assert {path.name for path in result.files} == {f"{name}.png" for name in FIGURES}
    with Image.open(tmp_path / "figures" / "here" / "likelihood.png") as image:
        assert image.size[0] == 1440  # 7.2 inches at 200 dots per inch
        assert len(set(np.asarray(image.convert("L")).ravel().tolist())) > 2


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Leaves a figure of curves and one of latents to draw, for what all figures share."""
    kinds = {name: FIGURES[name] for name in ("likelihood", "latents")}
    monkeypatch.setattr(figures, "FIGURES", kinds)
    return {*kinds}


@pytest.mark.slow
def test_both_formats_are_written_and_reproducible(tmp_path: Path, few_figures: set[str]) -> None:
    """In any order of the formats: a figure is laid out once."""
    sweeps.write_sweep(tmp_path / "sweep", (0.0, 1.0), latent_dim=2)
    sweep = read_sweep(tmp_path / "sweep")
    result = plot_sweep(sweep, tmp_path / "one", ("pdf", "png"))
    assert {path.name for path in result.files} == {
        f"{name}.{suffix}" for name in few_figures for suffix in ("png", "pdf")
    }
    for path in plot_sweep(sweep, tmp_path / "two", ("png", "pdf")).files:
        assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes()
    assert (tmp_path / "two" / "likelihood.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("lams", "options", "missing"),
    [
        ((0.5,), {}, {"differences", "frontier", "latents"}),
        ((0.0,), {}, {"differences", "frontier", "latents"}),
        (
            (0.0, math.inf),
            {"classify": False},
            {"accuracy", "differences", "accuracy_by_epoch", "latents"},
        ),
        (
            (0.0, -1.0),
            {"epochs": (), "galleries": False},
            {
                *("accuracy_by_epoch", "reconstructions", "samples", "entries", "latents"),
                "worst",
            },
        ),
    ],
)
def test_what_cannot_be_drawn_is_named_with_its_reason(
    lams: tuple[float, ...], options: dict[str, Any], missing: set[str], tmp_path: Path
) -> None:
    sweeps.write_sweep(tmp_path, lams, **options)
    reasons = missing_figures(read_sweep(tmp_path))
    assert reasons.keys() == {*missing, "calibration"}
    assert all(reasons.values())


def test_a_sweep_without_evaluation_or_history_still_draws_accuracy(tmp_path: Path) -> None:
    """What has data is drawn, and nothing else."""
    written = sweeps.write_sweep(tmp_path, (0.0, 1.0), galleries=False)
    for run in written["runs"]:
        run.update(evaluation=None, history=[])
    (tmp_path / "sweep.json").write_text(json.dumps(written))
    result = plot_sweep(read_sweep(tmp_path), tmp_path / "figures")
    drawn = {"accuracy", "differences", "accuracy_by_epoch"}
    assert {path.stem for path in result.files} == drawn
    assert result.missing.keys() == FIGURES.keys() - drawn


@pytest.mark.parametrize(
    ("style", "columns", "width"),
    [("paper", None, 3.25), ("paper", 1, 3.25), ("paper", 2, 6.75), ("screen", None, 7.2)],
)
def test_figures_have_the_width_of_their_columns(
    style: str, columns: int | None, width: float
) -> None:
    assert make_layout(style, columns).width == width


def test_paper_has_its_width_its_font_and_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "FIGURES", {"training": FIGURES["training"]})
    sweeps.write_sweep(tmp_path / "sweep", (0.0, 0.5), galleries=False)
    result = plot_sweep(read_sweep(tmp_path / "sweep"), tmp_path, ("pdf",), style="paper")
    pdf = (tmp_path / "training.pdf").read_bytes()
    (box,) = re.findall(rb"/MediaBox \[ 0 0 ([0-9.]+) [0-9.]+ \]", pdf)
    assert float(box) == pytest.approx(72 * 3.25)
    fonts = {*re.findall(rb"/BaseFont /(?:[A-Z]{6}\+)?(\w+)", pdf)}
    assert fonts
    assert all(font.startswith(b"STIX") for font in fonts)  # those of mathematics, too
    assert b"/Type3" not in pdf
    tables = {path.stem for path in result.files if path.suffix == ".tex"}
    assert tables == latex_tables(read_sweep(tmp_path / "sweep")).keys()
    assert (tmp_path / "likelihood.tex").read_text().startswith("% \\usepackage{booktabs}")


def test_a_style_or_a_number_of_columns_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    sweeps.write_sweep(tmp_path / "sweep", (0.0,), galleries=False)
    sweep = read_sweep(tmp_path / "sweep")
    with refused("style", "poster"):
        plot_sweep(sweep, tmp_path / "figures", style="poster")
    with refused("columns", 3):
        plot_sweep(sweep, tmp_path / "figures", columns=3)
    assert not (tmp_path / "figures").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("few_figures")
def test_style_ignores_the_users_matplotlib_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that matplotlib looks up when it draws, and those that it looks up when it saves."""
    sweeps.write_sweep(tmp_path, (0.0, 0.5), latent_dim=2)
    sweep = read_sweep(tmp_path)
    before = plot_sweep(sweep, tmp_path / "before", ("png", "pdf")).files
    for name, value in (("axes.facecolor", "black"), ("savefig.dpi", 60), ("xtick.labelsize", 20)):
        monkeypatch.setitem(matplotlib.rcParams, name, value)
    after = plot_sweep(sweep, tmp_path / "after", ("png", "pdf")).files
    assert [path.read_bytes() for path in after] == [path.read_bytes() for path in before]
    assert matplotlib.rcParams["axes.facecolor"] == "black"
    with styled():
        assert Figure().subplots().get_facecolor() == (1.0, 1.0, 1.0, 1.0)
    # TrueType; many publishers refuse Type 3.
    assert all(b"/Subtype /Type3" not in path.read_bytes() for path in after)


def test_command_prints_files_and_names_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {name: FIGURES[name] for name in ("likelihood", "differences", "latents")}
    monkeypatch.setattr(figures, "FIGURES", kinds)
    sweeps.write_sweep(tmp_path, (0.0, 0.5, 2.0), states={(0.5, 0): "failed", (2.0, 0): "pending"})
    assert runs.call("plot", str(tmp_path), "--format", "png") == 0
    captured = capsys.readouterr()
    printed = [Path(line) for line in captured.out.splitlines()]
    assert all(path.exists() for path in printed)
    assert {path.name for path in printed} == {
        path.name for path in (tmp_path / "figures").iterdir()
    }
    assert captured.err.splitlines() == [
        "Left out: lam 0.5, seed 0: failed (the objective is not finite at step 412)",
        "Left out: lam 2, seed 0: pending",
        f"Not drawn: differences: {FIGURES['differences'].needs}",
        f"Not drawn: latents: {FIGURES['latents'].needs}",
    ]
