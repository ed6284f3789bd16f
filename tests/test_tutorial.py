"""The tutorial runs from its first cell to its last, and is stored with what it shows."""

import faulthandler
import json
import math
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.support import notebooks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "examples" / "tutorial.ipynb"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tutorial")


@pytest.fixture(scope="module")
def executed(folder: Path, request: pytest.FixtureRequest) -> Any:
    # On a busy machine it takes longer than the limit of pyproject.toml, which ends the process;
    # each cell has a limit of its own.
    faulthandler.cancel_dump_traceback_later()
    notebook = notebooks.execute(TUTORIAL, folder)
    if request.config.getoption(notebooks.OPTION):
        notebooks.store(nbformat.from_dict(notebook), TUTORIAL, folder)
    return notebook


def read_evaluation(folder: Path, name: str) -> Any:
    return json.loads((folder / "runs" / "tutorial" / name / "evaluation.json").read_text())


@pytest.mark.timeout(900)
def test_the_cells_print_no_chatter_and_the_bars_end(executed: Any) -> None:
    """Catches TensorFlow's messages, which no setting of the tests hides here, and warnings."""
    streams = [o for o in notebooks.outputs(executed) if o.output_type == "stream"]
    assert [output.text for output in streams if output.name != "stdout"] == []
    bars = notebooks.bar_texts(executed)
    assert len(bars) == 3
    for bar in bars:
        assert bar.startswith("training: 100%"), bar
        assert "epoch 50/50, test ELBO -2" in bar


def test_a_larger_lam_has_a_smaller_gap(executed: Any, folder: Path) -> None:
    """The gaps differ by ten standard errors; catches a lam without an effect."""
    gaps = [read_evaluation(folder, f"lam{lam}")["splits"]["test"]["gap"] for lam in ("0.0", "0.3")]
    error = math.hypot(*(gap["standard_error"] for gap in gaps))
    assert gaps[0]["mean"] - gaps[1]["mean"] > 3.0 * error


def test_the_estimate_of_one_s_own_decoder_is_within_its_bracket(
    executed: Any, folder: Path
) -> None:
    """The exact mean log p(x) of the first 50 digits is 10.888 nats (docs/outside.md)."""
    found = read_evaluation(folder, "pca")
    width = found["bracket"]["width"]
    error = found["splits"]["test"]["log_likelihood"]["mean"] - 10.888
    assert -width["mean"] - 5.0 * width["standard_error"] < error < 5.0 * width["standard_error"]


def test_it_is_stored_as_it_has_run() -> None:
    """Catches outputs of another machine's paths, large ones, and cells that were run alone."""
    notebook = nbformat.read(TUTORIAL, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    found = notebooks.outputs(notebook)
    assert {output.output_type for output in found} <= {"stream", "display_data", "execute_result"}
    assert [output.text for output in found if output.get("name") == "stderr"] == []
    text = TUTORIAL.read_text(encoding="utf-8")
    assert "/tmp" not in text
    assert len(text) < 250_000
