"""How numbers and tables read."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["align", "format_active_units", "format_estimate", "format_number"]

JSON = Mapping[str, Any]


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


def format_estimate(value: JSON) -> str:
    """Such as "-98.31 +/- 0.45"."""
    if value["mean"] is None:
        return "not finite"
    error = value["standard_error"]
    return f"{value['mean']:.3f}" + (f" +/- {error:.3f}" if error is not None else "")


def format_active_units(summary: JSON) -> str:
    """Such as "12 of 50"."""
    active = summary["active_units"]
    return f"{'?' if active is None else active} of {summary['latent_dim']}"
