"""The tables in LaTeX: the cells of the report, escaped."""

import dataclasses
import re
from pathlib import Path

from tests.support import sweeps
from tfp_smvi.report import tables as report_tables
from tfp_smvi.report.latex import escape_latex, format_latex, latex_tables
from tfp_smvi.report.tables import Table
from tfp_smvi.sweeps.results import Sweep, read_sweep

EVIL = r"\input{x} 50% & $5 #1 a_b {c} ~d ^e <f> |g|"


def cells(latex: str) -> list[list[str]]:
    """The cells of the rows of a tabular, as LaTeX reads them."""
    rows = [line.removesuffix(r" \\") for line in latex.splitlines() if line.endswith(r" \\")]
    return [re.split(r"(?<!\\)&", row) for row in rows]


def test_each_table_of_the_report_is_there_with_its_cells(tmp_path: Path) -> None:
    sweeps.write_sweep(tmp_path, (-0.1, 0.0, 0.5), (0, 1), galleries=False)
    sweep = read_sweep(tmp_path)
    found = latex_tables(sweep)
    assert found.keys() == {
        *("likelihood", "diagnostics", "posterior", "accuracy_rbf", "accuracy_linear"),
        "differences_rbf",
        *("differences_linear", "differences_by_epoch_rbf", "differences_by_epoch_linear"),
    }
    table = report_tables.likelihood_table(sweep)
    assert table is not None
    latex = found["likelihood"]
    expected = [[escape_latex(cell) for cell in row] for row in (table.header, *table.rows)]
    assert [[cell.strip() for cell in row] for row in cells(latex)] == expected
    assert r"\begin{tabular}{lllrrrrrrr}" in latex
    for rule in ("toprule", "midrule", "bottomrule"):
        assert latex.count(rf"\{rule}") == 1


def test_what_latex_would_take_for_commands_is_escaped() -> None:
    escaped = escape_latex(EVIL)
    assert escaped == (
        r"\textbackslash{}input\{x\} 50\% \& \$5 \#1 a\_b \{c\} \textasciitilde{}d "
        r"\textasciicircum{}e \textless{}f\textgreater{} \textbar{}g\textbar{}"
    )
    latex = format_latex(
        Table(f"two\nlines {EVIL}", ["λ", EVIL], [["∞", "\N{MINUS SIGN}1 ± 2"]], 1)
    )
    assert cells(latex) == [[r"$\lambda$ ", " " + escaped], [r"$\infty$ ", r" $-$1 $\pm$ 2"]]
    comment = [line for line in latex.splitlines() if line.startswith("%")]
    assert latex.splitlines()[: len(comment)] == comment  # the caption's line break does not end it


def test_no_table_has_a_sign_that_latex_lacks(tmp_path: Path) -> None:
    sweeps.write_sweep(tmp_path, (-0.1, 0.0, 0.5, float("inf")), (0, 1), galleries=False)
    for name, latex in latex_tables(read_sweep(tmp_path)).items():
        assert latex.isascii(), name


def test_densities_of_standardized_values_say_so(tmp_path: Path) -> None:
    sweeps.write_sweep(tmp_path, (0.0, 0.5), galleries=False)
    sweep = read_sweep(tmp_path)
    table = report_tables.likelihood_table(sweep)
    assert table is not None
    assert "standardized" not in table.caption
    runs = [
        run.changed(evaluation=dataclasses.replace(run.evaluation, log_scale={"test": -3.25}))
        for run in sweep.summary.runs
        if run.evaluation is not None
    ]
    scaled = Sweep(sweep.path, dataclasses.replace(sweep.summary, runs=tuple(runs)))
    table = report_tables.likelihood_table(scaled)
    assert table is not None
    assert "they are lower by -3.25 (test)" in table.caption
