"""The tables of a sweep in LaTeX, for papers: tabulars with the rules of the package booktabs."""

import re

from tfp_smvi.report import tables as report_tables
from tfp_smvi.report.local_table import local_table
from tfp_smvi.report.posterior_table import posterior_table
from tfp_smvi.report.tables import Table
from tfp_smvi.sweeps.results import Sweep

__all__ = ["escape_latex", "format_latex", "latex_tables"]

# Signs that LaTeX takes for commands, those beyond ASCII that the tables have, and the divergences.
_ESCAPES = {
    "D_SM": r"$D_{\mathrm{SM}}$",
    "D_w": r"$D_{\mathrm{w}}$",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "λ": r"$\lambda$",
    "∞": r"$\infty$",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
    "“": "``",
    "”": "''",
    "\n": " ",
}
_SPECIAL = re.compile("|".join(map(re.escape, _ESCAPES)))


def latex_tables(sweep: Sweep) -> dict[str, str]:
    """The tables of likelihoods, accuracies and differences by the names of their files."""
    tables = {
        "likelihood": report_tables.likelihood_table(sweep),
        "diagnostics": report_tables.diagnostics_table(sweep),
        "local": local_table(sweep),
        "posterior": posterior_table(sweep),
        **{f"accuracy_{kernel}": t for kernel, t in report_tables.accuracy_tables(sweep).items()},
        **{
            f"differences_{kernel}": t
            for kernel, t in report_tables.difference_tables(sweep).items()
        },
        **{
            f"differences_by_epoch_{kernel}": t
            for kernel, t in report_tables.difference_by_epoch_tables(sweep).items()
        },
    }
    return {name: format_latex(table) for name, table in tables.items() if table}


def format_latex(table: Table) -> str:
    r"""A table as a tabular; its caption is a comment, ready to be put into \caption{}."""
    columns = "l" * table.num_names + "r" * (len(table.header) - table.num_names)
    lines = [
        r"% \usepackage{booktabs}",
        rf"% \caption{{{escape_latex(table.caption)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row(table.header),
        r"\midrule",
        *map(_row, table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """A text as LaTeX prints it, in any encoding of the document."""
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], text)


def _row(cells: list[str]) -> str:
    return " & ".join(map(escape_latex, cells)) + r" \\"
