"""The figure of the calibration: its curves are the ranks, and its band is the test."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import runs, sweeps
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.evaluation.calibration_results import CalibrationSummary
from tfp_smvi.report.calibration_figure import draw_calibration, has_calibration, read_calibrated
from tfp_smvi.report.layout import NARROW, WIDE
from tfp_smvi.report.run_figures import plot_run
from tfp_smvi.sweeps.results import Sweep, read_sweep


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("sweep") / "sweep"
    lams = (0.0, 0.01, 0.1, 0.5, 10.0)
    content = sweeps.write_sweep(path, lams, latent_dim=3, galleries=False, calibrations=True)
    return path, content


@pytest.fixture
def run_dir(written: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """An evaluated run by itself."""
    path, content = written
    entry = content["runs"][0]
    (tmp_path / "run").mkdir()
    npz = (path / entry["run_dir"] / "evaluation.npz").read_bytes()
    (tmp_path / "run" / "evaluation.npz").write_bytes(npz)
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(entry["evaluation"]))
    return tmp_path / "run"


def test_a_curve_leaves_the_band_if_and_only_if_its_latent_is_rejected(
    written: tuple[Path, dict[str, Any]],
) -> None:
    """Of q too narrow some latents are, of the posterior none, as the test says."""
    path, content = written
    rejected = 0
    for entry in content["runs"]:
        summary = CalibrationSummary.from_json(entry["evaluation"]["calibration"])
        file = path / entry["run_dir"] / "evaluation.npz"
        curves = read_calibrated("a", file, summary)
        with np.load(file) as arrays:
            ranks = arrays["calibration_ranks"]
        for name, curve in curves.latents.items():
            expected = [np.mean(ranks[:, int(name)] < place) - place / 80 for place in range(81)]
            np.testing.assert_allclose(curve, expected, atol=1e-12)
            inside = np.all((curves.low <= curve + 1e-12) & (curve <= curves.high + 1e-12))
            assert inside == (name not in summary.rejected)
            rejected += not inside
    assert 0 < rejected < 3 * len(content["runs"])


def test_four_levels_from_the_first_to_the_last_have_panels_with_one_scale(
    written: tuple[Path, dict[str, Any]],
) -> None:
    sweep = read_sweep(written[0])
    for layout, rows in ((WIDE, 2), (NARROW, 4)):
        figure = draw_calibration(sweep, layout)
        titles = [axes.get_title(loc="left") for axes in figure.axes]
        assert [title.partition(":")[0] for title in titles] == [
            *("λ = 0", "λ = 0.01", "λ = 0.5", "λ = 10"),
        ]
        assert "of 3 latents outside" in titles[0]
        assert len({axes.get_ylim() for axes in figure.axes}) == 1
        assert figure.axes[0].get_subplotspec().get_gridspec().nrows == rows


def test_older_results_have_no_figure(written: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, _ = written
    content = json.loads((path / "sweep.json").read_text())
    assert has_calibration(read_sweep(path))
    for entry in content["runs"]:
        del entry["evaluation"]["calibration"]
    (tmp_path / "sweep.json").write_text(json.dumps(content))
    assert not has_calibration(read_sweep(tmp_path))
    # Nor has a sweep whose runs were not copied.
    assert not has_calibration(Sweep(tmp_path, read_sweep(path).summary))


def test_a_run_is_plotted_by_itself(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.call("plot", str(run_dir), "--format", "png") == 0
    (printed,) = capsys.readouterr().out.split()
    assert printed == str(run_dir / "figures" / "calibration.png")
    assert Path(printed).read_bytes().startswith(b"\x89PNG")


def test_a_run_whose_files_are_damaged_or_lack_ranks_is_named(run_dir: Path) -> None:
    file, values = run_dir / "evaluation.json", run_dir / "evaluation.npz"
    values.write_bytes(values.read_bytes()[:100])
    with pytest.raises(SMVIError, match=r"evaluation\.npz cannot be read") as caught:
        plot_run(run_dir, run_dir)
    assert str(file) in str(caught.value.remedy)
    content = json.loads(file.read_text())
    del content["calibration"]
    file.write_text(json.dumps(content))
    with pytest.raises(SMVIError, match="has no calibration"):
        plot_run(run_dir, run_dir)
    file.write_text("{")
    with pytest.raises(SMVIError, match=r"evaluation\.json cannot be read"):
        plot_run(run_dir, run_dir)
