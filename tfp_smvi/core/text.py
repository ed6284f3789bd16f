"""How numbers and tables read."""

import math
from collections.abc import Sequence

__all__ = ["align", "format_number"]


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligns the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def format_number(value: float | None) -> str:
    """Such as "0.65"."""
    return "not finite" if value is None or math.isnan(value) else f"{value:.2f}"
