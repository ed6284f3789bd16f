"""`tfp-smvi plot` and `tfp-smvi report` on sweeps that cannot be shown."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import golden, runs, sweeps
from tests.support.golden import GoldenCase
from tfp_smvi.report import figures


@pytest.fixture(autouse=True)
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves what the errors need: a figure of differences and one of galleries."""
    kinds = {name: figures.FIGURES[name] for name in ("differences", "samples")}
    monkeypatch.setattr(figures, "FIGURES", kinds)


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """Writes a sweep of two lams whose sweep.json is edited."""
    written = sweeps.write_sweep(path, (0.0, 1.0), galleries=False)
    edit(written)
    (path / "sweep.json").write_text(json.dumps(written))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file where a folder is asked for."""
    (tmp_path / "file").touch()
    return tmp_path / "file"


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    sweeps.write_sweep(tmp_path / "finished", (0.0,), galleries=False)
    return tmp_path / "finished"


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    states = {(0.0, 0): "failed", (1.0, 0): "running"}
    sweeps.write_sweep(tmp_path / "unfinished", (0.0, 1.0), states=states)
    return tmp_path / "unfinished"


@pytest.fixture
def other_format(tmp_path: Path) -> Path:
    return change(tmp_path / "other_format", lambda values: values.update(format=2))


@pytest.fixture
def without_seed(tmp_path: Path) -> Path:
    return change(tmp_path / "without_seed", lambda values: values["runs"][0].pop("seed"))


@pytest.fixture
def twice(tmp_path: Path) -> Path:
    return change(tmp_path / "twice", lambda values: values["runs"].append(values["runs"][0]))


@pytest.fixture
def unpaired(tmp_path: Path) -> Path:
    """A sweep with another number of subsets of labels at one lam."""

    def edit(values: dict[str, Any]) -> None:
        sweeps.find_result(sweeps.find_run(values, 1.0), "encoder", "rbf", 600)["values"].pop()

    return change(tmp_path / "unpaired", edit)


@pytest.fixture
def damaged_gallery(tmp_path: Path) -> Path:
    path = tmp_path / "damaged_gallery"
    sweeps.write_sweep(path, (0.0,))
    (path / "lam0-seed0" / "gallery.npz").write_bytes(b"PK nothing")
    return path


@pytest.mark.parametrize("case", [*golden.cases("plot"), *golden.cases("report")])
def test_an_error_is_worded_as_in_the_golden_file(
    case: GoldenCase, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    golden.check(case, request, capsys)


def cut(path: Path) -> None:
    text = (path / "sweep.json").read_text()
    (path / "sweep.json").write_text(text[: len(text) // 2])


@pytest.mark.parametrize("command", ["plot", "report"])
@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda path: (path / "sweep.json").write_text("[1, 2]"),
        lambda path: (path / "sweep.json").write_bytes(b"\xff\xfe\x00"),
    ],
)
def test_a_damaged_summary_is_one_line_and_changes_nothing(
    command: str,
    damage: Callable[[Path], object],
    finished: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(finished)
    before = sorted(finished.rglob("*"))
    assert "sweep.json cannot be read (" in runs.failure(capsys, command, str(finished))
    assert sorted(finished.rglob("*")) == before
