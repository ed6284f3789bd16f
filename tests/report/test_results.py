"""The figures in results/: they can be drawn again, and journals accept them."""

from pathlib import Path

import pytest

from tfp_smvi.report.figure_kinds import FIGURES
from tfp_smvi.report.figures import missing_figures
from tfp_smvi.sweeps.results import read_sweep

RESULTS = Path(__file__).parents[2] / "results"


def test_no_pdf_has_fonts_that_publishers_refuse() -> None:
    files = sorted(RESULTS.rglob("*.pdf"))
    assert files
    for path in files:
        content = path.read_bytes()
        assert b"/Subtype /Type3" not in content, path
        assert b"/FontFile2" in content, path  # TrueType, inside the file


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_all_figures_can_be_drawn_again_and_are_there(suffix: str) -> None:
    sweep = RESULTS / "mnist"
    drawn = FIGURES.keys() - missing_figures(read_sweep(sweep)).keys()
    # The models have 50 latents, x are images, and the evaluations are older.
    newer = {"calibration", "moments", "worst"}
    assert drawn == FIGURES.keys() - {"latents", "entries"} - newer
    assert {path.stem for path in (sweep / "figures").glob(f"*.{suffix}")} == drawn
