"""Tables for notebooks."""

import html
from collections.abc import Sequence

__all__ = ["html_table"]


def html_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()
) -> str:
    """Lays out a table, which a notebook styles, and lines below it.

    Args:
        header: the heads of the columns.
        rows: the cells, as text; a short row spans the last columns with its last cell.
        notes: the lines below.
    """
    head = "".join(f"<th>{html.escape(text)}</th>" for text in header)
    lines = [f"<table><thead><tr>{head}</tr></thead><tbody>"]
    for row in rows:
        first, *cells = map(html.escape, row)
        span = f' colspan="{len(header) - len(row) + 1}"' if len(row) < len(header) else ""
        cells = [f"<td>{cell}</td>" for cell in cells[:-1]] + [f"<td{span}>{cells[-1]}</td>"]
        lines.append(f"<tr><th>{first}</th>{''.join(cells)}</tr>")
    lines.append("</tbody></table>")
    return "".join([*lines, *(f"<p>{html.escape(note)}</p>" for note in notes)])
